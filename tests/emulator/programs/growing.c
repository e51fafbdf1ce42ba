/* No bound: the size of a frame is only known when it runs. */
#include "rct_port.h"

static volatile uint32_t size = 40u;

__attribute__((noinline)) int fill(uint32_t count)
{
    volatile uint8_t bytes[count];
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)i;
    }
    return bytes[count / 2u];
}

int main(void)
{
    return fill(size);
}
