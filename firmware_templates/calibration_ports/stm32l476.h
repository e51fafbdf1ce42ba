/* STM32L476 (NUCLEO-L476RG) at 80 MHz from the MSI and the PLL. Compiled, not run. */
#ifndef RCT_PORT_OF_BOARD_H
#define RCT_PORT_OF_BOARD_H

#define PORT_GPIOA             0x48000000u
#define PORT_GPIO_CLOCK        REGISTER(0x4002104Cu) /* RCC_AHB2ENR */
#define PORT_USART_CLOCK       REGISTER(0x40021058u) /* RCC_APB1ENR1 */
#define PORT_SERIAL_FUNCTION   7u
#define PORT_FLASH_BUSY        (1u << 16)
#define PORT_FLASH_PAGE_NUMBER 255u /* the last of bank 1 */
#define PORT_FLASH_PLACE       0x0807F800u

#define RCC_CR            REGISTER(0x40021000u)
#define RCC_CFGR          REGISTER(0x40021008u)
#define RCC_PLLCFGR       REGISTER(0x4002100Cu)
#define FLASH_ACR         REGISTER(0x40022000u)
#define RCC_PLLON         (1u << 24)
#define RCC_PLLRDY        (1u << 25)
#define PLL_FROM_MSI      1u                                  /* 4 MHz after a reset */
#define PLL_TIMES_40_BY_2 (40u << 8 | 1u << 24)               /* N and the output R */
#define CACHES_4_WAITS    (1u << 10 | 1u << 9 | 1u << 8 | 4u) /* data, instructions, prefetch */
#define CLOCK_FROM_PLL    3u

static inline void port_set_clock(void)
{
    FLASH_ACR = CACHES_4_WAITS;
    RCC_PLLCFGR = PLL_FROM_MSI | PLL_TIMES_40_BY_2;
    RCC_CR |= RCC_PLLON;
    while ((RCC_CR & RCC_PLLRDY) == 0u) {
    }
    RCC_CFGR = CLOCK_FROM_PLL;
    while ((RCC_CFGR >> 2 & 3u) != CLOCK_FROM_PLL) {
    }
}

#include "stm32.h"

#endif
