/* No bound: how often down() calls itself is only known when it runs. */
#include "rct_port.h"

static volatile int rounds = 3;

__attribute__((noinline)) int down(int depth)
{
    volatile uint8_t used[16] = {0};
    return depth == 0 ? used[3] : down(depth - 1) + used[5] + 1;
}

int main(void)
{
    return down(rounds);
}
