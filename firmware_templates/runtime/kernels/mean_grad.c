/* MEAN over height and width, backward: every element gets its channel's error. */
#include "../rct.h"

void rct_mean_grad(const rct_mean_t *op, const rct_error_t *error, rct_error_t *input_error)
{
    for (int32_t i = 0; i < op->positions; i++) {
        for (int32_t channel = 0; channel < op->channels; channel++) {
            *input_error++ = error[channel];
        }
    }
}
