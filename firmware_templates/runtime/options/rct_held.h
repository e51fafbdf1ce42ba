/* Gradients that are held from sample to sample: sums of several, and momentum (ARITHMETIC.md 9). */
#ifndef RCT_HELD_H
#define RCT_HELD_H

#include "rct.h"

/* An op that learns from what is held. Held values are blocks: of each channel its row, then its bias, each
 * with an exponent of its own. All 0 is nothing held. */
typedef struct {
    rct_learn_t learn;           /* first: the backward pass knows only this of it */
    const rct_weights_t *shape;  /* of the op */
    int16_t *sum_exponents;      /* (channels, 2), NULL where every sample updates at once */
    int16_t *sums;               /* (channels, depth + 1) */
    int16_t *momentum_exponents; /* (channels, 2), NULL without momentum */
    int8_t *momentum;            /* (channels, depth + 1) */
    uint8_t decay;               /* what is left of the momentum after a step, in 1/256 */
} rct_held_t;

/* All ops of a network that add gradients up, in the order of the backward pass. */
typedef struct {
    const rct_held_t *const *ops; /* (count) */
    uint16_t count;
    uint16_t samples;  /* for one update */
    uint16_t *waiting; /* samples since the last update */
    int32_t *gradient; /* scratch, (largest depth) */
} rct_accumulation_t;

/* As rct_fully_connected_grad(), where grad->learn is the first member of an rct_held_t, and grad->sums has
 * room for a row. */
void rct_fully_connected_held_grad(const rct_fully_connected_t *op, const rct_grad_t *grad,
                                   const int8_t *input, const int8_t *error, rct_backward_t *backward,
                                   int8_t *input_error);

/* Updates a row from its gradient, (depth), and its bias from its own, each with an exponent. */
void rct_update_held_row(const rct_held_t *held, int32_t channel, int32_t *gradient, int32_t exponent,
                         int32_t bias_gradient, int32_t bias_exponent, rct_backward_t *backward);

/* Adds the gradient of one sample to the sums of a channel. */
void rct_add_to_sums(const rct_held_t *held, int32_t channel, const int32_t *gradient, int32_t bias_gradient,
                     int32_t exponent);

/* Ends a sample, also one that taught nothing: after every so many, everything is updated from the sums. */
void rct_finish_sample(const rct_accumulation_t *accumulation, rct_backward_t *backward);

#endif
