/* The update of integers in place (ARITHMETIC.md 6). */
#ifndef RCT_UPDATE_H
#define RCT_UPDATE_H

#include "../rct.h"
#include "integers.h"
#include "random.h"
#include "wide.h"

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

/* The same from a gradient to steps of a weight of `bits` bits: the multiplier is that of 8 bits. The
 * gradient of weights has the unit of errors of 8 bits. */
static inline rct_step_t rct_weight_step(const rct_learn_t *learn, int32_t bits, int32_t channel,
                                         int32_t exponent)
{
    const int32_t low_bits = RCT_WIDE_WEIGHTS ? rct_max(bits - 8, 0) : 0;
    return rct_step(&learn->weight_step, channel, exponent - (RCT_ERROR_BITS - 8) - low_bits);
}

/* A row of weights to update where it lies, packed. */
typedef struct {
    uint8_t *weights; /* (row_bytes) */
    int32_t depth;    /* weights in the row */
    int32_t bits;     /* of a weight */
    bool stochastic;
    rct_step_t step;      /* from a gradient to steps of a weight */
    rct_step_t bias_step; /* from a gradient to steps of the bias */
    int32_t *bias;        /* of the row */
    int32_t bias_limit;
} rct_row_t;

/* The row of `channel`, for errors with `exponent`; where the channel's weights do not learn, with others. */
static inline rct_row_t rct_row(const rct_weights_t *weights, const rct_learn_t *learn, int32_t channel,
                                int32_t exponent)
{
    int32_t place = channel;
#if RCT_SPLIT_ROWS
    if (learn->biases_only || weights->split) {
        place = learn->biases_only ? 0 : rct_max(weights->split->places[channel], 0);
    }
#endif
    const rct_row_t row = {
        .weights = &learn->rows[(uint32_t)place * weights->row_bytes],
        .depth = weights->depth,
        .bits = weights->bits,
        .stochastic = learn->stochastic,
        .step = rct_weight_step(learn, weights->bits, channel, exponent),
        .bias_step = rct_step(&learn->bias_step, channel, exponent),
        .bias = &learn->bias[channel],
        .bias_limit = learn->bias_limit,
    };
    return row;
}

/* A row that met one input: the gradient of weight i is (input[i] - zero_point) * error. Returns the new
 * random state. */
uint32_t rct_update_from_input(const rct_row_t *row, const int8_t *input, int32_t zero_point, int32_t error,
                               uint32_t random);

/* A row with its gradient (depth), of magnitudes below 2**30. Returns the new random state. */
uint32_t rct_update_from_sums(const rct_row_t *row, const int32_t *gradient, uint32_t random);

/* The bias of a row; |gradient| is below 2**30. Returns the new random state. */
uint32_t rct_update_bias(const rct_row_t *row, int32_t gradient, uint32_t random);

#endif
