/* Bit-widths that follow the training: what is observed, and when widths change (ARITHMETIC.md 10). */
#include "adapt.h"
#include "integers.h"
#include "learn_channel.h"
#include "pack.h"
#include "update.h"

#define STEP_BITS    16 /* fraction of what is asked */
#define LARGEST_BITS 22 /* the mean step of a row counts up to 64 */

static bool crowds(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_weights_t *weights = rct_exported(&adaptation->layers[layer]);
    const int32_t bits = rct_bits_of(adaptation, layer);
    const int32_t top = (1 << (bits - 1)) - 1;
    const uint32_t row_bytes = rct_row_bytes(weights, bits);
    const uint8_t *row = rct_rows_of(adaptation, layer);
    uint32_t at_ends = 0;
    for (int32_t channel = 0; channel < weights->channels; channel++, row += row_bytes) {
        for (int32_t i = 0; i < weights->depth; i++) {
            at_ends += rct_magnitude(rct_read_weight(row, i, bits)) >= top;
        }
    }
    /* Weights that spread evenly over the range have 1.5 / 2**(bits - 1) of them on the last integers. */
    const uint32_t share = adaptation->crowd + (3u << STEP_BITS >> bits);
    const uint32_t count = (uint32_t)weights->channels * weights->depth;
    return (uint64_t)at_ends << STEP_BITS > (uint64_t)share * count;
}

static void widen_ranges(const rct_adaptation_t *adaptation, rct_backward_t *backward)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        const bool has_room = rct_octave_of(adaptation, i) < adaptation->layers[i].highest_octave;
        if (has_room && crowds(adaptation, i)) {
            rct_halve(adaptation, i, rct_bits_of(adaptation, i), backward);
        }
    }
}

static void take_means(const rct_adaptation_t *adaptation)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        const rct_weights_t *weights = rct_exported(&adaptation->layers[i]);
        const uint64_t count = (uint64_t)weights->channels * weights->depth * adaptation->interval;
        rct_width_t *width = &adaptation->widths[i];
        width->gavg = (uint32_t)(width->asked / count);
        width->asked = 0;
    }
}

void rct_adapt(const rct_adaptation_t *adaptation, rct_backward_t *backward)
{
    if (++*adaptation->steps < adaptation->interval) {
        return;
    }
    *adaptation->steps = 0;
    take_means(adaptation);
    widen_ranges(adaptation, backward);
    rct_decide(adaptation);
    /* Who pays does so first: the budget holds in between, too. */
    for (int32_t i = 0; i < adaptation->count; i++) {
        const int32_t planned = adaptation->widths[i].planned;
        if (planned < rct_bits_of(adaptation, i)) {
            rct_halve(adaptation, i, planned, backward);
        }
    }
    for (int32_t i = 0; i < adaptation->count; i++) {
        if (adaptation->widths[i].planned > rct_bits_of(adaptation, i)) {
            rct_double(adaptation, i);
        }
    }
}

/* Steps that a channel's weights are asked for by gradients whose magnitudes add up to `total`. */
static uint64_t asked(const rct_learn_t *learn, const rct_weights_t *weights, int32_t channel, uint64_t total,
                      int32_t exponent)
{
    const rct_step_t step = rct_weight_step(learn, weights->bits, channel, exponent);
    const uint64_t limit = (uint64_t)weights->depth << LARGEST_BITS;
    uint64_t steps = (total > UINT32_MAX ? UINT32_MAX : total) * (uint32_t)step.mantissa;
    if (step.shift > STEP_BITS) {
        steps >>= step.shift - STEP_BITS;
    } else {
        steps <<= STEP_BITS - step.shift;
    }
    return steps < limit ? steps : limit;
}

void rct_observed_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                                int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_bound_t *bound = (const rct_bound_t *)(const void *)grad->learn;
    uint64_t total = 0;
    for (int32_t k = 0; k < shape->depth; k++) {
        total += (uint32_t)rct_magnitude(grad->sums[k]);
    }
    *bound->asked += asked(grad->learn, shape, channel, total, backward->exponent);
    rct_learn_channel(shape, grad, channel, bias_gradient, backward);
}

/* The gradient of weight k is error * (input[k] - zero_point): one sum serves all channels. */
static void observe_fully_connected(const rct_bound_t *bound, const int8_t *input, const int8_t *error,
                                    int32_t exponent)
{
    const rct_fully_connected_t *op = &bound->op.fully_connected;
    const int32_t depth = op->weights.depth;
    uint32_t total = 0;
    for (int32_t k = 0; k < depth; k++) {
        total += (uint32_t)rct_magnitude(input[k] - op->input_zero_point);
    }
    for (int32_t channel = 0; channel < op->weights.channels; channel++) {
        const uint32_t gradients = (uint32_t)rct_magnitude(error[channel]) * total;
        *bound->asked += asked(&bound->learn, &op->weights, channel, gradients, exponent);
    }
}

void rct_adapted_fully_connected_grad(const rct_adaptation_t *adaptation, int32_t layer, const int8_t *input,
                                      const int8_t *error, rct_backward_t *backward, int8_t *input_error)
{
    rct_bound_t bound;
    rct_bind_grad(adaptation, layer, &bound);
    backward->exponent += bound.octave;
    observe_fully_connected(&bound, input, error, backward->exponent);
    rct_fully_connected_grad(&bound.op.fully_connected, &bound.grad, input, error, backward, input_error);
    backward->exponent -= 2 * bound.octave;
}
