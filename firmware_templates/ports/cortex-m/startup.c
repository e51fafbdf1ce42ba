/* Start-up of a Cortex-M: vector table, .data and .bss, main(), and a report when the core faults. */
#include "rct_port.h"
#include "semihosting.h"

#include <stdint.h>

/* Exit value of a fault where the debugger passes it on; emulators recognise the text instead. */
#define FAULT_EXIT_CODE 255u

/* System control block. */
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CPACR_FPU (0xFu << 20) /* full access to CP10 and CP11 */

/* Place of the program counter in the frame of 8 words that an exception pushes. */
#define FRAME_PC 6

/* Linker script. */
extern const uint32_t rct_data_load[];
extern uint32_t rct_data_start[], rct_data_end[];
extern uint32_t rct_bss_start[], rct_bss_end[];
extern uint32_t rct_stack_top[];

int main(void);

__attribute__((noreturn)) void rct_reset(void)
{
    const uint32_t *source = rct_data_load;
    for (uint32_t *word = rct_data_start; word < rct_data_end; word++) {
        *word = *source++;
    }
    for (uint32_t *word = rct_bss_start; word < rct_bss_end; word++) {
        *word = 0u;
    }
#ifdef __ARM_FP
    SCB_CPACR |= CPACR_FPU;
    __asm volatile("dsb\n\tisb" ::: "memory");
#endif
    rct_semihosting_exit(RCT_STOPPED_EXIT, (uint32_t)main());
}

static void print_hex(uint32_t value)
{
    char text[11] = "0x00000000";
    for (int digit = 9; digit >= 2; digit--) {
        text[digit] = "0123456789abcdef"[value & 15u];
        value >>= 4;
    }
    rct_port_print(text);
}

/* Called by rct_exception() with what the core pushed. */
__attribute__((used, noreturn)) void rct_report_fault(const uint32_t *frame, uint32_t exception)
{
    rct_port_print("rct fault: exception ");
    print_hex(exception);
    rct_port_print(" at pc ");
    print_hex(frame[FRAME_PC]);
    rct_port_print("\n");
    rct_semihosting_exit(RCT_STOPPED_FAULT, FAULT_EXIT_CODE);
}

/* Every exception but reset: nothing here enables one, so each is a fault. */
__attribute__((naked)) static void rct_exception(void)
{
    __asm volatile("mov r0, sp\n\t"
                   "mrs r1, ipsr\n\t"
                   "bl rct_report_fault");
}

/* An entry of the vector table. */
typedef union {
    const void *stack;
    void (*handler)(void);
} vector_t;

/* The initial stack pointer, reset, and the 14 system exceptions. */
__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    {.stack = rct_stack_top},   {.handler = rct_reset},     {.handler = rct_exception},
    {.handler = rct_exception}, {.handler = rct_exception}, {.handler = rct_exception},
    {.handler = rct_exception}, {.handler = rct_exception}, {.handler = rct_exception},
    {.handler = rct_exception}, {.handler = rct_exception}, {.handler = rct_exception},
    {.handler = rct_exception}, {.handler = rct_exception}, {.handler = rct_exception},
    {.handler = rct_exception},
};
