/* The gain of sums that are brought to 8 bits, and what is done where it is not known yet (ARITHMETIC.md 3).
 */
#ifndef RCT_GAIN_H
#define RCT_GAIN_H

#include "error_scale.h"

/* Moves the gain after sums of largest magnitude `peak` were written with `*shift`. Returns true where they
 * must be written again with the new `*shift`: on the first sample that has an error. */
static inline bool rct_gain_update(rct_gain_t *gain, int32_t peak, int32_t total_shift, int32_t *shift)
{
    if (peak == 0) {
        *shift = 0;
        return false;
    }
    const rct_gain_t seen = rct_gain_seen(peak, total_shift);
    const bool unset = *gain == RCT_GAIN_UNSET;
    if (unset) {
        *gain = seen;
        *shift = rct_error_shift(seen, total_shift);
    }
    *gain = rct_gain_next(*gain, seen);
    return unset;
}

#endif
