/* SOFTMAX, forward, in TFLite-Micro's fixed point: its exponentials come from a table. */
#include "../rct.h"
#include "integers.h"

#define SUM_INTEGER_BITS 12
#define ONE_OF_TWO_BITS  (1 << 29) /* 1.0 with two integer bits */

/* The product of two numbers in 2**-31, rounded. */
static inline int32_t high_product(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* value / 2**shift, halves away from zero. */
static inline int32_t divide_by_power(int32_t value, int32_t shift)
{
    const int32_t magnitude = value < 0 ? -value : value;
    const int32_t rounded = rct_round_shift(magnitude, shift);
    return value < 0 ? -rounded : rounded;
}

static inline int32_t saturated_times_4(int32_t value)
{
    const int32_t limit = 1 << 29;
    return value >= limit ? INT32_MAX : value < -limit ? INT32_MIN : value * 4;
}

/* 1 / (1 + x) for x in 0 to 1, in 2**-31, by three steps of Newton and Raphson. */
static int32_t reciprocal_of_one_plus(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    int32_t result = 1515870810 + high_product(half, -1010580540); /* 48 / 17 - 32 / 17 * half */
    for (int32_t step = 0; step < 3; step++) {
        const int32_t rest = ONE_OF_TWO_BITS - high_product(half, result);
        result += saturated_times_4(high_product(result, rest));
    }
    return result >= 1 << 30 ? INT32_MAX : result * 2;
}

static void softmax_row(const rct_softmax_t *op, const int8_t *input, int8_t *output)
{
    int32_t peak = INT8_MIN;
    for (int32_t i = 0; i < op->classes; i++) {
        peak = rct_max(peak, input[i]);
    }
    uint32_t total = 0;
    for (int32_t i = 0; i < op->classes; i++) {
        total += (uint32_t)divide_by_power(op->exp_table[peak - input[i]], SUM_INTEGER_BITS);
    }
    const int32_t headroom = 32 - rct_bit_length(total);
    const int32_t scale = reciprocal_of_one_plus((int32_t)((total << headroom) - (1u << 31)));
    const int32_t shift = SUM_INTEGER_BITS - headroom + 31 - 8;
    for (int32_t i = 0; i < op->classes; i++) {
        const int32_t value = divide_by_power(high_product(scale, op->exp_table[peak - input[i]]), shift);
        output[i] = (int8_t)rct_clamp(value + INT8_MIN, INT8_MIN, INT8_MAX);
    }
}

void rct_softmax(const rct_softmax_t *op, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < op->rows; row++) {
        softmax_row(op, &input[row * op->classes], &output[row * op->classes]);
    }
}
