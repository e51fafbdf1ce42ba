/* From an accumulator to an activation with TFLite-Micro's two roundings (ARITHMETIC.md 1). */
#ifndef RCT_REQUANTIZE_H
#define RCT_REQUANTIZE_H

#include "../rct.h"
#include "integers.h"

/* What one output channel needs of rct_requant_t. */
typedef struct {
    int32_t multiplier;
    int32_t left;  /* one of the two shifts is 0 */
    int32_t right; /* */
    int32_t zero_point;
    int32_t low; /* bounds without the zero point */
    int32_t high;
} rct_requant_channel_t;

static inline rct_requant_channel_t rct_requant_channel(const rct_requant_t *requant, int32_t channel)
{
    const int32_t index = requant->per_channel ? channel : 0;
    const int32_t shift = requant->shift[index];
    const rct_requant_channel_t result = {
        .multiplier = requant->multiplier[index],
        .left = rct_max(shift, 0),
        .right = rct_max(-shift, 0),
        .zero_point = requant->zero_point,
        .low = requant->act_min - requant->zero_point,
        .high = requant->act_max - requant->zero_point,
    };
    return result;
}

/* (a * b + 2**30) >> 31 for b above 0. */
static inline int32_t rct_high_product(int32_t a, int32_t b)
{
#if RCT_SMALL_CORE
    const int32_t a_high = a >> 16, b_high = b >> 16;
    const uint32_t a_low = (uint16_t)a, b_low = (uint16_t)b;
    const int32_t mixed = a_high * (int32_t)b_low + (int32_t)(a_low * b_low >> 16);
    const uint32_t low = a_low * (uint32_t)b_high + (uint16_t)mixed;
    return (a_high * b_high + (mixed >> 16)) * 2 + (int32_t)((low + (1u << 14)) >> 15);
#else
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
#endif
}

/* value * multiplier * 2**(left - right - 31), rounded twice. A zero point can be added: multipliers are
 * quotients of floats, at most 2**31 - 128, or (MUL's, of three) meet a value below 2**31 - 2**15. */
static inline int32_t rct_scale(int32_t value, int32_t multiplier, int32_t left, int32_t right)
{
    if (left > 0) {
        const int32_t limit = INT32_MAX >> left;
        value = rct_clamp(value, -limit, limit) * (1 << left);
    }
    const int32_t high = rct_high_product(value, multiplier);
    return rct_round_away(high, right); /* the smallest `high` is -(2**31 - 1) */
}

static inline int8_t rct_requantize(int32_t acc, const rct_requant_channel_t *channel)
{
    if (acc <= 0 && channel->low >= 0) { /* half of the outputs before a RELU: multipliers are above 0 */
        return (int8_t)(channel->low + channel->zero_point);
    }
    const int32_t rounded = rct_scale(acc, channel->multiplier, channel->left, channel->right);
    return (int8_t)(rct_clamp(rounded, channel->low, channel->high) + channel->zero_point);
}

#endif
