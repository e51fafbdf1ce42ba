/* The update of one output channel from its gradient. */
#include "learn_channel.h"
#include "update.h"

void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_row_t row = rct_row(shape, grad->learn, channel, backward->exponent);
    const uint32_t random = rct_update_from_sums(&row, grad->sums, backward->random);
    backward->random = rct_update_bias(&row, bias_gradient, random);
}
