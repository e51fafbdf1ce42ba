/* What a channel's gradient does where gradients are held: it is added up, or followed at once. */
#include "learn_channel.h"
#include "rct_held.h"

#if RCT_SPLIT_ROWS
bool rct_learn_bias(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                    const rct_error_t *error, int32_t positions, rct_backward_t *backward)
{
    const rct_held_t *held = (const rct_held_t *)(const void *)grad->learn;
    if (rct_held_row(held, channel) >= 0) {
        return false;
    }
    int32_t gradient = 0;
    for (int32_t i = 0; i < positions; i++) {
        gradient += error[i * shape->channels];
    }
    rct_hold_bias(held, channel, gradient, backward->exponent, backward);
    return true;
}
#endif

void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_held_t *held = (const rct_held_t *)(const void *)grad->learn;
    const int32_t exponent = backward->exponent;
    (void)shape;
    rct_hold_row(held, channel, grad->sums, exponent - (RCT_ERROR_BITS - 8), backward);
    rct_hold_bias(held, channel, bias_gradient, exponent, backward);
}
