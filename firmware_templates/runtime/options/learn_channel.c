/* What a channel's gradient does where gradients are held: it is added up, or followed at once. */
#include "learn_channel.h"
#include "rct_held.h"

void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_held_t *held = (const rct_held_t *)(const void *)grad->learn;
    const int32_t exponent = backward->exponent;
    (void)shape;
    if (held->sums) {
        rct_add_to_sums(held, channel, grad->sums, bias_gradient, exponent);
    } else {
        rct_update_held_row(held, channel, grad->sums, exponent, bias_gradient, exponent, backward);
    }
}
