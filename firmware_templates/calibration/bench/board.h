/* What the benchmark needs of a board: board/board.c has it, and board/port.h what boards differ in. */
#ifndef RCT_BOARD_H
#define RCT_BOARD_H

#include <stdbool.h>
#include <stdint.h>

/* Sets the clock and the flash, makes the mark's pin an output, opens the serial line. */
void rct_board_init(void);

/* Drives the pin that tells a power meter when a phase runs. */
void rct_board_mark(bool high);

/* Waits with the core asleep. */
void rct_board_sleep_ms(uint32_t milliseconds);

/* Sends text that ends with a zero byte over the serial line, and waits until it is out. */
void rct_board_print(const char *text);

/* Clock cycles so far, modulo 2**32; always 0 on a core without a counter. */
uint32_t rct_board_cycles(void);

/* Erases, or writes, the unused part of the flash once: RCT_FLASH_BYTES bytes. Returns false if it cannot. */
bool rct_board_flash_erase(void);
bool rct_board_flash_write(void);

#endif
