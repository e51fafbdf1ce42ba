/* The gain of sums that are brought to the width of errors, and what is done where it is wrong (ARITHMETIC.md
 * 3).
 */
#ifndef RCT_GAIN_H
#define RCT_GAIN_H

#include "error_scale.h"

/* The magnitudes, in 8 bits, that the largest error may have: beyond, bits or errors are lost. */
#define RCT_LARGEST_MIN 16
#define RCT_LARGEST_MAX 127

/* Moves the gain after sums of largest magnitude `peak` were written with `*shift`. Returns true where they
 * must be written again with the new `*shift`, which is right for this sample: on the first that has an
 * error, and where the gain is far from what this one shows. */
static inline bool rct_gain_update(rct_gain_t *gain, int32_t peak, int32_t total_shift, int32_t *shift)
{
    if (peak == 0) {
        *shift = 0;
        return false;
    }
    const rct_gain_t seen = rct_gain_seen(peak, total_shift);
    const int32_t largest = peak >> *shift >> (RCT_ERROR_BITS - 8);
    const int32_t written = *shift;
    if (*gain == RCT_GAIN_UNSET) {
        *gain = seen;
    }
    if (largest < RCT_LARGEST_MIN || largest > RCT_LARGEST_MAX) {
        *shift = rct_error_shift(seen, total_shift);
    }
    *gain = rct_gain_next(*gain, seen);
    return *shift != written;
}

#endif
