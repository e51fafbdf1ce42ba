/* FULLY_CONNECTED, backward: one pass over the weights, row by row, updated in place. */
#include "../rct.h"
#include "error_scale.h"
#include "integers.h"
#include "pack.h"
#include "update.h"

static void learn_row(const rct_fully_connected_t *op, const rct_grad_t *grad, rct_row_update_t *update,
                      int32_t channel, rct_backward_t *backward)
{
    const rct_learn_t *learn = grad->learn;
    const int32_t bits = op->weights.bits;
    uint8_t *packed = &learn->rows[(uint32_t)channel * op->weights.row_bytes];
    int8_t *weights = bits == 8 ? (int8_t *)packed : grad->row; /* unpacked there by the caller */
    if (learn->stochastic) {
        backward->random = rct_update_stochastic(update, weights, backward->random);
    } else {
        rct_update_truncate(update, weights);
    }
    if (bits != 8) {
        rct_pack_row(weights, update->depth, bits, packed);
    }
}

static void add_scaled(const int8_t *restrict weights, int32_t error, int32_t depth, int32_t *restrict sums)
{
    for (int32_t i = 0; i < depth; i++) {
        sums[i] += error * weights[i];
    }
}

static void finish_input_error(const rct_grad_t *grad, int32_t depth, rct_backward_t *backward,
                               int8_t *restrict input_error)
{
    const int32_t *restrict sums = grad->sums;
    const int32_t total_shift = backward->loss_exponent - backward->exponent;
    int32_t peak = 0;
    for (int32_t i = 0; i < depth; i++) {
        peak = rct_max(peak, rct_magnitude(sums[i]));
    }
    int32_t shift = 0;
    if (peak != 0) {
        const rct_gain_t seen = rct_gain_seen(peak, total_shift);
        const rct_gain_t gain = *grad->gain == RCT_GAIN_UNSET ? seen : *grad->gain;
        shift = rct_error_shift(gain, total_shift);
        *grad->gain = rct_gain_next(gain, seen);
    }
    for (int32_t i = 0; i < depth; i++) {
        input_error[i] = rct_saturate_error(rct_round_shift(sums[i], shift));
    }
    backward->exponent -= shift;
}

void rct_fully_connected_grad(const rct_fully_connected_t *op, const rct_grad_t *grad, const int8_t *input,
                              const int8_t *error, rct_backward_t *backward, int8_t *input_error)
{
    const rct_learn_t *learn = grad->learn;
    const int32_t depth = op->weights.depth;
    rct_row_update_t update = {input, depth, op->input_zero_point, 0, 0, rct_top(op->weights.bits)};
    for (int32_t i = 0; input_error && i < depth; i++) {
        grad->sums[i] = 0;
    }
    for (int32_t channel = 0; channel < op->weights.channels; channel++) {
        if (error[channel] == 0) {
            continue;
        }
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, depth, grad->row);
        if (input_error) {
            add_scaled(weights, rct_channel_error(&grad->scale, channel, error[channel]), depth, grad->sums);
        }
        if (learn) {
            const rct_step_t step = rct_step(&learn->weight_step, channel, backward->exponent);
            update.factor = error[channel] * step.mantissa;
            update.shift = step.shift;
            learn_row(op, grad, &update, channel, backward);
            rct_update_bias(learn, channel, error[channel], backward);
        }
    }
    if (input_error) {
        finish_input_error(grad, depth, backward, input_error);
    }
}
