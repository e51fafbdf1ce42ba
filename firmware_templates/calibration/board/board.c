/* The board: what every Cortex-M has, sleep and cycle counter; a Cortex-M0+ has no cycle counter. The rest is
 * in port.h.
 */
#include "board.h"
#include "schedule.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#include "port.h"

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
    port_init();
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
    port_mark(high);
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
    for (; *text != '\0'; text++) {
        port_send((uint8_t)*text);
    }
    port_drain();
}

uint32_t rct_board_cycles(void)
{
#ifdef RCT_HAS_CYCLE_COUNTER
    return DWT_CYCCNT;
#else
    return 0u;
#endif
}

bool rct_board_flash_erase(void)
{
    return port_flash_erase();
}

bool rct_board_flash_write(void)
{
    return port_flash_write();
}
