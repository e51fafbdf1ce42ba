/* The update of integers in place (ARITHMETIC.md 6). */
#ifndef RCT_UPDATE_H
#define RCT_UPDATE_H

#include "../rct.h"
#include "integers.h"
#include "random.h"

/* mantissa * 2**-shift, shift 1 to 30. */
typedef struct {
    int32_t mantissa;
    int32_t shift;
} rct_step_t;

/* The multiplier of a channel for errors with `exponent`. */
static inline rct_step_t rct_step(const rct_step_multiplier_t *multiplier, int32_t channel, int32_t exponent)
{
    const int32_t index = multiplier->per_channel ? channel : 0;
    rct_step_t step = {multiplier->mantissa[index], multiplier->shift[index] + exponent};
    if (step.shift > 30) {
        step.mantissa >>= rct_min(step.shift - 30, 15);
        step.shift = 30;
    }
    step.shift = rct_max(step.shift, 1);
    return step;
}

/* What is added before the shift, so that it rounds: random bits, or what makes a negative product go
 * toward zero. */
static inline int32_t rct_noise(uint32_t random, int32_t shift)
{
    return (int32_t)(random >> (32 - shift));
}

static inline int32_t rct_toward_zero(bool negative, int32_t shift)
{
    return negative ? (int32_t)((1u << shift) - 1u) : 0;
}

/* Draws where the rounding is stochastic. |gradient| is below 2**30. */
static inline int64_t rct_steps(int32_t gradient, rct_step_t step, bool stochastic, uint32_t *random)
{
    int32_t noise = 0;
    if (stochastic) {
        *random = rct_random(*random);
        noise = rct_noise(*random, step.shift);
    } else {
        noise = rct_toward_zero(gradient < 0, step.shift);
    }
    return ((int64_t)gradient * step.mantissa + noise) >> step.shift;
}

/* Largest weight at a bit-width. */
static inline int32_t rct_top(int32_t bits)
{
    return (1 << (bits - 1)) - 1;
}

static inline void rct_update_bias(const rct_learn_t *learn, int32_t channel, int32_t gradient,
                                   rct_backward_t *backward)
{
    const rct_step_t step = rct_step(&learn->bias_step, channel, backward->exponent);
    const int64_t steps = rct_steps(gradient, step, learn->stochastic, &backward->random);
    if (steps != 0) {
        const int64_t limit = learn->bias_limit;
        const int64_t bias = learn->bias[channel] - steps;
        learn->bias[channel] = (int32_t)(bias < -limit ? -limit : bias > limit ? limit : bias);
    }
}

#endif
