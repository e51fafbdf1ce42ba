/* rct_port.h by semihosting, Arm's and RISC-V's, which took over Arm's operations: reads request.bin, writes
 * response.bin, opens each when first used. */
#include "rct_port.h"
#include "semihosting.h"

#include <stddef.h>

/* Operation numbers of Arm's semihosting specification. */
#define SYS_OPEN          0x01u
#define SYS_WRITE0        0x04u
#define SYS_WRITE         0x05u
#define SYS_READ          0x06u
#define SYS_EXIT_EXTENDED 0x20u

/* File modes of SYS_OPEN, as those of fopen(). */
#define MODE_RB 1u
#define MODE_WB 5u

/* An index into `streams`. */
enum { REQUEST, RESPONSE };

typedef struct {
    const char *name;
    uint32_t name_length;
    uint32_t mode;
    int32_t handle; /* -1 until the file is open */
} stream_t;

static stream_t streams[] = {
    {"request.bin", sizeof("request.bin") - 1u, MODE_RB, -1},
    {"response.bin", sizeof("response.bin") - 1u, MODE_WB, -1},
};

/* One call of the debugger or emulator: `argument` points to a block of words, or to text. */
static int32_t call(uint32_t operation, const void *argument)
{
#ifdef __riscv
    register uint32_t a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".balign 16\n\t" /* the three lie in one page */
                   ".option push\n\t"
                   ".option norvc\n\t"
                   "slli x0, x0, 31\n\t"
                   "ebreak\n\t"
                   "srai x0, x0, 7\n\t"
                   ".option pop"
                   : "+r"(a0)
                   : "r"(a1)
                   : "memory");
    return (int32_t)a0;
#else
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
#endif
}

static bool open_stream(stream_t *stream)
{
    if (stream->handle < 0) {
        const uint32_t block[3] = {(uint32_t)(uintptr_t)stream->name, stream->mode, stream->name_length};
        stream->handle = call(SYS_OPEN, block);
    }
    return stream->handle >= 0;
}

/* Moves `size` bytes by SYS_READ or SYS_WRITE, which return the number of bytes that they left. */
static bool transfer(stream_t *stream, uint32_t operation, uint32_t address, uint32_t size)
{
    if (!open_stream(stream)) {
        return false;
    }
    while (size > 0u) {
        const uint32_t block[3] = {(uint32_t)stream->handle, address, size};
        const uint32_t left = (uint32_t)call(operation, block);
        if (left >= size) {
            return false;
        }
        address += size - left;
        size = left;
    }
    return true;
}

bool rct_port_read(void *data, uint32_t size)
{
    return transfer(&streams[REQUEST], SYS_READ, (uint32_t)(uintptr_t)data, size);
}

bool rct_port_write(const void *data, uint32_t size)
{
    return transfer(&streams[RESPONSE], SYS_WRITE, (uint32_t)(uintptr_t)data, size);
}

void rct_port_print(const char *text)
{
    (void)call(SYS_WRITE0, text);
}

__attribute__((noreturn)) void rct_semihosting_exit(uint32_t reason, uint32_t code)
{
    const uint32_t block[2] = {reason, code};
    for (;;) {
        (void)call(SYS_EXIT_EXTENDED, block);
    }
}
