/* The board. Set the registers below and fill rct_board_init(); what stays 0 is left out.
 *
 * Sleep and cycle counter are the core's own and work on every Cortex-M; a Cortex-M0+ has no cycle counter.
 */
#include "board.h"
#include "schedule.h"

/* The mark: a register that sets and clears a pin, such as GPIOx_BSRR of an STM32. */
#ifndef MARK_REGISTER
    #define MARK_REGISTER 0u
    #define MARK_HIGH     0u
    #define MARK_LOW      0u
#endif

/* The serial line: where a byte is written, where its state is read, the bits that say "ready" and "all out".
 */
#ifndef SERIAL_DATA_REGISTER
    #define SERIAL_DATA_REGISTER  0u
    #define SERIAL_STATE_REGISTER 0u
    #define SERIAL_READY          0u
    #define SERIAL_ALL_OUT        0u
#endif

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Armv6-M, Armv7-M and Armv8-M. */
#define SYST_CSR     REGISTER(0xE000E010u)
#define SYST_RVR     REGISTER(0xE000E014u)
#define SYST_CVR     REGISTER(0xE000E018u)
#define SCB_ICSR     REGISTER(0xE000ED04u)
#define ICSR_CLEAR   (1u << 25)
#define COUNT        7u /* enabled, with interrupt, from the core's clock */
#define DEMCR        REGISTER(0xE000EDFCu)
#define DEMCR_TRACE  (1u << 24)
#define DWT_CTRL     REGISTER(0xE0001000u)
#define DWT_CYCCNT   REGISTER(0xE0001004u)
#define TICKS_PER_MS (RCT_CLOCK_HZ / 1000u)

void rct_board_init(void)
{
    /* Here: core clock RCT_CLOCK_HZ, flash wait states, caches, the pin of the mark, the serial line. */
#ifdef RCT_HAS_CYCLE_COUNTER
    DEMCR |= DEMCR_TRACE;
    DWT_CTRL |= 1u;
#endif
    /* A masked interrupt still ends the sleep, and needs no handler. */
    __asm volatile("cpsid i" ::: "memory");
    SYST_RVR = TICKS_PER_MS - 1u;
    SYST_CVR = 0u;
    SYST_CSR = COUNT;
}

void rct_board_mark(bool high)
{
    if (MARK_REGISTER != 0u) {
        REGISTER(MARK_REGISTER) = high ? MARK_HIGH : MARK_LOW;
    }
}

void rct_board_sleep_ms(uint32_t milliseconds)
{
    SYST_CVR = 0u;
    SCB_ICSR = ICSR_CLEAR;
    for (uint32_t i = 0; i < milliseconds; i++) {
        __asm volatile("dsb\n\twfi\n\tisb" ::: "memory");
        SCB_ICSR = ICSR_CLEAR;
    }
}

void rct_board_print(const char *text)
{
    if (SERIAL_DATA_REGISTER == 0u) {
        return;
    }
    for (; *text != '\0'; text++) {
        while ((REGISTER(SERIAL_STATE_REGISTER) & SERIAL_READY) == 0u) {
        }
        REGISTER(SERIAL_DATA_REGISTER) = (uint8_t)*text;
    }
    while ((REGISTER(SERIAL_STATE_REGISTER) & SERIAL_ALL_OUT) == 0u) {
    }
}

uint32_t rct_board_cycles(void)
{
#ifdef RCT_HAS_CYCLE_COUNTER
    return DWT_CYCCNT;
#else
    return 0u;
#endif
}

/* Here: erase RCT_FLASH_BYTES bytes that the program does not use, and return true. */
bool rct_board_flash_erase(void)
{
    return false;
}

/* Here: write as many bytes there, and return true. */
bool rct_board_flash_write(void)
{
    return false;
}
