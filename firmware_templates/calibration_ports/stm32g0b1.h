/* STM32G0B1 (NUCLEO-G0B1RE) at 64 MHz from the HSI16 and the PLL. Compiled, not run. */
#ifndef RCT_PORT_OF_BOARD_H
#define RCT_PORT_OF_BOARD_H

#define PORT_GPIOA             0x50000000u
#define PORT_GPIO_CLOCK        REGISTER(0x40021034u) /* RCC_IOPENR */
#define PORT_USART_CLOCK       REGISTER(0x4002103Cu) /* RCC_APBENR1 */
#define PORT_SERIAL_FUNCTION   1u
#define PORT_FLASH_BUSY        (7u << 16) /* of both banks, and of the settings */
#define PORT_FLASH_PAGE_NUMBER 127u       /* the last of bank 1 */
#define PORT_FLASH_PLACE       0x0803F800u

#define RCC_CR           REGISTER(0x40021000u)
#define RCC_CFGR         REGISTER(0x40021008u)
#define RCC_PLLCFGR      REGISTER(0x4002100Cu)
#define FLASH_ACR        REGISTER(0x40022000u)
#define RCC_PLLON        (1u << 24)
#define RCC_PLLRDY       (1u << 25)
#define PLL_FROM_HSI     2u
#define PLL_TIMES_8_BY_2 (8u << 8 | 1u << 28 | 1u << 29)     /* N, the output R, its divider */
#define CACHE_2_WAITS    (1u << 18 | 1u << 9 | 1u << 8 | 2u) /* debugger allowed, instructions, prefetch */
#define CLOCK_FROM_PLL   2u

static inline void port_set_clock(void)
{
    FLASH_ACR = CACHE_2_WAITS;
    while ((FLASH_ACR & 7u) != 2u) {
    }
    RCC_PLLCFGR = PLL_FROM_HSI | PLL_TIMES_8_BY_2;
    RCC_CR |= RCC_PLLON;
    while ((RCC_CR & RCC_PLLRDY) == 0u) {
    }
    RCC_CFGR = CLOCK_FROM_PLL;
    while ((RCC_CFGR >> 3 & 7u) != CLOCK_FROM_PLL) {
    }
}

#include "stm32.h"

#endif
