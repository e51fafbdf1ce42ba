/* What training must not do: a product of floats, and memory from a heap. */
#include "rct_port.h"

#include <stddef.h>

static volatile float factor = 3.0f;
static uint8_t heap[64];

void *malloc(size_t size);

__attribute__((noinline)) void *malloc(size_t size)
{
    return size <= sizeof(heap) ? heap : NULL;
}

__attribute__((noinline)) float scaled(float value)
{
    return value * factor;
}

int main(void)
{
    uint8_t *volatile memory = malloc(4u);
    return (int)scaled(2.0f) + (memory == NULL);
}
