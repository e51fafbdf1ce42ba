/* The update of a row of weights in place (ARITHMETIC.md 6).
 *
 * Many updates round to 0: the loops read gradients and draw, and touch a weight only where it changes. So
 * packed rows are not unpacked.
 */
#include "update.h"
#include "pack.h"

#define INPUT_BITS 8  /* |input - zero_point| <= 255 */
#define MANY_BITS  26 /* up to 31 steps */
#define FEW_BITS   29 /* up to 3 steps */

/* More steps than these never change a weight otherwise: from one end of its range to the other. */
#define MOST_STEPS (RCT_WIDE_WEIGHTS ? 65535 : 255)

/* What is added before the shift, so that it rounds: random bits, or what makes a negative product go toward
 * zero. */
static inline int32_t random_noise(uint32_t random, int32_t shift)
{
    return (int32_t)(random >> (32 - shift));
}

static inline int32_t toward_zero(bool negative, int32_t shift)
{
    return negative ? (int32_t)((1u << shift) - 1u) : 0;
}

static void subtract_packed(const rct_row_t *row, int32_t index, int32_t steps)
{
#if RCT_WIDE_WEIGHTS
    if (row->bits > 8) {
        rct_subtract_wide(row->weights, index, row->bits, steps);
        return;
    }
#endif
    const int32_t top = (1 << (row->bits - 1)) - 1;
    const int32_t weight = rct_read_weight(row->weights, index, row->bits);
    rct_write_weight(row->weights, index, row->bits, rct_clamp(weight - steps, -top, top));
}

static inline void subtract_8_bits(int8_t *weight, int32_t steps)
{
    int32_t value = *weight - steps;
#if RCT_SMALL_CORE
    value = value > 127 ? 127 : value;
    value = value < -127 ? -127 : value;
#else
    if ((uint32_t)(value + 127) > 254u) { /* one comparison: few weights are at the end */
        value = value < 0 ? -127 : 127;
    }
#endif
    *weight = (int8_t)value;
}

/* weight := clamp(weight - steps, top) for weight number `index`. */
static inline void subtract(const rct_row_t *row, int32_t index, int32_t steps)
{
    if (row->bits == 8) {
        subtract_8_bits((int8_t *)&row->weights[index], steps);
    } else {
        subtract_packed(row, index, steps);
    }
}

/* scale * 2**-bits turns an input without its zero point into steps.
 *
 *     steps = (product + (random >> (32 - shift))) >> shift
 *           = ((product << (bits - shift)) + (random >> (32 - bits))) >> bits
 *
 * for each `bits` from `shift` on with which it fits 32 bits: the bits of the draw below its top `shift`
 * cannot carry. Where bits = shift it always fits: |error| <= 127, mantissa < 2**15 and |input - zero_point|
 * <= 255 give a product below 2**30, and so is the noise. */
typedef struct {
    uint32_t scale; /* (error * mantissa) << (bits - shift) */
    int32_t bits;
} rct_unit_t;

RCT_INLINE void update_weight(const rct_row_t *row, bool is_packed, int32_t index, uint32_t product,
                              int32_t bits, uint32_t random)
{
    const int32_t steps = (int32_t)(product + (random >> (32 - bits))) >> bits;
    if (steps != 0 && is_packed) {
        subtract_packed(row, index, steps);
    } else if (steps != 0) {
        subtract_8_bits((int8_t *)&row->weights[index], steps);
    }
}

/* Many inputs are 0 behind a RELU: they draw nothing. */
#if RCT_SMALL_CORE
/* An index that runs up to 0 needs no comparison; a volatile number is not loaded again for each draw. */
static const volatile uint32_t random_increment = RCT_RANDOM_INCREMENT;

RCT_INLINE uint32_t update_row(const rct_row_t *row, bool is_packed, const int8_t *input, int32_t zero_point,
                               rct_unit_t unit, uint32_t random)
{
    const uint32_t increment = random_increment;
    const int32_t depth = row->depth;
    rct_row_t end = *row;
    end.weights += is_packed ? 0 : depth;
    input += depth;
    int32_t i = -depth;
    do {
        const int32_t value = input[i];
        if (value != zero_point) {
            const uint32_t product = (uint32_t)(value - zero_point) * unit.scale;
            random = random * RCT_RANDOM_FACTOR + increment;
            update_weight(&end, is_packed, is_packed ? depth + i : i, product, unit.bits, random);
        }
    } while (++i < 0);
    return random;
}
#else
RCT_INLINE uint32_t draw_and_update(const rct_row_t *row, bool is_packed, int32_t index, int32_t centred,
                                    rct_unit_t unit, uint32_t random)
{
    if (centred != 0) {
        random = rct_random(random);
        update_weight(row, is_packed, index, (uint32_t)centred * unit.scale, unit.bits, random);
    }
    return random;
}

RCT_INLINE uint32_t update_row(const rct_row_t *row, bool is_packed, const int8_t *input, int32_t zero_point,
                               rct_unit_t unit, uint32_t random)
{
    const rct_row_t copy = *row; /* no store to a weight can change it */
    const int32_t offset = -zero_point;
    int32_t i = 0;
    for (; i < copy.depth - 3; i += 4) {
        random = draw_and_update(&copy, is_packed, i, input[i] + offset, unit, random);
        random = draw_and_update(&copy, is_packed, i + 1, input[i + 1] + offset, unit, random);
        random = draw_and_update(&copy, is_packed, i + 2, input[i + 2] + offset, unit, random);
        random = draw_and_update(&copy, is_packed, i + 3, input[i + 3] + offset, unit, random);
    }
    for (; i < copy.depth; i++) {
        random = draw_and_update(&copy, is_packed, i, input[i] + offset, unit, random);
    }
    return random;
}
#endif

RCT_APART void rct_update_truncated(const rct_row_t *row, const int8_t *input, int32_t zero_point,
                                    int32_t factor)
{
    const int32_t shift = row->step.shift;
    for (int32_t i = 0; i < row->depth; i++) {
        const int32_t product = (input[i] - zero_point) * factor;
        const int32_t steps = (product + toward_zero(product < 0, shift)) >> shift;
        if (steps != 0) {
            subtract(row, i, steps);
        }
    }
}

RCT_APART uint32_t rct_update_8_bits(const rct_row_t *row, const int8_t *input, int32_t zero_point,
                                     rct_unit_t unit, uint32_t random)
{
    return update_row(row, false, input, zero_point, unit, random);
}

RCT_APART uint32_t update_packed(const rct_row_t *row, const int8_t *input, int32_t zero_point,
                                 rct_unit_t unit, uint32_t random)
{
    return update_row(row, true, input, zero_point, unit, random);
}

#if RCT_SMALL_CORE
/* Constant shifts leave registers free: nearly all rows of 8 bits take one of these two. */
RCT_APART uint32_t update_many(const rct_row_t *row, const int8_t *input, int32_t zero_point, uint32_t scale,
                               uint32_t random)
{
    const rct_unit_t unit = {scale, MANY_BITS};
    return update_row(row, false, input, zero_point, unit, random);
}

RCT_APART uint32_t update_few(const rct_row_t *row, const int8_t *input, int32_t zero_point, uint32_t scale,
                              uint32_t random)
{
    const rct_unit_t unit = {scale, FEW_BITS};
    return update_row(row, false, input, zero_point, unit, random);
}
#endif

uint32_t rct_update_from_input(const rct_row_t *row, const int8_t *input, int32_t zero_point, int32_t error,
                               uint32_t random)
{
    const int32_t shift = row->step.shift;
    const int32_t factor = error * row->step.mantissa;
    const rct_unit_t unit = {(uint32_t)factor, shift};
    if (!row->stochastic) {
        rct_update_truncated(row, input, zero_point, factor);
        return random;
    }
    if (row->bits != 8) {
        return update_packed(row, input, zero_point, unit, random);
    }
#if RCT_SMALL_CORE
    const uint32_t one = (1u << shift) >> INPUT_BITS; /* a factor below it makes no product of a whole step */
    if (shift <= MANY_BITS && (uint32_t)factor + 31 * one <= 62 * one) {
        return update_many(row, input, zero_point, unit.scale << (MANY_BITS - shift), random);
    }
    if (shift <= FEW_BITS && (uint32_t)factor + 3 * one <= 6 * one) {
        return update_few(row, input, zero_point, unit.scale << (FEW_BITS - shift), random);
    }
#endif
    return rct_update_8_bits(row, input, zero_point, unit, random);
}

/* Whether the product with a mantissa stays below 2**30: 64-bit shifts are slow on small cores. */
static bool fits_32_bits(int32_t gradient)
{
    return gradient >= -(1 << 15) && gradient < 1 << 15;
}

/* Steps of a gradient of any magnitude. */
static int32_t steps_of(int32_t gradient, rct_step_t step, int32_t noise)
{
    if (fits_32_bits(gradient)) {
        return (gradient * step.mantissa + noise) >> step.shift;
    }
    const int64_t steps = ((int64_t)gradient * step.mantissa + noise) >> step.shift;
    return steps < -MOST_STEPS ? -MOST_STEPS : steps > MOST_STEPS ? MOST_STEPS : (int32_t)steps;
}

uint32_t rct_update_from_sums(const rct_row_t *row, const int32_t *gradient, uint32_t random)
{
    const rct_step_t step = row->step;
    const int32_t depth = row->depth;
    for (int32_t k = 0; k < depth; k++) {
        const int32_t value = gradient[k];
        if (value == 0) {
            continue;
        }
        int32_t noise = 0;
        if (row->stochastic) {
            random = rct_random(random);
            noise = random_noise(random, step.shift);
        } else {
            noise = toward_zero(value < 0, step.shift);
        }
        const int32_t steps = steps_of(value, step, noise);
        if (steps != 0) {
            subtract(row, k, steps);
        }
    }
    return random;
}

/* In 64 bits; apart, as it takes registers that the usual way does without. */
RCT_APART void update_wide_bias(const rct_row_t *row, int32_t gradient, int32_t noise)
{
    const int64_t limit = row->bias_limit;
    const int64_t steps = ((int64_t)gradient * row->bias_step.mantissa + noise) >> row->bias_step.shift;
    const int64_t value = *row->bias - steps;
    if (steps != 0) {
        *row->bias = (int32_t)(value < -limit ? -limit : value > limit ? limit : value);
    }
}

uint32_t rct_update_bias(const rct_row_t *row, int32_t gradient, uint32_t random)
{
    if (gradient == 0) {
        return random;
    }
    const int32_t shift = row->bias_step.shift;
    int32_t noise = toward_zero(gradient < 0, shift);
    if (row->stochastic) {
        random = rct_random(random);
        noise = random_noise(random, shift);
    }
    if (fits_32_bits(gradient) && rct_magnitude(*row->bias) < 1 << 30) { /* and the steps are below 2**30 */
        const int32_t steps = (gradient * row->bias_step.mantissa + noise) >> shift;
        if (steps != 0) {
            *row->bias = rct_clamp(*row->bias - steps, -row->bias_limit, row->bias_limit);
        }
    } else {
        update_wide_bias(row, gradient, noise);
    }
    return random;
}
