/* Boundary between the application and the board: one stream of bytes each way, and text for a human.
 *
 * An application includes this header alone and defines `int main(void)`. A port implements the three
 * functions below; its start-up code sets up memory, calls main() and ends the program with the value that
 * main() returns. Of that value the host sees the lowest 8 bits: return 0 for success and 1 to 255 for a
 * failure. A board that has nobody to return to stops there.
 *
 * Ports that come with the project:
 *   ports/cortex-m  Arm semihosting: the stream is the files request.bin and response.bin in the working
 *                   directory of the emulator or debugger, and text goes to its console.
 *   ports/host      a program on the PC: the stream is stdin and stdout, and text goes to stderr.
 *
 * A port of your own: read and write block until all bytes are through, and nothing is allocated. What was
 * written has left the device when rct_port_read() waits again or main() returns. The functions are called
 * from main() only, never from an interrupt.
 */
#ifndef RCT_PORT_H
#define RCT_PORT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads exactly `size` bytes into `data`, and waits for them.
 *
 * Returns false at the end of the stream: fewer than `size` bytes were left, and `data` begins with those.
 * A size of 0 reads nothing and returns true. */
bool rct_port_read(void *data, uint32_t size);

/* Writes `size` bytes of `data`. Returns false if the other end does not take them. */
bool rct_port_write(const void *data, uint32_t size);

/* Prints text that ends with a zero byte, for a human. Adds no newline; the byte stream is another channel.
 */
void rct_port_print(const char *text);

#ifdef __cplusplus
}
#endif

#endif /* RCT_PORT_H */
