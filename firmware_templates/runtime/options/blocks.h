/* Blocks of integers that share one exponent. */
#ifndef RCT_BLOCKS_H
#define RCT_BLOCKS_H

#include "integers.h"

#define RCT_BLOCK_BITS 14

/* value / 2**shift, halves rounded up; a shift below 0 multiplies. Shifts beyond 31 leave nothing of values
 * below 2**30. */
static inline int32_t rct_shifted(int32_t value, int32_t shift)
{
    return shift < 0 ? value * (int32_t)(1u << -shift) : rct_round_shift(value, rct_min(shift, 31));
}

/* Largest magnitude. */
static inline int32_t rct_peak(const int32_t *values, int32_t count)
{
    int32_t peak = 0;
    for (int32_t i = 0; i < count; i++) {
        peak = rct_max(peak, rct_magnitude(values[i]));
    }
    return peak;
}

/* The exponent of a sum of two blocks by their peaks, the larger block brought to 14 bits. A block of 0 does
 * not count; the first one is not 0. */
static inline int32_t rct_common_exponent(int32_t peak, int32_t exponent, int32_t other_peak,
                                          int32_t other_exponent)
{
    const int32_t common = exponent + RCT_BLOCK_BITS - rct_bit_length((uint32_t)peak);
    const int32_t other = other_exponent + RCT_BLOCK_BITS - rct_bit_length((uint32_t)other_peak);
    return other_peak == 0 ? common : rct_min(common, other);
}

#endif
