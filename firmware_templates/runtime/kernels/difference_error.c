/* Mean squared error, mean absolute error and Huber's loss: the error that the backward pass starts from. */
#include "../rct.h"
#include "integers.h"

/* Output minus target, as far as the loss counts it. */
static inline int32_t difference_at(const rct_target_loss_t *loss, int8_t output, int8_t target)
{
    return rct_clamp(output - target, -loss->limit, loss->limit);
}

bool rct_difference_error(const rct_target_loss_t *loss, const int8_t *output, const int8_t *target,
                          rct_error_t *error, rct_backward_t *backward)
{
    int32_t peak = 0;
    for (int32_t i = 0; i < loss->count; i++) {
        peak = rct_max(peak, rct_magnitude(difference_at(loss, output[i], target[i])));
    }
    const int32_t bits = rct_bit_length((uint32_t)peak); /* at most 8 */
    for (int32_t i = 0; i < loss->count; i++) {
        const int32_t difference = difference_at(loss, output[i], target[i]);
        error[i] = rct_loss_error(difference, bits);
    }
    backward->exponent = RCT_ERROR_BITS - 1 - bits;
    backward->loss_exponent = RCT_ERROR_BITS - 1 - bits;
    return peak != 0;
}
