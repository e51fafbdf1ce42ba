/* How the gradient of a row stays within 32 bits with errors of 16 (ARITHMETIC.md 4); with 8 nothing is to be
 * done.
 */
#ifndef RCT_GRADIENT_H
#define RCT_GRADIENT_H

#include "../rct.h"
#include "integers.h"

/* Bits that the errors of one channel, `count` of them `stride` apart, lose before they are multiplied with
 * inputs: their magnitudes come to less than 2**22, and an input to at most 255. */
static inline int32_t rct_gradient_shift(const rct_error_t *error, int32_t count, int32_t stride)
{
    int32_t sum = 0; /* 2**15 errors of 2**15 fit */
    for (int32_t i = 0; RCT_ERROR_BITS > 8 && i < count; i++, error += stride) {
        sum += rct_magnitude(*error);
    }
    return rct_max(rct_bit_length((uint32_t)sum) - 22, 0);
}

/* An error that lost these bits. */
static inline int32_t rct_gradient_error(int32_t error, int32_t shift)
{
    return RCT_ERROR_BITS > 8 ? rct_round_shift(error, shift) : error;
}

/* Brings the gradient of a row to the unit that it has with errors of 8 bits. */
static inline void rct_gradient_in_8_bits(int32_t *gradient, int32_t depth, int32_t shift)
{
    for (int32_t k = 0; RCT_ERROR_BITS > 8 && k < depth; k++) {
        gradient[k] = rct_round_shift(gradient[k], 8 - shift);
    }
}

#endif
