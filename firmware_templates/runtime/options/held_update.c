/* Updates by a gradient or by the momentum with it. */
#include <stddef.h>

#include "rct_options.h"
#define RCT_SPLIT_ROWS RCT_HAS_PARTS /* rows lie where rct_row() finds them */

#include "blocks.h"
#include "observe.h"
#include "rct_held.h"
#include "update.h"

#define DECAY_BITS    8
#define MOMENTUM_BITS 7

/* Brings a direction to 8 bits, rounded stochastically, so that its decay does not get stuck. */
static uint32_t keep(const int32_t *direction, int32_t count, int32_t shift, int8_t *momentum,
                     uint32_t random)
{
    for (int32_t i = 0; i < count; i++) {
        int32_t value = direction[i];
        if (shift > 0 && value != 0) {
            random = rct_random(random);
            value = (value + (int32_t)(random >> (32 - shift))) >> shift;
        }
        momentum[i] = rct_saturate_error(value);
    }
    return random;
}

/* gradient := decay * momentum + gradient, which becomes the momentum. Returns the exponent of both. */
static int32_t follow(const rct_held_t *held, int32_t block, int32_t place, int32_t *gradient, int32_t count,
                      int32_t exponent, rct_backward_t *backward)
{
    int8_t *momentum = &held->momentum[place];
    int16_t *held_exponent = &held->momentum_exponents[block];
    int32_t peak = 0;
    for (int32_t i = 0; i < count; i++) {
        peak = rct_max(peak, rct_magnitude(momentum[i]));
    }
    const int32_t decayed = *held_exponent + DECAY_BITS;
    const int32_t common =
        rct_common_exponent(rct_peak(gradient, count), exponent, peak * held->decay, decayed);
    for (int32_t i = 0; i < count; i++) {
        const int32_t there = peak ? rct_shifted(momentum[i] * held->decay, decayed - common) : 0;
        gradient[i] = there + rct_shifted(gradient[i], exponent - common);
    }
    const int32_t shift = rct_max(rct_bit_length((uint32_t)rct_peak(gradient, count)) - MOMENTUM_BITS, 0);
    backward->random = keep(gradient, count, shift, momentum, backward->random);
    *held_exponent = (int16_t)(common - shift);
    return common;
}

void rct_update_held_row(const rct_held_t *held, int32_t channel, int32_t *gradient, int32_t exponent,
                         rct_backward_t *backward)
{
    const int32_t depth = held->shape->depth;
    const int32_t octave = rct_held_octave(held);
    const int32_t block = rct_held_row(held, channel);
    if (rct_peak(gradient, depth) == 0) {
        return;
    }
    rct_observe_row(&held->learn, held->shape, channel, gradient, exponent + octave);
    if (held->momentum) {
        exponent = follow(held, block, block * depth, gradient, depth, exponent, backward);
    }
    const rct_row_t row = rct_row(held->shape, &held->learn, channel, exponent + octave);
    backward->random = rct_update_from_sums(&row, gradient, backward->random);
}

void rct_update_held_bias(const rct_held_t *held, int32_t channel, int32_t gradient, int32_t exponent,
                          rct_backward_t *backward)
{
    const int32_t rows = held->rows;
    if (gradient == 0) {
        return;
    }
    if (held->momentum) {
        const int32_t place = rows * held->shape->depth + channel;
        exponent = follow(held, rows + channel, place, &gradient, 1, exponent, backward);
    }
    const rct_row_t row = rct_row(held->shape, &held->learn, channel, exponent + rct_held_octave(held));
    backward->random = rct_update_bias(&row, gradient, backward->random);
}

void rct_hold_row(const rct_held_t *held, int32_t channel, int32_t *gradient, int32_t exponent,
                  rct_backward_t *backward)
{
    const int32_t depth = held->shape->depth;
    exponent -= rct_held_octave(held);
    if (held->sums) {
        const int32_t block = rct_held_row(held, channel);
        rct_add_to_sums(held, block, block * depth, gradient, depth, exponent);
    } else {
        rct_update_held_row(held, channel, gradient, exponent, backward);
    }
}

void rct_hold_bias(const rct_held_t *held, int32_t channel, int32_t gradient, int32_t exponent,
                   rct_backward_t *backward)
{
    const int32_t rows = held->rows;
    exponent -= rct_held_octave(held);
    if (held->sums) {
        rct_add_to_sums(held, rows + channel, rows * held->shape->depth + channel, &gradient, 1, exponent);
    } else {
        rct_update_held_bias(held, channel, gradient, exponent, backward);
    }
}
