/* What is observed of a gradient where bit-widths follow the training (ARITHMETIC.md 10). */
#ifndef RCT_OBSERVE_H
#define RCT_OBSERVE_H

#include "../rct_adapt.h"
#include "integers.h"

/* The gradient of a row, (depth), with its exponent. */
static inline void rct_observe_row(const rct_learn_t *learn, const rct_weights_t *weights, int32_t channel,
                                   const int32_t *gradient, int32_t exponent)
{
    uint64_t total = 0;
    for (int32_t k = 0; k < weights->depth; k++) {
        total += (uint32_t)rct_magnitude(gradient[k]);
    }
    rct_ask(learn, weights, channel, total, exponent);
}

/* Sum of the magnitudes of an input, (depth), without its zero point: it serves all channels. */
static inline uint32_t rct_input_sum(const int8_t *input, int32_t depth, int32_t zero_point)
{
    uint32_t sum = 0;
    for (int32_t k = 0; k < depth; k++) {
        sum += (uint32_t)rct_magnitude(input[k] - zero_point);
    }
    return sum;
}

/* The gradient of a row that is the product of an error and an input of this sum. */
static inline void rct_observe_product(const rct_learn_t *learn, const rct_weights_t *weights,
                                       int32_t channel, int32_t error, uint32_t input_sum, int32_t exponent)
{
    rct_ask(learn, weights, channel, (uint64_t)(uint32_t)rct_magnitude(error) * input_sum, exponent);
}

#endif
