/* Gradients that are added up over several samples, for one update. */
#include "blocks.h"
#include "rct_held.h"
#if RCT_HAS_WIDTHS
    #include "rct_adapt.h"
#endif

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

void rct_add_to_sums(const rct_held_t *held, int32_t block, int32_t place, const int32_t *gradient,
                     int32_t count, int32_t exponent)
{
    add(&held->sums[place], &held->sum_exponents[block], gradient, count, exponent);
}

/* Updates an op from its sums, and clears them. */
static void update_from_sums(const rct_held_t *held, int32_t *gradient, rct_backward_t *backward)
{
    const int32_t depth = held->shape->depth;
    const int32_t rows = held->rows;
    for (int32_t channel = 0; channel < held->shape->channels; channel++) {
        const int32_t row = rct_held_row(held, channel);
        if (row >= 0) {
            int16_t *sums = &held->sums[row * depth];
            for (int32_t i = 0; i < depth; i++) {
                gradient[i] = sums[i];
                sums[i] = 0;
            }
            rct_update_held_row(held, channel, gradient, held->sum_exponents[row], backward);
        }
        int16_t *bias_sum = &held->sums[rows * depth + channel];
        const int32_t bias_gradient = *bias_sum;
        *bias_sum = 0;
        rct_update_held_bias(held, channel, bias_gradient, held->sum_exponents[rows + channel], backward);
    }
}

#if RCT_HAS_WIDTHS
static void update_layer(const rct_accumulation_t *accumulation, const rct_held_t *held,
                         rct_backward_t *backward)
{
    rct_bound_t bound;
    rct_bind_grad(accumulation->adaptation, held->layer, &bound, backward);
    update_from_sums(&bound.held, accumulation->gradient, backward);
}
#else
static void update_layer(const rct_accumulation_t *accumulation, const rct_held_t *held,
                         rct_backward_t *backward)
{
    update_from_sums(held, accumulation->gradient, backward);
}
#endif

void rct_finish_sample(const rct_accumulation_t *accumulation, rct_backward_t *backward)
{
    uint16_t *waiting = accumulation->waiting;
    (*waiting)++;
    if (*waiting < accumulation->samples) {
        return;
    }
    *waiting = 0;
    for (uint32_t i = 0; i < accumulation->count; i++) {
        update_layer(accumulation, accumulation->ops[i], backward);
    }
#if RCT_HAS_WIDTHS
    if (*accumulation->taught) {
        *accumulation->taught = 0;
        rct_adapt(accumulation->adaptation, backward);
    }
#endif
}
