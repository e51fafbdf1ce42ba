/* Factors of the error at the loss: rate, weight, clipping (ARITHMETIC.md 7). */
#include "rct_rates.h"
#include "blocks.h"

#define FACTOR_BITS 15
#define ERROR_BITS  (RCT_ERROR_BITS - 1)
#define NORM_BITS   8 /* of errors whose squares are summed */
#define RATE_BITS   16
#define WEIGHT_BITS 8

/* mantissa * 2**-shift, mantissa in 2**14 to 2**15 - 1. */
typedef struct {
    uint32_t mantissa;
    int32_t shift;
} factor_t;

/* value * 2**-shift, value above 0; what is below 15 bits is cut off. */
static factor_t factor_of(uint32_t value, int32_t shift)
{
    const int32_t excess = rct_bit_length(value) - FACTOR_BITS;
    const factor_t factor = {excess > 0 ? value >> excess : value << -excess, shift - excess};
    return factor;
}

static bool is_larger(factor_t a, factor_t b)
{
    return a.shift < b.shift || (a.shift == b.shift && a.mantissa > b.mantissa);
}

static uint32_t square_root(uint32_t value)
{
    uint32_t root = 0;
    for (uint32_t bit = 1u << 30; bit != 0; bit >>= 2) {
        if (value >= root + bit) {
            value -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return root;
}

/* Brings products of errors back to their bits; `stride` 0 takes one multiplier for all. */
static void multiply(const uint16_t *multipliers, int32_t stride, int32_t shift, int32_t count,
                     rct_error_t *error, rct_backward_t *backward)
{
    int32_t peak = 0;
    for (int32_t i = 0; i < count; i++) {
        peak = rct_max(peak, rct_magnitude(error[i]) * multipliers[i * stride]);
    }
    const int32_t excess = rct_bit_length((uint32_t)peak) - ERROR_BITS;
    for (int32_t i = 0; i < count; i++) {
        error[i] = rct_saturate_error(rct_shifted(error[i] * multipliers[i * stride], excess));
    }
    backward->exponent += shift - excess;
    backward->loss_exponent = backward->exponent;
}

/* What remains of the weight after clipping. */
static factor_t clipped(const rct_error_factor_t *factor, uint16_t weight, const rct_error_t *error,
                        int32_t exponent)
{
    const factor_t limit = {factor->limit_mantissa, factor->limit_shift};
    const factor_t whole = {weight, WEIGHT_BITS};
    uint32_t squares = 0;
    for (int32_t i = 0; i < factor->count; i++) {
        const int32_t value = rct_clamp(rct_round_shift(error[i], RCT_ERROR_BITS - NORM_BITS), -127, 127);
        squares += (uint32_t)(value * value);
    }
    const uint32_t root = square_root(squares << factor->norm_shift);
    const int32_t norm_shift = factor->norm_shift / 2 + exponent - (RCT_ERROR_BITS - NORM_BITS);
    if (!is_larger(factor_of(root * weight, norm_shift + WEIGHT_BITS), limit)) {
        return whole;
    }
    const factor_t norm = factor_of(root, norm_shift);
    const factor_t part = {(limit.mantissa << FACTOR_BITS) / norm.mantissa,
                           FACTOR_BITS + limit.shift - norm.shift};
    return part;
}

void rct_scale_error(const rct_error_factor_t *factor, uint32_t rate, uint16_t weight, rct_error_t *error,
                     rct_backward_t *backward)
{
    factor_t part = {weight, WEIGHT_BITS};
    if (factor->limit_mantissa != 0) {
        part = clipped(factor, weight, error, backward->exponent);
    }
    const factor_t start = factor_of(rate, RATE_BITS);
    const factor_t product = factor_of(start.mantissa * part.mantissa, start.shift + part.shift);
    const uint16_t multiplier = (uint16_t)product.mantissa;
    multiply(&multiplier, 0, product.shift, factor->count, error, backward);
}

void rct_weigh_outputs(const uint16_t *weights, int32_t count, rct_error_t *error, rct_backward_t *backward)
{
    multiply(weights, 1, WEIGHT_BITS, count, error, backward);
}
