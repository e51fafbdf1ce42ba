/* CONCATENATION, one input at a time, and its errors the other way. */
#include "../rct.h"

void rct_copy_blocks(const rct_blocks_t *blocks, const int8_t *from, int8_t *to)
{
    for (int32_t row = 0; row < blocks->rows; row++) {
        for (int32_t i = 0; i < blocks->width; i++) {
            to[i] = from[i];
        }
        from += blocks->from_stride;
        to += blocks->to_stride;
    }
}
