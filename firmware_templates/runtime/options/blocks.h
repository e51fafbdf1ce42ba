/* Blocks of integers that share one exponent. */
#ifndef RCT_BLOCKS_H
#define RCT_BLOCKS_H

#include "integers.h"

/* value / 2**shift, halves rounded up; a shift below 0 multiplies. Shifts beyond 31 leave nothing of values
 * below 2**30. */
static inline int32_t rct_shifted(int32_t value, int32_t shift)
{
    return shift < 0 ? value * (int32_t)(1u << -shift) : rct_round_shift(value, rct_min(shift, 31));
}

#endif
