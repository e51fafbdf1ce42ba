/* The update of integers in place (ARITHMETIC.md 6). */
#ifndef RCT_UPDATE_H
#define RCT_UPDATE_H

#include "../rct.h"
#include "integers.h"
#include "random.h"

/* mantissa * 2**-shift, shift 1 to 30. */
typedef struct {
    int32_t mantissa;
    int32_t shift;
} rct_step_t;

/* The multiplier of a channel for errors with `exponent`. */
static inline rct_step_t rct_step(const rct_step_multiplier_t *multiplier, int32_t channel, int32_t exponent)
{
    const int32_t index = multiplier->per_channel ? channel : 0;
    rct_step_t step = {multiplier->mantissa[index], multiplier->shift[index] + exponent};
    if (step.shift > 30) {
        step.mantissa >>= rct_min(step.shift - 30, 15);
        step.shift = 30;
    }
    step.shift = rct_max(step.shift, 1);
    return step;
}

/* What is added before the shift, so that it rounds: random bits, or what makes a negative product go toward
 * zero. */
static inline int32_t rct_noise(uint32_t random, int32_t shift)
{
    return (int32_t)(random >> (32 - shift));
}

static inline int32_t rct_toward_zero(bool negative, int32_t shift)
{
    return negative ? (int32_t)((1u << shift) - 1u) : 0;
}

/* Largest weight at a bit-width. */
static inline int32_t rct_top(int32_t bits)
{
    return (1 << (bits - 1)) - 1;
}

/* The update of a row that met one input: the gradient of weight i is (input[i] - zero_point) * error. */
typedef struct {
    const int8_t *input; /* (depth) */
    int32_t depth;
    int32_t zero_point;
    int32_t factor; /* error * mantissa of the step */
    int32_t shift;  /* of the step */
    int32_t top;
} rct_row_update_t;

/* Returns the new random state. */
uint32_t rct_update_stochastic(const rct_row_update_t *row, int8_t *weights, uint32_t random);

void rct_update_truncate(const rct_row_update_t *row, int8_t *weights);

/* The update of a row from its gradient. */
typedef struct {
    const int32_t *gradient; /* (depth), magnitudes below 2**30 */
    int32_t depth;
    rct_step_t step;
    int32_t top;
    bool stochastic;
} rct_sums_update_t;

/* Returns the new random state. */
uint32_t rct_update_from_sums(const rct_sums_update_t *row, int8_t *weights, uint32_t random);

/* |gradient| is below 2**30. */
void rct_update_bias(const rct_learn_t *learn, int32_t channel, int32_t gradient, rct_backward_t *backward);

#endif
