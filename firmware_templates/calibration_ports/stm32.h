/* What the STM32 of this folder share: a pin, a USART, a flash of pages that is written 64 bits at a time.
 *
 * The file that includes it names the registers that differ. Mark: PA8 (D7 of a Nucleo-64). Serial line:
 * USART2 on PA2, the Nucleo's own, 115200 baud. Written from the reference manuals; compiled, not run.
 */
#ifndef RCT_PORT_STM32_H
#define RCT_PORT_STM32_H

#define MARK_PIN   8u
#define SERIAL_PIN 2u
#define BAUD       115200u

#define GPIOA_MODER REGISTER(PORT_GPIOA)
#define GPIOA_BSRR  REGISTER(PORT_GPIOA + 0x18u)
#define GPIOA_AFRL  REGISTER(PORT_GPIOA + 0x20u)
#define MODE_OUTPUT 1u
#define MODE_OTHER  2u

#define USART2_CR1     REGISTER(0x40004400u)
#define USART2_BRR     REGISTER(0x4000440Cu)
#define USART2_ISR     REGISTER(0x4000441Cu)
#define USART2_TDR     REGISTER(0x40004428u)
#define USART_ENABLE   9u /* UE and TE */
#define USART_ALL_OUT  (1u << 6)
#define USART_READY    (1u << 7)
#define USART2_ENABLED (1u << 17) /* of RCC */

#define FLASH_KEYR   REGISTER(0x40022008u)
#define FLASH_SR     REGISTER(0x40022010u)
#define FLASH_CR     REGISTER(0x40022014u)
#define FLASH_ERRORS 0xFAu
#define FLASH_PG     1u
#define FLASH_PER    2u
#define FLASH_PAGE   3u /* first bit of the page's number */
#define FLASH_STRT   (1u << 16)
#define FLASH_LOCK   (1u << 31)

static inline void port_set(volatile uint32_t *fields, uint32_t place, uint32_t width, uint32_t value)
{
    const uint32_t mask = ((1u << width) - 1u) << (place * width);
    *fields = (*fields & ~mask) | value << (place * width);
}

static inline void port_init(void)
{
    port_set_clock();
    PORT_GPIO_CLOCK |= 1u;
    PORT_USART_CLOCK |= USART2_ENABLED;
    (void)PORT_USART_CLOCK; /* waits until both clocks run */
    port_set(&GPIOA_MODER, MARK_PIN, 2u, MODE_OUTPUT);
    port_set(&GPIOA_AFRL, SERIAL_PIN, 4u, PORT_SERIAL_FUNCTION);
    port_set(&GPIOA_MODER, SERIAL_PIN, 2u, MODE_OTHER);
    USART2_BRR = (RCT_CLOCK_HZ + BAUD / 2u) / BAUD;
    USART2_CR1 = USART_ENABLE;
}

static inline void port_mark(bool high)
{
    GPIOA_BSRR = 1u << (high ? MARK_PIN : MARK_PIN + 16u);
}

static inline void port_send(uint8_t byte)
{
    while ((USART2_ISR & USART_READY) == 0u) {
    }
    USART2_TDR = byte;
}

static inline void port_drain(void)
{
    while ((USART2_ISR & USART_ALL_OUT) == 0u) {
    }
}

/* Opens the flash for what `control` says; the errors of before are cleared. */
static inline void port_flash_open(uint32_t control)
{
    while ((FLASH_SR & PORT_FLASH_BUSY) != 0u) {
    }
    FLASH_SR = FLASH_ERRORS;
    if ((FLASH_CR & FLASH_LOCK) != 0u) {
        FLASH_KEYR = 0x45670123u;
        FLASH_KEYR = 0xCDEF89ABu;
    }
    FLASH_CR = control;
}

static inline bool port_flash_close(void)
{
    while ((FLASH_SR & PORT_FLASH_BUSY) != 0u) {
    }
    const bool is_good = (FLASH_SR & FLASH_ERRORS) == 0u;
    FLASH_CR = FLASH_LOCK;
    return is_good;
}

static inline bool port_flash_erase(void)
{
    port_flash_open(FLASH_PER | PORT_FLASH_PAGE_NUMBER << FLASH_PAGE);
    FLASH_CR |= FLASH_STRT;
    return port_flash_close();
}

static inline bool port_flash_write(void)
{
    port_flash_open(FLASH_PG);
    for (uint32_t place = 0; place < RCT_FLASH_BYTES; place += 8u) {
        REGISTER(PORT_FLASH_PLACE + place) = 0x5AA55AA5u; /* a double word is two writes */
        REGISTER(PORT_FLASH_PLACE + place + 4u) = 0x12345678u;
        while ((FLASH_SR & PORT_FLASH_BUSY) != 0u) {
        }
    }
    return port_flash_close();
}

#endif
