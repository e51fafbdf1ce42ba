/* Port for a program on the PC: the byte stream is stdin and stdout, text goes to stderr. */
#include "rct_port.h"

#include <stdio.h>

bool rct_port_read(void *data, uint32_t size)
{
    /* Who sends the next request may be waiting for the last response. */
    if (fflush(stdout) != 0) {
        return false;
    }
    return fread(data, 1, size, stdin) == size;
}

bool rct_port_write(const void *data, uint32_t size)
{
    return fwrite(data, 1, size, stdout) == size;
}

void rct_port_print(const char *text)
{
    (void)fputs(text, stderr);
}
