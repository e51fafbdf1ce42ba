/* Softmax and cross-entropy on int8 logits: the error that the backward pass starts from (ARITHMETIC.md 3).
 */
#include "../rct.h"
#include "integers.h"

#define SETTLED_BITS 8 /* errors below 2**8, in units of 2**-15, teach nothing */

/* Largest logit. */
static int32_t find_peak(const int8_t *logits, int32_t classes)
{
    int32_t peak = logits[0];
    for (int32_t i = 1; i < classes; i++) {
        peak = rct_max(peak, logits[i]);
    }
    return peak;
}

/* Exponentials into `sums`; returns their total. 65535 classes of 2**15 fit. */
static uint32_t exponentials(const rct_loss_t *loss, const int8_t *logits, int32_t *sums)
{
    const int32_t peak = find_peak(logits, loss->classes);
    uint32_t total = 0;
    for (int32_t i = 0; i < loss->classes; i++) {
        const int32_t distance = peak - logits[i];
        sums[i] = distance < loss->exp_entries ? loss->exp_table[distance] : 0;
        total += (uint32_t)sums[i];
    }
    return total;
}

/* An error that asks a logit at the end of int8 to move further out is dropped. */
static int32_t inward(int32_t error, int32_t logit)
{
    const bool outward = (logit == INT8_MAX && error < 0) || (logit == INT8_MIN && error > 0);
    return outward ? 0 : error;
}

bool rct_softmax_cross_entropy(const rct_loss_t *loss, const int8_t *logits, uint16_t label, int32_t *sums,
                               rct_error_t *error, rct_backward_t *backward)
{
    const uint32_t total = exponentials(loss, logits, sums);
    int32_t peak = 0;
    for (int32_t i = 0; i < loss->classes; i++) {
        const uint32_t probability = (((uint32_t)sums[i] << 15) + total / 2u) / total;
        sums[i] = (int32_t)probability - (i == label ? 1 << 15 : 0);
        peak = rct_max(peak, rct_magnitude(sums[i]));
    }
    const int32_t bits = rct_bit_length((uint32_t)peak);
    if (bits <= SETTLED_BITS) {
        return false;
    }
    bool learns = false;
    for (int32_t i = 0; i < loss->classes; i++) {
        error[i] = (rct_error_t)inward(rct_loss_error(sums[i], bits), logits[i]);
        learns = learns || error[i] != 0;
    }
    backward->exponent = 14 + RCT_ERROR_BITS - bits;
    backward->loss_exponent = 14 + RCT_ERROR_BITS - bits;
    return learns;
}
