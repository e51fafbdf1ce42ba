#include "rct_model.h"

void rct_copy(void *to, const void *from, uint32_t size)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    for (uint32_t i = 0; i < size; i++) {
        target[i] = source[i];
    }
}

bool rct_equal(const void *a, const void *b, uint32_t size)
{
    const uint8_t *left = a;
    const uint8_t *right = b;
    for (uint32_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            return false;
        }
    }
    return true;
}
