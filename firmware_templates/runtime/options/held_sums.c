/* Gradients that are added up over several samples, for one update. */
#include "blocks.h"
#include "rct_held.h"

#define SUM_LIMIT 32767

static void add(int16_t *sums, int16_t *sum_exponent, const int32_t *gradient, int32_t count,
                int32_t exponent)
{
    const int32_t peak = rct_peak(gradient, count);
    if (peak == 0) {
        return;
    }
    int32_t there = 0;
    for (int32_t i = 0; i < count; i++) {
        there = rct_max(there, rct_magnitude(sums[i]));
    }
    const int32_t common = rct_common_exponent(peak, exponent, there, *sum_exponent);
    for (int32_t i = 0; i < count; i++) {
        const int32_t before = there ? rct_shifted(sums[i], *sum_exponent - common) : 0;
        const int32_t sum = before + rct_shifted(gradient[i], exponent - common);
        sums[i] = (int16_t)rct_clamp(sum, -SUM_LIMIT, SUM_LIMIT);
    }
    *sum_exponent = (int16_t)common;
}

void rct_add_to_sums(const rct_held_t *held, int32_t channel, const int32_t *gradient, int32_t bias_gradient,
                     int32_t exponent)
{
    const int32_t depth = held->shape->depth;
    int16_t *sums = &held->sums[channel * (depth + 1)];
    int16_t *exponents = &held->sum_exponents[2 * channel];
    add(sums, &exponents[0], gradient, depth, exponent);
    add(&sums[depth], &exponents[1], &bias_gradient, 1, exponent);
}

/* Updates an op from its sums, and clears them. */
static void update_from_sums(const rct_held_t *held, int32_t *gradient, rct_backward_t *backward)
{
    const int32_t depth = held->shape->depth;
    for (int32_t channel = 0; channel < held->shape->channels; channel++) {
        int16_t *sums = &held->sums[channel * (depth + 1)];
        const int16_t *exponents = &held->sum_exponents[2 * channel];
        const int32_t bias_gradient = sums[depth];
        for (int32_t i = 0; i < depth; i++) {
            gradient[i] = sums[i];
            sums[i] = 0;
        }
        sums[depth] = 0;
        rct_update_held_row(held, channel, gradient, exponents[0], bias_gradient, exponents[1], backward);
    }
}

void rct_finish_sample(const rct_accumulation_t *accumulation, rct_backward_t *backward)
{
    uint16_t *waiting = accumulation->waiting;
    (*waiting)++;
    if (*waiting < accumulation->samples) {
        return;
    }
    *waiting = 0;
    for (uint32_t i = 0; i < accumulation->count; i++) {
        update_from_sums(accumulation->ops[i], accumulation->gradient, backward);
    }
}
