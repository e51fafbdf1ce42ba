/* ADD and SUB, forward. */
#include "../rct.h"
#include "requantize.h"

#define FRACTION_BITS 20 /* that both operands get before they are brought to one scale */

static inline int32_t scaled(const rct_operand_t *operand, int8_t value)
{
    const int32_t fine = (value - operand->zero_point) * (1 << FRACTION_BITS);
    return rct_scale(fine, operand->multiplier, 0, -operand->shift);
}

void rct_add(const rct_pair_t *op, const int8_t *first, const int8_t *second, int8_t *output)
{
    for (int32_t i = 0, a = 0, b = 0; i < op->count; i++) {
        const int32_t left = scaled(&op->first, first[a]);
        const int32_t right = scaled(&op->second, second[b]);
        const int32_t sum = op->subtract ? left - right : left + right;
        const int32_t result = rct_scale(sum, op->multiplier, rct_max(op->shift, 0), rct_max(-op->shift, 0));
        output[i] = (int8_t)rct_clamp(result + op->zero_point, op->act_min, op->act_max);
        a = a + 1 == op->first.count ? 0 : a + 1;
        b = b + 1 == op->second.count ? 0 : b + 1;
    }
}
