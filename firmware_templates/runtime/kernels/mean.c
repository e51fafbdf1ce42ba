/* MEAN over height and width, forward. */
#include "../rct.h"
#include "requantize.h"

void rct_mean(const rct_mean_t *op, const int8_t *input, int8_t *output)
{
    for (int32_t channel = 0; channel < op->channels; channel++) {
        int32_t sum = -op->positions * op->input_zero_point;
        for (int32_t i = 0; i < op->positions; i++) {
            sum += input[i * op->channels + channel];
        }
        const int32_t mean = rct_scale(sum, op->multiplier, rct_max(op->shift, 0), rct_max(-op->shift, 0));
        output[channel] = (int8_t)rct_clamp(mean + op->zero_point, INT8_MIN, INT8_MAX);
    }
}
