/* Your board: the clock, the mark, the serial line, the flash. What stays as it is here is left out. */
#ifndef RCT_PORT_OF_BOARD_H
#define RCT_PORT_OF_BOARD_H

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

static inline void port_init(void)
{
    /* Here: core clock RCT_CLOCK_HZ, flash wait states, caches, the pin of the mark, the serial line. */
}

static inline void port_mark(bool high)
{
    if (MARK_REGISTER != 0u) {
        REGISTER(MARK_REGISTER) = high ? MARK_HIGH : MARK_LOW;
    }
}

static inline void port_send(uint8_t byte)
{
    if (SERIAL_DATA_REGISTER != 0u) {
        while ((REGISTER(SERIAL_STATE_REGISTER) & SERIAL_READY) == 0u) {
        }
        REGISTER(SERIAL_DATA_REGISTER) = byte;
    }
}

static inline void port_drain(void)
{
    if (SERIAL_DATA_REGISTER != 0u) {
        while ((REGISTER(SERIAL_STATE_REGISTER) & SERIAL_ALL_OUT) == 0u) {
        }
    }
}

/* Here: erase RCT_FLASH_BYTES bytes that the program does not use, and return true. */
static inline bool port_flash_erase(void)
{
    return false;
}

/* Here: write as many bytes there, and return true. */
static inline bool port_flash_write(void)
{
    return false;
}

#endif
