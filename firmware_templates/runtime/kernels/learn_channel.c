/* The update of one output channel from its gradient. */
#include "learn_channel.h"
#include "observe.h"
#include "update.h"

#if RCT_SPLIT_ROWS
bool rct_learn_bias(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                    const rct_error_t *error, int32_t positions, rct_backward_t *backward)
{
    if (rct_row_learns(shape, grad->learn, channel)) {
        return false;
    }
    int32_t gradient = 0;
    for (int32_t i = 0; i < positions; i++) {
        gradient += error[i * shape->channels];
    }
    const rct_row_t row = rct_row(shape, grad->learn, channel, backward->exponent);
    backward->random = rct_update_bias(&row, gradient, backward->random);
    return true;
}
#endif

void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_row_t row = rct_row(shape, grad->learn, channel, backward->exponent);
    rct_observe_row(grad->learn, shape, channel, grad->sums, backward->exponent - (RCT_ERROR_BITS - 8));
    const uint32_t random = rct_update_from_sums(&row, grad->sums, backward->random);
    backward->random = rct_update_bias(&row, bias_gradient, random);
}
