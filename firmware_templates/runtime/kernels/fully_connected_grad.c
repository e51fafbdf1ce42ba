/* FULLY_CONNECTED, backward: the input error with the weights of before, then the update of each row. */
#include "../rct.h"
#include "gain.h"
#include "integers.h"
#include "learn_channel.h"
#include "observe.h"
#include "pack.h"
#include "update.h"

/* ---- input error: for each input, what every channel that it fed hands back ------------------------- */

/* Sums of four inputs, from number `first` on. */
RCT_INLINE void sum_four(const rct_fully_connected_t *op, const rct_error_scale_t *scale,
                         const rct_error_t *error, int32_t first, bool is_packed, int32_t *restrict sums)
{
    const int32_t bits = op->weights.bits;
    const int32_t channels = op->weights.channels;
    const int32_t row_bytes = op->weights.row_bytes;
    const int32_t place = first * bits;
    const uint8_t *packed = &op->weights.rows[is_packed ? place / 8 : first];
    const rct_error_scale_t copy = *scale;
    int32_t sum_0 = 0, sum_1 = 0, sum_2 = 0, sum_3 = 0;
    for (int32_t channel = 0; channel < channels; channel++, packed += row_bytes) {
        if (error[channel] == 0) {
            continue;
        }
        const int32_t scaled = rct_channel_error(&copy, channel, error[channel]);
        if (is_packed) {
            const uint32_t word = rct_load_4(packed, bits) >> (place % 8);
            sum_0 += scaled * rct_weight_of_4(word, 0, bits);
            sum_1 += scaled * rct_weight_of_4(word, 1, bits);
            sum_2 += scaled * rct_weight_of_4(word, 2, bits);
            sum_3 += scaled * rct_weight_of_4(word, 3, bits);
        } else {
            const int8_t *weights = (const int8_t *)packed;
            sum_0 += scaled * weights[0];
            sum_1 += scaled * weights[1];
            sum_2 += scaled * weights[2];
            sum_3 += scaled * weights[3];
        }
    }
    sums[0] = sum_0;
    sums[1] = sum_1;
    sums[2] = sum_2;
    sums[3] = sum_3;
}

RCT_APART void rct_fully_connected_grad_8_bits(const rct_fully_connected_t *op,
                                               const rct_error_scale_t *scale, const rct_error_t *error,
                                               int32_t first, int32_t *sums)
{
    sum_four(op, scale, error, first, false, sums);
}

RCT_APART void rct_fully_connected_grad_packed(const rct_fully_connected_t *op,
                                               const rct_error_scale_t *scale, const rct_error_t *error,
                                               int32_t first, int32_t *sums)
{
    sum_four(op, scale, error, first, true, sums);
}

#if RCT_WIDE_WEIGHTS
RCT_APART void rct_fully_connected_grad_wide(const rct_fully_connected_t *op, const rct_error_scale_t *scale,
                                             const rct_error_t *error, int32_t first, int32_t *sums)
{
    const int32_t bits = op->weights.bits;
    const uint8_t *row = op->weights.rows;
    for (int32_t i = 0; i < 4; i++) {
        sums[i] = 0;
    }
    for (int32_t channel = 0; channel < op->weights.channels; channel++, row += op->weights.row_bytes) {
        if (error[channel] != 0) {
            const int32_t scaled = rct_channel_error(scale, channel, error[channel]);
            uint32_t place = rct_upper_place(first, bits);
            for (int32_t i = 0; i < 4; i++, place += (uint32_t)bits) {
                sums[i] += scaled * rct_narrow(row, place);
            }
        }
    }
}
#endif

/* The sum of one input. */
static int32_t sum_one(const rct_fully_connected_t *op, const rct_error_scale_t *scale,
                       const rct_error_t *error, int32_t index)
{
    int32_t sum = 0;
    for (int32_t channel = 0; channel < op->weights.channels; channel++) {
        const uint8_t *row = rct_weights_row(&op->weights, channel);
        const int32_t scaled = rct_channel_error(scale, channel, error[channel]);
        sum += scaled * rct_seen_weight(row, index, op->weights.bits);
    }
    return sum;
}

/* Writes one error; returns the larger of `peak` and the magnitude of the sum. */
static inline int32_t write_error(int32_t sum, int32_t shift, int32_t peak, rct_error_t *input_error)
{
    *input_error = rct_saturate_error(rct_round_shift(sum, shift));
    return rct_max(peak, rct_magnitude(sum));
}

/* Writes the whole input error with a given shift; returns the largest magnitude of a sum. */
static int32_t write_input_error(const rct_fully_connected_t *op, const rct_error_scale_t *scale,
                                 const rct_error_t *error, int32_t shift, rct_error_t *input_error)
{
    const int32_t depth = op->weights.depth;
    int32_t peak = 0;
    int32_t first = 0;
    for (; !(RCT_SPLIT_ROWS && op->weights.split) && first < depth - 3; first += 4) {
        int32_t sums[4];
        if (op->weights.bits == 8) {
            rct_fully_connected_grad_8_bits(op, scale, error, first, sums);
#if RCT_WIDE_WEIGHTS
        } else if (op->weights.bits > 8) {
            rct_fully_connected_grad_wide(op, scale, error, first, sums);
#endif
        } else {
            rct_fully_connected_grad_packed(op, scale, error, first, sums);
        }
        for (int32_t i = 0; i < 4; i++) {
            peak = write_error(sums[i], shift, peak, &input_error[first + i]);
        }
    }
    for (; first < depth; first++) {
        peak = write_error(sum_one(op, scale, error, first), shift, peak, &input_error[first]);
    }
    return peak;
}

static int32_t pass_error(const rct_fully_connected_t *op, const rct_grad_t *grad, const rct_error_t *error,
                          const rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t total_shift = backward->loss_exponent - backward->exponent;
    int32_t shift = rct_error_shift(*grad->gain, total_shift);
    const int32_t peak = write_input_error(op, &grad->scale, error, shift, input_error);
    if (rct_gain_update(grad->gain, peak, total_shift, &shift)) {
        write_input_error(op, &grad->scale, error, shift, input_error);
    }
    return shift;
}

/* Errors of 16 bits are multiplied with the step before they meet an input, and lose 8 bits then: the product
 * with an input fits 32 bits as with errors of 8. */
static inline uint32_t update_weights(const rct_row_t *row, const int8_t *input, int32_t zero_point,
                                      int32_t error, uint32_t random)
{
#if RCT_ERROR_BITS == 16
    const int32_t factor = rct_round_shift(error * row->step.mantissa, 8);
    rct_row_t scaled = *row;
    scaled.step.mantissa = 1;
    return factor == 0 ? random : rct_update_from_input(&scaled, input, zero_point, factor, random);
#else
    return rct_update_from_input(row, input, zero_point, error, random);
#endif
}

static void learn_rows(const rct_fully_connected_t *op, const rct_learn_t *learn, const int8_t *input,
                       const rct_error_t *error, rct_backward_t *backward)
{
    const rct_weights_t *weights = &op->weights;
    const bool is_per_channel = learn->weight_step.per_channel || learn->bias_step.per_channel;
    const uint32_t input_sum = rct_input_sum(input, weights->depth, op->input_zero_point);
    rct_row_t row = rct_row(weights, learn, 0, backward->exponent);
    uint32_t random = backward->random;
    for (int32_t channel = 0; channel < weights->channels; channel++) {
        const bool learns = rct_row_learns(weights, learn, channel);
        if (error[channel] != 0) {
            if (is_per_channel) {
                row.step = rct_weight_step(learn, weights->bits, channel, backward->exponent);
                row.bias_step = rct_step(&learn->bias_step, channel, backward->exponent);
            }
            if (learns) {
                rct_observe_product(learn, weights, channel, error[channel], input_sum, backward->exponent);
                random = update_weights(&row, input, op->input_zero_point, error[channel], random);
            }
            random = rct_update_bias(&row, error[channel], random);
        }
        if (learns) {
            row.weights += weights->row_bytes;
        }
        row.bias++;
    }
    backward->random = random;
}

void rct_fully_connected_grad(const rct_fully_connected_t *op, const rct_grad_t *grad, const int8_t *input,
                              const rct_error_t *error, rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t shift = input_error ? pass_error(op, grad, error, backward, input_error) : 0;
    if (grad->learn) {
        learn_rows(op, grad->learn, input, error, backward);
    }
    backward->exponent -= shift; /* the update takes the exponent of before */
}
