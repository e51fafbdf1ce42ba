/*
 * rct: integer-only inference and training of int8 networks, TFLite-Micro's arithmetic bit for bit.
 *
 * The runtime is a set of kernels: pure functions on pointers, one per op and direction. The generated
 * model.c holds the tables and calls the kernels one after the other; nothing here knows a network. Nothing
 * is allocated, nothing recurses, there is no float. The arithmetic is written down in ARITHMETIC.md of the
 * rct_tflite package; its NumPy reference gives the same bytes.
 *
 * Activations are int8. Only the input of a network that picks rows of a table holds something else, the
 * numbers of rows as uint16_t: rct_gather.h.
 *
 * Shapes are written as (rows, columns, channels), batch 1. Weights are packed at their bit-width: a row is
 * all weights of one output channel, `row_bytes` long.
 *
 * The kernels trust their tables: the generator has proven that no sum passes 32 bits, and that every
 * buffer is large enough. Buffers do not overlap, but where a kernel says that it works in place.
 */
#ifndef RCT_H
#define RCT_H

#include <stdbool.h>
#include <stdint.h>

#include "rct_error.h"

#define RCT_RUNTIME_VERSION 2

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
#define RCT_STATUS(name, value, text) RCT_##name = (value),
#include "rct_status.def"
#undef RCT_STATUS
} rct_status_t;

#ifndef RCT_SPLIT_ROWS
    #define RCT_SPLIT_ROWS 0 /* kernels/split.h sets it */
#endif

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

/* Sizes of a window that moves over the input, in TRANSPOSE_CONV over the output. FULLY_CONNECTED has none.
 */
typedef struct {
    uint16_t in_h, in_w, in_channels;
    uint16_t out_h, out_w, out_channels;
    uint8_t filter_h, filter_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left;
} rct_window_t;

/* The rows of an op of which only some learn. */
typedef struct {
    const uint8_t *frozen; /* (channels, row_bytes) all rows as exported */
    const int16_t
        *places; /* (channels), ascending: which of the rows that learn is the channel's, -1: none */
} rct_split_t;

/* The parameters of an op, for reading: in RAM where the op learns, else in flash. */
typedef struct {
    const uint8_t *rows; /* (channels, row_bytes) packed weights; of a split op those that learn */
    const int32_t *bias; /* (channels) */
    uint16_t channels;
    uint16_t depth;           /* weights in a row */
    uint16_t row_bytes;       /* bytes of a packed row */
    uint8_t bits;             /* 2 to 8; up to 16 with the wide kernels/wide.h */
    const rct_split_t *split; /* NULL where all rows learn, or none */
} rct_weights_t;

typedef struct {
    rct_weights_t weights;
    int16_t input_zero_point;
    rct_requant_t requant;
} rct_fully_connected_t;

/* CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV. */
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

/* One of two operands. */
typedef struct {
    int32_t count; /* elements: as many as the output has, or a divisor of it: then the operand repeats */
    int16_t zero_point;
    int32_t multiplier; /* ADD and SUB bring both operands to one scale */
    int8_t shift;
} rct_operand_t;

/* ADD, SUB and MUL. */
typedef struct {
    rct_operand_t first;
    rct_operand_t second;
    bool subtract;
    int32_t count; /* elements of the output */
    int32_t multiplier;
    int8_t shift;
    int16_t zero_point; /* of the output */
    int16_t act_min;
    int16_t act_max;
} rct_pair_t;

/* MEAN over height and width. */
typedef struct {
    int32_t positions; /* height times width */
    uint16_t channels;
    int16_t input_zero_point;
    int32_t multiplier; /* divides by the number of positions, too */
    int8_t shift;
    int16_t zero_point; /* of the output */
} rct_mean_t;

/* SOFTMAX along the last axis. */
typedef struct {
    const int32_t *exp_table; /* (256): exp(-scale * distance) in 2**-31 */
    int32_t rows;
    uint16_t classes;
} rct_softmax_t;

/* Blocks of bytes that move from a tensor with rows of `from_stride` to one with rows of `to_stride`. */
typedef struct {
    int32_t rows;
    int32_t width; /* bytes of a block */
    int32_t from_stride;
    int32_t to_stride;
} rct_blocks_t;

/* PAD: an image of (height, width, channels) inside a larger one. */
typedef struct {
    uint16_t height, width, channels; /* of the smaller one */
    uint16_t out_width, out_channels; /* of the larger one */
    int32_t out_count;
    int32_t first; /* place of the smaller one's first byte in the larger one */
    int8_t value;  /* zero point */
} rct_pad_t;

/* Per-channel scales of the weights inside the sum of an input error. */
typedef struct {
    const int16_t *ratio; /* (channels), 2**14 = the largest scale; NULL where one scale serves all */
    uint8_t guard_bits;   /* 0 to 8 */
    uint8_t dropped_bits; /* 0 to 8: what errors of 16 bits lose, so that no sum passes 32 bits */
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
    bool biases_only;   /* no row learns */
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

/* The backward pass of ADD, SUB and MUL to one of their operands, where sums are brought to 8 bits. */
typedef struct {
    int32_t count;   /* elements of the output */
    int32_t operand; /* elements of the operand that gets the error; where it repeats, errors are summed */
    int32_t other;   /* elements of the other operand of MUL; 0 for ADD and SUB */
    int16_t other_zero_point;
    bool negative; /* the second operand of SUB */
    rct_gain_t *gain;
    int32_t *sums; /* scratch, (operand); unused where it does not repeat */
    uint8_t
        dropped_bits; /* 0 to 8: what products with errors of 16 bits lose, so that no sum passes 32 bits */
} rct_pair_grad_t;

/* The sum of two errors of one tensor: of the one that is there, and of the one that arrives. */
typedef struct {
    int16_t ratio[2];    /* 2**14 = the larger constant's mantissa */
    int16_t exponent[2]; /* of the constants */
    rct_gain_t *gain;
} rct_merge_t;

typedef struct {
    const uint16_t *exp_table; /* (exp_entries): 2**15 * exp(-scale * distance) */
    uint16_t exp_entries;
    uint16_t classes;
} rct_loss_t;

/* Losses that take a target for each output. */
typedef struct {
    const uint16_t *sigmoid_table; /* (256): 2**15 * sigmoid, from -128 on; NULL for losses of differences */
    int32_t count;                 /* outputs */
    int16_t limit;                 /* largest difference that counts; 1 takes its sign */
} rct_target_loss_t;

/* ---- state: in RAM --------------------------------------------------------------------------------- */

/* What the backward pass hands from op to op. dL/dy = values * 2**-exponent * a constant. */
typedef struct {
    int32_t exponent;
    int32_t loss_exponent; /* the exponent at the loss of this sample */
    uint32_t random;       /* state of the generator, kept from sample to sample */
} rct_backward_t;

/* ---- forward --------------------------------------------------------------------------------------- */

void rct_fully_connected(const rct_fully_connected_t *op, const int8_t *input, /* (depth) */
                         int8_t *row,     /* unused: ops with weights are called alike */
                         int8_t *output); /* (channels) */

void rct_conv_2d(const rct_conv_2d_t *op, const int8_t *input, /* (in_h, in_w, in_channels) */
                 int8_t *row,                                  /* scratch, (depth) */
                 int8_t *output);                              /* (out_h, out_w, out_channels) */

void rct_max_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output);

void rct_average_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output);

void rct_depthwise_conv_2d(const rct_conv_2d_t *op, const int8_t *input, /* (in_h, in_w, in_channels) */
                           int8_t *row,                                  /* scratch, (depth) */
                           int8_t *output);                              /* (out_h, out_w, out_channels) */

void rct_transpose_conv(const rct_conv_2d_t *op, const int8_t *input, /* (in_h, in_w, in_channels) */
                        int8_t *row,                                  /* scratch, (depth) */
                        int8_t *output);                              /* (out_h, out_w, out_channels) */

/* Works in place, over an operand that does not repeat. */
void rct_add(const rct_pair_t *op, const int8_t *first, const int8_t *second, int8_t *output);

/* Works in place, over an operand that does not repeat. */
void rct_multiply(const rct_pair_t *op, const int8_t *first, const int8_t *second, int8_t *output);

void rct_mean(const rct_mean_t *op, const int8_t *input, /* (positions, channels) */
              int8_t *output);                           /* (channels) */

void rct_softmax(const rct_softmax_t *op, const int8_t *input, /* (rows, classes) */
                 int8_t *output);                              /* (rows, classes) */

/* CONCATENATION, one input at a time, and its errors the other way. */
void rct_copy_blocks(const rct_blocks_t *blocks, const int8_t *from, int8_t *to);

void rct_pad(const rct_pad_t *op, const int8_t *input, int8_t *output);

/* An activation of its own, or QUANTIZE. Works in place. */
void rct_table(const int8_t *table, /* (256), from -128 on */
               const int8_t *input, int32_t count, int8_t *output);

/* Index of the largest of `count` values, the first one of equals. */
uint16_t rct_argmax(const int8_t *values, uint16_t count);

/* ---- backward --------------------------------------------------------------------------------------- */

/* Softmax and cross-entropy. Sets both exponents of `backward`. Returns false, and writes nothing of use,
 * where there is nothing to learn. */
bool rct_softmax_cross_entropy(const rct_loss_t *loss, const int8_t *logits, /* (classes) */
                               uint16_t label, int32_t *sums,                /* scratch, (classes) */
                               rct_error_t *error,                           /* (classes) */
                               rct_backward_t *backward);

/* Sigmoid and cross-entropy; a target of -128 is a probability of 0, of 127 one of 1. Otherwise as above. */
bool rct_sigmoid_cross_entropy(const rct_target_loss_t *loss, const int8_t *logits, /* (count) */
                               const int8_t *target,                                /* (count) */
                               rct_error_t *error,                                  /* (count) */
                               rct_backward_t *backward);

/* Mean squared error, mean absolute error, Huber's loss; the target has the output's format. As above. */
bool rct_difference_error(const rct_target_loss_t *loss, const int8_t *output, /* (count) */
                          const int8_t *target,                                /* (count) */
                          rct_error_t *error,                                  /* (count) */
                          rct_backward_t *backward);

/* Clears errors where the fused activation held the output at a bound: output <= low, or output >= high. */
void rct_mask(const int8_t *output, int32_t count, int16_t low, int16_t high, rct_error_t *error);

/* The same in two halves, where the output is not kept: a bit for each, from the lowest of each byte on. */
void rct_save_mask(const int8_t *output, int32_t count, int16_t low, int16_t high, uint8_t *bits);
void rct_apply_mask(const uint8_t *bits, int32_t count, rct_error_t *error);

/*
 * The backward pass of an op with weights: first the input error, with the weights of before, then the
 * update. Lowers the exponent of `backward`. `input_error` is NULL where no op below wants one.
 */
void rct_fully_connected_grad(const rct_fully_connected_t *op, const rct_grad_t *grad, const int8_t *input,
                              const rct_error_t *error,  /* (channels), masked */
                              rct_backward_t *backward,  /* */
                              rct_error_t *input_error); /* (depth) or NULL */

void rct_conv_2d_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                      const rct_error_t *error,  /* (out_h, out_w, out_channels), masked */
                      rct_backward_t *backward,  /* */
                      rct_error_t *input_error); /* (in_h, in_w, in_channels) or NULL */

/* The same for ops that learn in part: some of their rows, or their biases only. */

void rct_fully_connected_split(const rct_fully_connected_t *op, const int8_t *input, int8_t *row,
                               int8_t *output);

void rct_fully_connected_split_grad(const rct_fully_connected_t *op, const rct_grad_t *grad,
                                    const int8_t *input, const rct_error_t *error, rct_backward_t *backward,
                                    rct_error_t *input_error);

void rct_conv_2d_split(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output);

void rct_conv_2d_split_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                            const rct_error_t *error, rct_backward_t *backward, rct_error_t *input_error);

void rct_depthwise_conv_2d_split(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output);

void rct_depthwise_conv_2d_split_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                                      const rct_error_t *error, rct_backward_t *backward,
                                      rct_error_t *input_error);

void rct_transpose_conv_split(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output);

void rct_transpose_conv_split_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                                   const rct_error_t *error, rct_backward_t *backward,
                                   rct_error_t *input_error);

void rct_max_pool_2d_grad(const rct_pool_2d_t *op, const int8_t *input, const rct_error_t *error,
                          rct_error_t *input_error);

void rct_average_pool_2d_grad(const rct_pool_2d_t *op, const rct_error_t *error, rct_error_t *input_error);

void rct_depthwise_conv_2d_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                                const rct_error_t *error,  /* (out_h, out_w, out_channels), masked */
                                rct_backward_t *backward,  /* */
                                rct_error_t *input_error); /* (in_h, in_w, in_channels) or NULL */

void rct_transpose_conv_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                             const rct_error_t *error,  /* (out_h, out_w, out_channels), masked */
                             rct_backward_t *backward,  /* */
                             rct_error_t *input_error); /* (in_h, in_w, in_channels) or NULL */

/* The error of one operand; lowers the exponent of `backward`. `other` is the other operand of MUL, else
 * NULL. Works in place where the operand does not repeat. */
void rct_pair_grad(const rct_pair_grad_t *grad, const int8_t *other, const rct_error_t *error,
                   rct_backward_t *backward, rct_error_t *input_error);

/* Hands errors on with the other sign. Works in place. */
void rct_negate_errors(const rct_error_t *error, int32_t count, rct_error_t *input_error);

void rct_mean_grad(const rct_mean_t *op, const rct_error_t *error, /* (channels) */
                   rct_error_t *input_error);                      /* (positions, channels) */

/* Cuts the padding off. */
void rct_pad_grad(const rct_pad_t *op, const rct_error_t *error, rct_error_t *input_error);

/* Works in place. */
void rct_table_grad(const rct_error_t *slopes, /* (256) */
                    const int8_t *input, const rct_error_t *error, int32_t count, rct_error_t *input_error);

/* Adds what arrives, with the exponent of `backward`, to the error of a tensor that several ops read. */
void rct_merge_errors(const rct_merge_t *merge, const rct_error_t *arriving, int32_t count,
                      const rct_backward_t *backward, rct_error_t *error, int32_t *exponent);

#ifdef __cplusplus
}
#endif

#endif
