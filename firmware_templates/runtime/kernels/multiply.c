/* MUL, forward. */
#include "../rct.h"
#include "requantize.h"

void rct_multiply(const rct_pair_t *op, const int8_t *first, const int8_t *second, int8_t *output)
{
    for (int32_t i = 0, a = 0, b = 0; i < op->count; i++) {
        const int32_t product = (first[a] - op->first.zero_point) * (second[b] - op->second.zero_point);
        const int32_t result =
            rct_scale(product, op->multiplier, rct_max(op->shift, 0), rct_max(-op->shift, 0));
        output[i] = (int8_t)rct_clamp(result + op->zero_point, op->act_min, op->act_max);
        a = a + 1 == op->first.count ? 0 : a + 1;
        b = b + 1 == op->second.count ? 0 : b + 1;
    }
}
