/* What a fused activation does to errors. */
#include "../rct.h"

void rct_mask(const int8_t *output, int32_t count, int16_t low, int16_t high, rct_error_t *error)
{
    for (int32_t i = 0; i < count; i++) {
        if (output[i] <= low || output[i] >= high) {
            error[i] = 0;
        }
    }
}
