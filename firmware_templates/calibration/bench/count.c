/* For the emulator, which counts the instructions of one phase: reads its number and how often to repeat it.
 */
#include "board.h"
#include "phases.h"
#include "rct_port.h"

int main(void)
{
    uint8_t request[2];
    if (!rct_port_read(request, sizeof request)) {
        return 1;
    }
    rct_phases_prepare();
    return rct_phase_run(request[0], request[1]) ? 0 : 1;
}

/* What writing a flash costs is measured on the board; the loop around it is counted here. */
bool rct_board_flash_erase(void)
{
    return true;
}

bool rct_board_flash_write(void)
{
    return true;
}
