/* Bit-widths that follow the training: what is observed, and when widths change (ARITHMETIC.md 10). */
#include "adapt.h"
#include "integers.h"
#include "pack.h"
#include "update.h"

#define STEP_BITS    16 /* fraction of what is asked */
#define LARGEST_BITS 22 /* the mean step of a row counts up to 64 */
#define RATE_BITS    16

static bool crowds(const rct_adaptation_t *adaptation, int32_t layer)
{
    const rct_weights_t *weights = rct_exported(&adaptation->layers[layer]);
    const int32_t bits = rct_bits_of(adaptation, layer);
    const int32_t top = (1 << (bits - 1)) - 1;
    const uint32_t row_bytes = rct_row_bytes(weights, bits);
    const uint8_t *row = rct_rows_of(adaptation, layer);
    uint32_t at_ends = 0;
    for (int32_t channel = 0; channel < adaptation->layers[layer].rows; channel++, row += row_bytes) {
        for (int32_t i = 0; i < weights->depth; i++) {
            at_ends += rct_magnitude(rct_read_weight(row, i, bits)) >= top;
        }
    }
    /* Weights that spread evenly over the range have 1.5 / 2**(bits - 1) of them on the last integers. */
    const uint32_t share = adaptation->crowd + (3u << STEP_BITS >> bits);
    const uint32_t count = (uint32_t)adaptation->layers[layer].rows * weights->depth;
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

/* The mean step of a weight in the interval, at the exported learning rate. */
static uint32_t mean_of(const rct_adaptation_t *adaptation, uint64_t asked, uint32_t weights)
{
#if RCT_HAS_RATES
    const uint64_t mean = (asked / weights << RATE_BITS) / *adaptation->rates;
    return mean < 1u << LARGEST_BITS ? (uint32_t)mean : 1u << LARGEST_BITS;
#else
    return (uint32_t)(asked / ((uint64_t)weights * adaptation->interval));
#endif
}

static void take_means(const rct_adaptation_t *adaptation)
{
    for (int32_t i = 0; i < adaptation->count; i++) {
        const rct_adapted_layer_t *layer = &adaptation->layers[i];
        const uint32_t weights = (uint32_t)layer->rows * rct_exported(layer)->depth;
        rct_width_t *width = &adaptation->widths[i];
        width->gavg = weights == 0 ? 0 : mean_of(adaptation, width->asked, weights);
        width->asked = 0;
    }
#if RCT_HAS_RATES
    *adaptation->rates = 0;
#endif
}

void rct_adapt(const rct_adaptation_t *adaptation, rct_backward_t *backward)
{
#if RCT_HAS_RATES
    *adaptation->rates += *adaptation->rate;
#endif
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

void rct_ask(const rct_learn_t *learn, const rct_weights_t *weights, int32_t channel, uint64_t total,
             int32_t exponent)
{
    const rct_bound_t *bound = (const rct_bound_t *)(const void *)learn;
    const rct_step_t step = rct_weight_step(learn, weights->bits, channel, exponent);
    const uint64_t limit = (uint64_t)weights->depth << LARGEST_BITS;
    uint64_t steps = (total > UINT32_MAX ? UINT32_MAX : total) * (uint32_t)step.mantissa;
    if (step.shift > STEP_BITS) {
        steps >>= step.shift - STEP_BITS;
    } else {
        steps <<= STEP_BITS - step.shift;
    }
    *bound->asked += steps < limit ? steps : limit;
}
