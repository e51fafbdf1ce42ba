/* The update of a row of weights in place (ARITHMETIC.md 6). */
#include "update.h"

/* Weights mostly stay: an update below one step rounds to 0. */
static inline void subtract(int8_t *weight, int32_t steps, int32_t top)
{
    if (steps != 0) {
        int32_t value = *weight - steps;
        if ((uint32_t)(value + top) > (uint32_t)(2 * top)) { /* one comparison: few weights are at the end */
            value = value < 0 ? -top : top;
        }
        *weight = (int8_t)value;
    }
}

/* One weight of a row whose gradient is (input[i] - zero_point) * error: 32 bits hold the product, as |error|
 * <= 127, mantissa < 2**15 and |input - zero_point| <= 255 give less than 2**30, and so is the noise. Many
 * inputs are 0 behind a RELU: they draw nothing. */
static inline uint32_t learn_weight(int8_t *weight, int32_t centred, const rct_row_update_t *update,
                                    uint32_t random)
{
    if (centred == 0) {
        return random;
    }
    random = rct_random(random);
    const int32_t steps = (centred * update->factor + rct_noise(random, update->shift)) >> update->shift;
    subtract(weight, steps, update->top);
    return random;
}

uint32_t rct_update_stochastic(const rct_row_update_t *row, int8_t *restrict weights, uint32_t random)
{
    const rct_row_update_t update = *row;
    const int8_t *restrict input = update.input;
    int32_t i = 0;
    for (; i < update.depth - 3; i += 4) {
        random = learn_weight(&weights[i], input[i] - update.zero_point, &update, random);
        random = learn_weight(&weights[i + 1], input[i + 1] - update.zero_point, &update, random);
        random = learn_weight(&weights[i + 2], input[i + 2] - update.zero_point, &update, random);
        random = learn_weight(&weights[i + 3], input[i + 3] - update.zero_point, &update, random);
    }
    for (; i < update.depth; i++) {
        random = learn_weight(&weights[i], input[i] - update.zero_point, &update, random);
    }
    return random;
}

void rct_update_truncate(const rct_row_update_t *row, int8_t *restrict weights)
{
    const rct_row_update_t update = *row;
    for (int32_t i = 0; i < update.depth; i++) {
        const int32_t product = (update.input[i] - update.zero_point) * update.factor;
        const int32_t steps = (product + rct_toward_zero(product < 0, update.shift)) >> update.shift;
        subtract(&weights[i], steps, update.top);
    }
}

/* Whether the product with a mantissa stays below 2**30: 64-bit shifts are slow on small cores. */
static bool fits_32_bits(int32_t gradient)
{
    return gradient >= -(1 << 15) && gradient < 1 << 15;
}

/* Steps of one weight; more than the range of a weight is never needed. */
static int32_t weight_steps(int32_t gradient, rct_step_t step, int32_t noise)
{
    if (fits_32_bits(gradient)) {
        return (gradient * step.mantissa + noise) >> step.shift;
    }
    const int64_t steps = ((int64_t)gradient * step.mantissa + noise) >> step.shift;
    return steps < -255 ? -255 : steps > 255 ? 255 : (int32_t)steps;
}

uint32_t rct_update_from_sums(const rct_sums_update_t *row, int8_t *restrict weights, uint32_t random)
{
    const rct_sums_update_t update = *row;
    for (int32_t k = 0; k < update.depth; k++) {
        const int32_t gradient = update.gradient[k];
        if (gradient == 0) {
            continue;
        }
        int32_t noise = 0;
        if (update.stochastic) {
            random = rct_random(random);
            noise = rct_noise(random, update.step.shift);
        } else {
            noise = rct_toward_zero(gradient < 0, update.step.shift);
        }
        subtract(&weights[k], weight_steps(gradient, update.step, noise), update.top);
    }
    return random;
}

/* Draws where the rounding is stochastic. */
static int64_t bias_steps(const rct_learn_t *learn, int32_t gradient, rct_step_t step, uint32_t *random)
{
    int32_t noise = 0;
    if (learn->stochastic) {
        *random = rct_random(*random);
        noise = rct_noise(*random, step.shift);
    } else {
        noise = rct_toward_zero(gradient < 0, step.shift);
    }
    if (fits_32_bits(gradient)) {
        return (gradient * step.mantissa + noise) >> step.shift;
    }
    return ((int64_t)gradient * step.mantissa + noise) >> step.shift;
}

void rct_update_bias(const rct_learn_t *learn, int32_t channel, int32_t gradient, rct_backward_t *backward)
{
    if (gradient == 0) {
        return;
    }
    const rct_step_t step = rct_step(&learn->bias_step, channel, backward->exponent);
    const int64_t steps = bias_steps(learn, gradient, step, &backward->random);
    if (steps != 0) {
        const int64_t limit = learn->bias_limit;
        const int64_t bias = learn->bias[channel] - steps;
        learn->bias[channel] = (int32_t)(bias < -limit ? -limit : bias > limit ? limit : bias);
    }
}
