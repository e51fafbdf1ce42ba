/* Start-up of a RISC-V core in machine mode: stack, .data and .bss, main(). The linker script and the byte
 * stream are those of ports/cortex-m. */
#include "semihosting.h"

#include <stdint.h>

/* Linker script. */
extern const uint32_t rct_data_load[];
extern uint32_t rct_data_start[], rct_data_end[];
extern uint32_t rct_bss_start[], rct_bss_end[];

int main(void);

/* Called by rct_reset() on the new stack. */
__attribute__((used, noreturn)) void rct_start(void)
{
    const uint32_t *source = rct_data_load;
    for (uint32_t *word = rct_data_start; word < rct_data_end; word++) {
        *word = *source++;
    }
    for (uint32_t *word = rct_bss_start; word < rct_bss_end; word++) {
        *word = 0u;
    }
    rct_semihosting_exit(RCT_STOPPED_EXIT, (uint32_t)main());
}

__attribute__((naked, section(".vectors"))) void rct_reset(void)
{
    __asm volatile("la sp, rct_stack_top\n\t"
                   "j rct_start");
}
