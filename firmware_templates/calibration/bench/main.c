/* The benchmark: each phase once, asleep before, between and after. A power meter sees the pin high during a
 * phase; the serial line tells, in the middle of the sleep that follows, how many cycles it took. */
#include "board.h"
#include "phases.h"
#include "schedule.h"

/* Decimal digits of a number, with a zero byte; returns where they begin. */
static const char *digits(uint32_t value, char text[11])
{
    char *first = &text[10];
    *first = '\0';
    do {
        *--first = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    return first;
}

static void print_number(const char *before, uint32_t value)
{
    char text[11];
    rct_board_print(before);
    rct_board_print(digits(value, text));
}

static void tell(uint32_t phase, bool done, uint32_t cycles)
{
    rct_board_print("rct phase ");
    rct_board_print(rct_phase_names[phase]);
    print_number(" iterations ", iterations[phase]);
    print_number(" cycles ", RCT_CYCLES_FIT(phase) ? cycles : 0u);
    rct_board_print(done ? "\r\n" : " failed\r\n");
}

int main(void)
{
    rct_board_init();
    rct_phases_prepare();
    print_number("rct calibration clock_hz ", RCT_CLOCK_HZ);
    rct_board_print("\r\n");
    rct_board_sleep_ms(RCT_SLEEP_MS);
    for (uint32_t phase = 0; phase < RCT_PHASES; phase++) {
        if (iterations[phase] == 0u) {
            continue; /* not in this schedule */
        }
        const uint32_t before = rct_board_cycles();
        rct_board_mark(true);
        const bool done = rct_phase_run(phase, iterations[phase]);
        rct_board_mark(false);
        const uint32_t cycles = rct_board_cycles() - before;
        rct_board_sleep_ms(RCT_SLEEP_MS / 2u);
        tell(phase, done, cycles);
        rct_board_sleep_ms(RCT_SLEEP_MS / 2u);
    }
    rct_board_print("rct calibration done\r\n");
    for (;;) {
        rct_board_sleep_ms(RCT_SLEEP_MS);
    }
}
