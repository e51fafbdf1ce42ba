/* PAD, backward: cuts the padding off. */
#include "../rct.h"

void rct_pad_grad(const rct_pad_t *op, const rct_error_t *error, rct_error_t *input_error)
{
    for (int32_t y = 0; y < op->height; y++) {
        for (int32_t x = 0; x < op->width; x++) {
            const rct_error_t *pixel = &error[op->first + (y * op->out_width + x) * op->out_channels];
            for (int32_t k = 0; k < op->channels; k++) {
                *input_error++ = pixel[k];
            }
        }
    }
}
