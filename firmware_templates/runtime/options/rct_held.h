/* Gradients that are held from sample to sample: sums of several, and momentum (ARITHMETIC.md 9). */
#ifndef RCT_HELD_H
#define RCT_HELD_H

#include "rct.h"
#include "rct_options.h"

#if RCT_ERROR_BITS == 16
    #define rct_fully_connected_held_grad rct_fully_connected_held_grad_16
#endif

/* An op that learns from what is held. Held values are blocks: each row that learns, then each bias, with an
 * exponent of its own, in the exported scale. All 0 is nothing held. */
typedef struct {
    rct_learn_t learn;           /* first: the backward pass knows only this of it */
    const rct_weights_t *shape;  /* of the op */
    int16_t *sum_exponents;      /* (rows + channels), NULL where every sample updates at once */
    int16_t *sums;               /* (rows * depth + channels) */
    int16_t *momentum_exponents; /* (rows + channels), NULL without momentum */
    int8_t *momentum;            /* (rows * depth + channels) */
    uint16_t rows;               /* that learn */
    uint8_t decay;               /* what is left of the momentum after a step, in 1/256 */
#if RCT_HAS_WIDTHS
    uint16_t layer; /* of the adaptation */
    int32_t octave; /* of the scale; rct_bind_grad() sets it */
#endif
} rct_held_t;

/* All ops of a network that add gradients up, in the order of the backward pass. */
typedef struct {
    const rct_held_t *const *ops; /* (count) */
    uint16_t count;
    uint16_t samples;  /* for one update */
    uint16_t *waiting; /* samples since the last update */
    int32_t *gradient; /* scratch, (largest depth) */
#if RCT_HAS_WIDTHS
    uint16_t *taught; /* whether one of these samples had an error */
    const struct rct_adaptation *adaptation;
#endif
} rct_accumulation_t;

/* The block of a channel's row; below 0 where it does not learn. */
static inline int32_t rct_held_row(const rct_held_t *held, int32_t channel)
{
#if RCT_HAS_PARTS
    if (held->rows == 0) {
        return -1;
    }
    if (held->shape->split) {
        return held->shape->split->places[channel];
    }
#endif
    (void)held;
    return channel;
}

/* The octave that exponents of errors have beside those of what is held. */
static inline int32_t rct_held_octave(const rct_held_t *held)
{
#if RCT_HAS_WIDTHS
    return held->octave;
#else
    (void)held;
    return 0;
#endif
}

/* As rct_fully_connected_grad(), where grad->learn is the first member of an rct_held_t, and grad->sums has
 * room for a row. */
void rct_fully_connected_held_grad(const rct_fully_connected_t *op, const rct_grad_t *grad,
                                   const int8_t *input, const rct_error_t *error, rct_backward_t *backward,
                                   rct_error_t *input_error);

/* Takes the gradient that one sample gives the row, (depth), or the bias of a channel, with the exponent of
 * its error. */
void rct_hold_row(const rct_held_t *held, int32_t channel, int32_t *gradient, int32_t exponent,
                  rct_backward_t *backward);
void rct_hold_bias(const rct_held_t *held, int32_t channel, int32_t gradient, int32_t exponent,
                   rct_backward_t *backward);

/* Updates a row that learns, or a bias, from a gradient in the exported scale. */
void rct_update_held_row(const rct_held_t *held, int32_t channel, int32_t *gradient, int32_t exponent,
                         rct_backward_t *backward);
void rct_update_held_bias(const rct_held_t *held, int32_t channel, int32_t gradient, int32_t exponent,
                          rct_backward_t *backward);

/* Adds a gradient in the exported scale, (count), to a block of the sums that begins at `place`. */
void rct_add_to_sums(const rct_held_t *held, int32_t block, int32_t place, const int32_t *gradient,
                     int32_t count, int32_t exponent);

/* Ends a sample, also one that taught nothing: after every so many, everything is updated from the sums. */
void rct_finish_sample(const rct_accumulation_t *accumulation, rct_backward_t *backward);

#if RCT_HAS_WIDTHS
/* Says that the sample has an error. */
static inline void rct_taught(const rct_accumulation_t *accumulation)
{
    *accumulation->taught = 1;
}
#endif

#endif
