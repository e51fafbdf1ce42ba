/* What is observed of a gradient beside the update: nothing. Where bit-widths follow the training, the file
 * of this name among the options lies here instead.
 */
#ifndef RCT_OBSERVE_H
#define RCT_OBSERVE_H

#include "../rct.h"

/* The gradient of a row, (depth), with its exponent. */
static inline void rct_observe_row(const rct_learn_t *learn, const rct_weights_t *weights, int32_t channel,
                                   const int32_t *gradient, int32_t exponent)
{
    (void)learn, (void)weights, (void)channel, (void)gradient, (void)exponent;
}

/* Sum of the magnitudes of an input, (depth), without its zero point. */
static inline uint32_t rct_input_sum(const int8_t *input, int32_t depth, int32_t zero_point)
{
    (void)input, (void)depth, (void)zero_point;
    return 0;
}

/* The gradient of a row that is the product of an error and an input of this sum. */
static inline void rct_observe_product(const rct_learn_t *learn, const rct_weights_t *weights,
                                       int32_t channel, int32_t error, uint32_t input_sum, int32_t exponent)
{
    (void)learn, (void)weights, (void)channel, (void)error, (void)input_sum, (void)exponent;
}

#endif
