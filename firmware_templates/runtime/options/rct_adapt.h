/*
 * Bit-widths that follow the training (ARITHMETIC.md 10).
 *
 * The parameter block begins with two bytes for each layer that learns, its bit-width and its octave:
 * log2(scale / exported scale) of what the kernels see. Zeros up to a multiple of four bytes follow, then the
 * packed rows and biases of each layer, without gaps: a layer that gets a bit moves all that follow. The
 * tables of an op are those of the export; rct_bind() makes a copy of them with the present width, which
 * lives as long as one call.
 */
#ifndef RCT_ADAPT_H
#define RCT_ADAPT_H

#include "rct.h"
#include "rct_options.h"
#if RCT_HAS_HELD
    #include "rct_held.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A layer that learns, as exported. One of the two ops is NULL. */
typedef struct {
    const rct_fully_connected_t *fully_connected;
    const rct_conv_2d_t *conv_2d; /* and its relatives */
    const rct_grad_t *grad;
    uint16_t
        rows; /* that learn: as many as channels, or some of an op that learns in part, whose width stays */
    uint8_t min_bits; /* equal to max_bits where the width stays */
    uint8_t max_bits; /* up to 16 */
    int8_t lowest_octave;
    int8_t highest_octave;
} rct_adapted_layer_t;

/* What is observed of a layer, and what is decided. */
typedef struct {
    uint64_t asked; /* steps that its weights were asked for since the last decision, in 2**-16 */
    uint32_t gavg;  /* their mean in the last interval, at the present width */
    uint8_t planned;
    uint8_t before; /* the plan before a layer was served */
    bool settled;   /* served, or refused, in this decision */
} rct_width_t;

typedef struct rct_adaptation {
    const rct_adapted_layer_t *layers; /* (count) */
    rct_width_t *widths;               /* (count) */
    uint32_t *steps;                   /* since the last decision */
#if RCT_HAS_RATES
    uint64_t *rates;      /* sum of the rates of these steps */
    const uint32_t *rate; /* of the step that runs, in 1 / RCT_RATE_ONE */
#endif
    uint8_t *parameters; /* the parameter block, aligned to 4 bytes */
    int8_t *shifts;      /* scratch of the forward pass, (most channels of a layer) */
    uint16_t count;
    uint16_t interval; /* steps between two decisions */
    uint32_t parameter_bytes;
    uint32_t budget_bytes; /* of all packed weights */
    uint32_t t_min;        /* thresholds of gavg */
    uint32_t t_max;
    uint32_t crowd;  /* share of weights at the ends that doubles a range, in 2**-16 */
    bool stochastic; /* rounding */
} rct_adaptation_t;

/* An op with the present width. */
typedef union {
    rct_fully_connected_t fully_connected;
    rct_conv_2d_t conv_2d;
} rct_bound_op_t;

/* The same with what its backward pass needs. */
typedef struct {
#if RCT_HAS_HELD
    rct_held_t held;
#else
    rct_learn_t learn; /* first, as in rct_held_t: an observer finds the others by it */
#endif
    rct_bound_op_t op;
    rct_grad_t grad;
    int32_t octave;
    uint64_t *asked;
} rct_bound_t;

/* Weights, biases and widths of the export. */
void rct_adapt_reset(const rct_adaptation_t *adaptation);

/* Whether widths, octaves and biases of the parameter block are within their limits, and the weights within
 * their room: to be asked after the block was written from outside, before anything else is called. */
bool rct_adapt_is_sound(const rct_adaptation_t *adaptation);

/* Back to a parameter block of before: what was observed since then is dropped. */
void rct_adapt_restore(const rct_adaptation_t *adaptation, const uint8_t *parameters);

/* Ends a training step that had an error; at the end of an interval, changes ranges and widths. */
void rct_adapt(const rct_adaptation_t *adaptation, rct_backward_t *backward);

/* The op of a layer for its forward pass. */
const rct_bound_op_t *rct_bind(const rct_adaptation_t *adaptation, int32_t layer, rct_bound_op_t *op);

/* The tables of a layer for its backward pass, with the present width; the error gets the layer's octave, and
 * has to lose it twice afterwards, so that the constants of all below stay. */
void rct_bind_grad(const rct_adaptation_t *adaptation, int32_t layer, rct_bound_t *bound,
                   rct_backward_t *backward);

/* Adds the steps that a channel's weights are asked for by gradients whose magnitudes add up to `total`.
 * `learn` is that of an rct_bound_t, `weights` those of its op. */
void rct_ask(const rct_learn_t *learn, const rct_weights_t *weights, int32_t channel, uint64_t total,
             int32_t exponent);

#ifdef __cplusplus
}
#endif

#endif
