/* nRF52840 (nRF52840 DK) at 64 MHz from the crystal, with the DC/DC converter and the instruction cache.
 *
 * Mark: P1.01 (D0 of the DK). Serial line: P0.06, the DK's own, 115200 baud. Written from the product
 * specification; compiled, not run.
 */
#ifndef RCT_PORT_OF_BOARD_H
#define RCT_PORT_OF_BOARD_H

#define MARK_PIN   1u
#define SERIAL_PIN 6u

#define CLOCK_HFCLKSTART   REGISTER(0x40000000u)
#define CLOCK_HFCLKSTARTED REGISTER(0x40000100u)
#define POWER_DCDCEN       REGISTER(0x40000578u)
#define P0_DIRSET          REGISTER(0x50000518u)
#define P0_OUTSET          REGISTER(0x50000508u)
#define P1_OUTSET          REGISTER(0x50000808u)
#define P1_OUTCLR          REGISTER(0x5000080Cu)
#define P1_DIRSET          REGISTER(0x50000818u)
#define UART_STARTTX       REGISTER(0x40002008u)
#define UART_TXDRDY        REGISTER(0x4000211Cu)
#define UART_ENABLE        REGISTER(0x40002500u)
#define UART_PSEL_TXD      REGISTER(0x4000250Cu)
#define UART_TXD           REGISTER(0x4000251Cu)
#define UART_BAUDRATE      REGISTER(0x40002524u)
#define UART_ENABLED       4u
#define BAUD_115200        0x01D7E000u
#define NVMC_READY         REGISTER(0x4001E400u)
#define NVMC_CONFIG        REGISTER(0x4001E504u)
#define NVMC_ERASEPAGE     REGISTER(0x4001E508u)
#define NVMC_ICACHECNF     REGISTER(0x4001E540u)
#define NVMC_READ_ONLY     0u
#define NVMC_WRITE         1u
#define NVMC_ERASE         2u
#define FLASH_PLACE        0x000FF000u /* the last page */

static inline void port_init(void)
{
    POWER_DCDCEN = 1u;
    NVMC_ICACHECNF = 1u;
    CLOCK_HFCLKSTARTED = 0u;
    CLOCK_HFCLKSTART = 1u;
    while (CLOCK_HFCLKSTARTED == 0u) {
    }
    P1_DIRSET = 1u << MARK_PIN;
    P0_OUTSET = 1u << SERIAL_PIN;
    P0_DIRSET = 1u << SERIAL_PIN;
    UART_PSEL_TXD = SERIAL_PIN;
    UART_BAUDRATE = BAUD_115200;
    UART_ENABLE = UART_ENABLED;
    UART_STARTTX = 1u;
}

static inline void port_mark(bool high)
{
    if (high) {
        P1_OUTSET = 1u << MARK_PIN;
    } else {
        P1_OUTCLR = 1u << MARK_PIN;
    }
}

static inline void port_send(uint8_t byte)
{
    UART_TXDRDY = 0u;
    UART_TXD = byte;
    while (UART_TXDRDY == 0u) {
    }
}

static inline void port_drain(void)
{
}

static inline void port_flash_wait(void)
{
    while ((NVMC_READY & 1u) == 0u) {
    }
}

static inline bool port_flash_erase(void)
{
    NVMC_CONFIG = NVMC_ERASE;
    NVMC_ERASEPAGE = FLASH_PLACE;
    port_flash_wait();
    NVMC_CONFIG = NVMC_READ_ONLY;
    return true;
}

static inline bool port_flash_write(void)
{
    NVMC_CONFIG = NVMC_WRITE;
    for (uint32_t place = 0; place < RCT_FLASH_BYTES; place += 4u) {
        REGISTER(FLASH_PLACE + place) = 0x5AA55AA5u;
        port_flash_wait();
    }
    NVMC_CONFIG = NVMC_READ_ONLY;
    return true;
}

#endif
