/* PAD, forward. */
#include "../rct.h"

void rct_pad(const rct_pad_t *op, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < op->out_count; i++) {
        output[i] = op->value;
    }
    for (int32_t y = 0; y < op->height; y++) {
        for (int32_t x = 0; x < op->width; x++) {
            int8_t *pixel = &output[op->first + (y * op->out_width + x) * op->out_channels];
            for (int32_t k = 0; k < op->channels; k++) {
                pixel[k] = *input++;
            }
        }
    }
}
