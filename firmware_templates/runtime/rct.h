/*
 * rct: integer-only inference and training of int8 networks, TFLite-Micro's arithmetic bit for bit.
 *
 * The runtime is a set of kernels: pure functions on pointers, one per op and direction. The generated
 * model.c holds the tables and calls the kernels one after the other; nothing here knows a network. Nothing
 * is allocated, nothing recurses, there is no float. The arithmetic is written down in ARITHMETIC.md of the
 * rct_tflite package; its NumPy reference gives the same bytes.
 *
 * Shapes are written as (rows, columns, channels), batch 1. Weights are packed at their bit-width: a row is
 * all weights of one output channel, `row_bytes` long.
 *
 * The kernels trust their tables: the generator has proven that no sum passes 32 bits, and that every
 * buffer is large enough. Buffers do not overlap, but that rct_mask() works in place.
 */
#ifndef RCT_H
#define RCT_H

#include <stdbool.h>
#include <stdint.h>

#define RCT_RUNTIME_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
#define RCT_STATUS(name, value, text) RCT_##name = (value),
#include "rct_status.def"
#undef RCT_STATUS
} rct_status_t;

/* ---- tables: constant, made by the generator ------------------------------------------------------ */

/* Turns an accumulator into an activation. */
typedef struct {
    const int32_t *multiplier; /* (channels), or (1) where `per_channel` is 0 */
    const int8_t *shift;       /* same shape; above 0 shifts left */
    uint8_t per_channel;       /* 0 or 1 */
    int16_t zero_point;        /* of the output */
    int16_t act_min;
    int16_t act_max;
} rct_requant_t;

/* Sizes of a window that moves over an image. FULLY_CONNECTED has none. */
typedef struct {
    uint16_t in_h, in_w, in_channels;
    uint16_t out_h, out_w, out_channels;
    uint8_t filter_h, filter_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left;
} rct_window_t;

/* The parameters of an op, for reading: in RAM where the op learns, else in flash. */
typedef struct {
    const uint8_t *rows; /* (channels, row_bytes) packed weights */
    const int32_t *bias; /* (channels) */
    uint16_t channels;
    uint16_t depth;     /* weights in a row */
    uint16_t row_bytes; /* bytes of a packed row */
    uint8_t bits;       /* 2 to 8 */
} rct_weights_t;

typedef struct {
    rct_weights_t weights;
    int16_t input_zero_point;
    rct_requant_t requant;
} rct_fully_connected_t;

typedef struct {
    rct_window_t window;
    rct_weights_t weights;
    int16_t input_zero_point;
    rct_requant_t requant;
} rct_conv_2d_t;

typedef struct {
    rct_window_t window;
    int16_t act_min;
    int16_t act_max;
} rct_pool_2d_t;

/* Per-channel scales of the weights inside the sum of an input error. */
typedef struct {
    const int16_t *ratio; /* (channels), 2**14 = the largest scale; NULL where one scale serves all */
    uint8_t guard_bits;   /* 0 to 8 */
} rct_error_scale_t;

/* mantissa * 2**-shift turns an integer gradient into steps of the quantised value. */
typedef struct {
    const int16_t *mantissa; /* (channels), or (1) where `per_channel` is 0; 2**14 to 2**15 - 1 */
    const int8_t *shift;     /* same shape */
    uint8_t per_channel;     /* 0 or 1 */
} rct_step_multiplier_t;

/* The parameters of an op that learns, for writing. */
typedef struct {
    uint8_t *rows; /* the same memory as in rct_weights_t */
    int32_t *bias;
    rct_step_multiplier_t weight_step;
    rct_step_multiplier_t bias_step;
    int32_t bias_limit; /* largest magnitude of a bias */
    bool stochastic;    /* rounding of the update; false truncates */
} rct_learn_t;

/* The gain of an input error relative to the loss, log2 in 1/256; RCT_GAIN_UNSET before the first sample. */
typedef int32_t rct_gain_t;
#define RCT_GAIN_UNSET INT32_MIN

/* The backward pass of an op with weights. */
typedef struct {
    rct_error_scale_t scale;
    const rct_learn_t *learn; /* NULL where the op is frozen */
    rct_gain_t *gain;         /* NULL where no op below wants an error */
    int8_t *row;              /* scratch, (depth); FULLY_CONNECTED needs none, nor do 8 bits */
    int32_t *sums;            /* scratch, (depth); FULLY_CONNECTED needs none */
} rct_grad_t;

typedef struct {
    const uint16_t *exp_table; /* (exp_entries): 2**15 * exp(-scale * distance) */
    uint16_t exp_entries;
    uint16_t classes;
} rct_loss_t;

/* ---- state: in RAM --------------------------------------------------------------------------------- */

/* What the backward pass hands from op to op. dL/dy = values * 2**-exponent * a constant. */
typedef struct {
    int32_t exponent;
    int32_t loss_exponent; /* the exponent at the loss of this sample */
    uint32_t random;       /* state of the generator, kept from sample to sample */
} rct_backward_t;

/* ---- forward --------------------------------------------------------------------------------------- */

void rct_fully_connected(const rct_fully_connected_t *op, const int8_t *input, /* (depth) */
                         int8_t *row,                                          /* unused */
                         int8_t *output);                                      /* (channels) */

void rct_conv_2d(const rct_conv_2d_t *op, const int8_t *input, /* (in_h, in_w, in_channels) */
                 int8_t *row,                                  /* scratch, (depth) */
                 int8_t *output);                              /* (out_h, out_w, out_channels) */

void rct_max_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output);

void rct_average_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output);

/* Index of the largest of `count` values, the first one of equals. */
uint16_t rct_argmax(const int8_t *values, uint16_t count);

/* ---- backward --------------------------------------------------------------------------------------- */

/* Softmax and cross-entropy. Sets both exponents of `backward`. Returns false, and writes nothing of use,
 * where there is nothing to learn. */
bool rct_softmax_cross_entropy(const rct_loss_t *loss, const int8_t *logits, /* (classes) */
                               uint16_t label, int32_t *sums,                /* scratch, (classes) */
                               int8_t *error,                                /* (classes) */
                               rct_backward_t *backward);

/* Clears errors where the fused activation held the output at a bound: output <= low, or output >= high. */
void rct_mask(const int8_t *output, int32_t count, int16_t low, int16_t high, int8_t *error);

/*
 * The backward pass of an op with weights: first the input error, with the weights of before, then the
 * update. Lowers the exponent of `backward`. `input_error` is NULL where no op below wants one.
 */
void rct_fully_connected_grad(const rct_fully_connected_t *op, const rct_grad_t *grad, const int8_t *input,
                              const int8_t *error,      /* (channels), masked */
                              rct_backward_t *backward, /* */
                              int8_t *input_error);     /* (depth) or NULL */

void rct_conv_2d_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                      const int8_t *error,      /* (out_h, out_w, out_channels), masked */
                      rct_backward_t *backward, /* */
                      int8_t *input_error);     /* (in_h, in_w, in_channels) or NULL */

void rct_max_pool_2d_grad(const rct_pool_2d_t *op, const int8_t *input, const int8_t *error,
                          int8_t *input_error);

void rct_average_pool_2d_grad(const rct_pool_2d_t *op, const int8_t *error, int8_t *input_error);

#ifdef __cplusplus
}
#endif

#endif
