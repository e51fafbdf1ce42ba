/* Sigmoid and cross-entropy on int8 logits, a target for each: the error that the backward pass starts from.
 */
#include "../rct.h"
#include "integers.h"

#define SETTLED_BITS 8   /* errors below 2**8, in units of 2**-15, teach nothing */
#define SPAN         255 /* from a probability of 0 to one of 1 in int8 */

/* Probability minus target, in 2**-15. */
static inline int32_t gradient_at(const rct_target_loss_t *loss, int8_t logit, int8_t target)
{
    const int32_t wanted = ((target - INT8_MIN) * (1 << 15) + SPAN / 2) / SPAN;
    return loss->sigmoid_table[logit - INT8_MIN] - wanted;
}

bool rct_sigmoid_cross_entropy(const rct_target_loss_t *loss, const int8_t *logits, const int8_t *target,
                               rct_error_t *error, rct_backward_t *backward)
{
    int32_t peak = 0;
    for (int32_t i = 0; i < loss->count; i++) {
        peak = rct_max(peak, rct_magnitude(gradient_at(loss, logits[i], target[i])));
    }
    const int32_t bits = rct_bit_length((uint32_t)peak);
    if (bits <= SETTLED_BITS) {
        return false;
    }
    bool learns = false;
    for (int32_t i = 0; i < loss->count; i++) {
        const int32_t gradient = gradient_at(loss, logits[i], target[i]);
        const rct_error_t value = rct_loss_error(gradient, bits);
        /* An error that asks a logit at the end of int8 to move further out is dropped. */
        const bool outward = (logits[i] == INT8_MAX && value < 0) || (logits[i] == INT8_MIN && value > 0);
        error[i] = outward ? 0 : value;
        learns = learns || error[i] != 0;
    }
    backward->exponent = 14 + RCT_ERROR_BITS - bits;
    backward->loss_exponent = 14 + RCT_ERROR_BITS - bits;
    return learns;
}
