/* Updates by a gradient or by the momentum with it. */
#include <stddef.h>

#include "blocks.h"
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
static int32_t follow(const rct_held_t *held, int32_t place, int32_t part, int32_t *gradient, int32_t count,
                      int32_t exponent, rct_backward_t *backward)
{
    int8_t *momentum = &held->momentum[place];
    int16_t *held_exponent = &held->momentum_exponents[part];
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
                         int32_t bias_gradient, int32_t bias_exponent, rct_backward_t *backward)
{
    const rct_weights_t *shape = held->shape;
    const int32_t depth = shape->depth;
    const int32_t place = channel * (depth + 1);
    if (rct_peak(gradient, depth) != 0) {
        if (held->momentum) {
            exponent = follow(held, place, 2 * channel, gradient, depth, exponent, backward);
        }
        const rct_row_t row = rct_row(shape, &held->learn, channel, exponent);
        backward->random = rct_update_from_sums(&row, gradient, backward->random);
    }
    if (bias_gradient != 0) {
        if (held->momentum) {
            bias_exponent =
                follow(held, place + depth, 2 * channel + 1, &bias_gradient, 1, bias_exponent, backward);
        }
        const rct_row_t row = rct_row(shape, &held->learn, channel, bias_exponent);
        backward->random = rct_update_bias(&row, bias_gradient, backward->random);
    }
}
