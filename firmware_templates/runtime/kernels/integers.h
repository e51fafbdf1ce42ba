/* Small integer functions that the kernels share. */
#ifndef RCT_INTEGERS_H
#define RCT_INTEGERS_H

#include <stdint.h>

#include "../rct_error.h"

/* Cores of Armv6-M have no multiplication to 64 bits: requantize.h builds it of four. Elsewhere it can be set
 * to test that form. */
#ifndef RCT_SMALL_CORE
    #if defined(__ARM_ARCH) && __ARM_ARCH == 6
        #define RCT_SMALL_CORE 1
    #else
        #define RCT_SMALL_CORE 0
    #endif
#endif

/* RCT_INLINE: a copy for each call, as constant arguments are worth it. RCT_APART: never a part of its
 * caller, so that a loop has all registers. */
#ifdef __GNUC__
    #define RCT_INLINE static inline __attribute__((always_inline))
    #define RCT_APART  static __attribute__((noinline))
#else
    #define RCT_INLINE static inline
    #define RCT_APART  static
#endif

/* The arithmetic leans on it, and C99 leaves it to the compiler: >> keeps the sign. */
typedef char rct_right_shift_keeps_the_sign[(-3 >> 1) == -2 ? 1 : -1];

static inline int32_t rct_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t rct_max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static inline int32_t rct_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static inline int32_t rct_magnitude(int32_t value)
{
    return value < 0 ? -value : value;
}

static inline rct_error_t rct_saturate_error(int32_t value)
{
    return (rct_error_t)rct_clamp(value, -RCT_ERROR_MAX, RCT_ERROR_MAX);
}

/* value / 2**shift, halves rounded up; shift 0 to 31. */
static inline int32_t rct_round_shift(int32_t value, int32_t shift)
{
    /* (value + half) >> shift in a form that no value overflows */
    return shift == 0 ? value : ((value >> (shift - 1)) + 1) >> 1;
}

/* value / 2**shift, halves rounded away from zero; shift 0 to 31. A negative value is above -2**31. */
static inline int32_t rct_round_away(int32_t value, int32_t shift)
{
    return shift == 0 ? value
                      : rct_round_shift(value + (value >> 31), shift); /* a negative half moves below */
}

/* A slope at the loss as an error; the largest of them has `bits` bits. */
static inline rct_error_t rct_loss_error(int32_t slope, int32_t bits)
{
    const int32_t shift = bits - (RCT_ERROR_BITS - 1);
    return rct_saturate_error(shift < 0 ? slope * (1 << -shift) : rct_round_shift(slope, shift));
}

/* Bits that the value needs: 0 for 0, 1 for 1, 2 for 2 and 3. */
static inline int32_t rct_bit_length(uint32_t value)
{
    int32_t bits = 0;
    while (value != 0) {
        value >>= 1;
        bits++;
    }
    return bits;
}

#endif
