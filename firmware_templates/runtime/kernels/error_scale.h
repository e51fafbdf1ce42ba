/* How errors are scaled between ops (ARITHMETIC.md 3). */
#ifndef RCT_ERROR_SCALE_H
#define RCT_ERROR_SCALE_H

#include "../rct.h"
#include "integers.h"

/* An error times its channel's ratio, with guard bits. */
static inline int32_t rct_channel_error(const rct_error_scale_t *scale, int32_t channel, int32_t error)
{
    const int32_t dropped = RCT_ERROR_BITS > 8 ? scale->dropped_bits : 0;
    if (!scale->ratio) {
        return rct_round_shift(error, dropped);
    }
    const int32_t shift = 14 - scale->guard_bits + dropped;
    return (error * scale->ratio[channel] + (1 << (shift - 1))) >> shift;
}

/* The shift that brings sums to 8 bits; 0 while the gain is unset. */
int32_t rct_shift_to_8_bits(rct_gain_t gain, int32_t total_shift);

/* The shift that brings the sums of an input error to the width of errors. `total_shift` is the exponent at
 * the loss minus that at the op's output. */
static inline int32_t rct_error_shift(rct_gain_t gain, int32_t total_shift)
{
    return rct_shift_to_8_bits(gain, total_shift + RCT_ERROR_BITS - 8);
}

/* The gain that a sum of this magnitude, above 0, shows. */
rct_gain_t rct_gain_seen(int32_t peak, int32_t total_shift);

/* The gain for the next sample. */
rct_gain_t rct_gain_next(rct_gain_t gain, rct_gain_t seen);

#endif
