/* What a fused activation does to errors, remembered as a bit for each output. */
#include "../rct.h"

void rct_save_mask(const int8_t *output, int32_t count, int16_t low, int16_t high, uint8_t *bits)
{
    for (int32_t first = 0; first < count; first += 8) {
        uint32_t byte = 0;
        for (int32_t i = 0; i < 8 && first + i < count; i++) {
            const int32_t value = output[first + i];
            byte |= (uint32_t)(value > low && value < high) << i;
        }
        *bits++ = (uint8_t)byte;
    }
}

void rct_apply_mask(const uint8_t *bits, int32_t count, rct_error_t *error)
{
    for (int32_t i = 0; i < count; i++) {
        if (!(bits[i / 8] >> (i % 8) & 1)) {
            error[i] = 0;
        }
    }
}
