/* FULLY_CONNECTED, backward, where gradients are held: row by row through the scratch of sums. */
#include <stddef.h>

#include "rct_held.h"

static void learn_rows(const rct_fully_connected_t *op, const rct_grad_t *grad, const int8_t *input,
                       const rct_error_t *error, rct_backward_t *backward)
{
    const rct_held_t *held = (const rct_held_t *)(const void *)grad->learn;
    const int32_t exponent = backward->exponent;
    for (int32_t channel = 0; channel < op->weights.channels; channel++) {
        if (error[channel] == 0) {
            continue;
        }
        if (rct_held_row(held, channel) >= 0) {
            for (int32_t k = 0; k < op->weights.depth; k++) {
                grad->sums[k] = error[channel] * (input[k] - op->input_zero_point);
            }
            rct_hold_row(held, channel, grad->sums, exponent, backward);
        }
        rct_hold_bias(held, channel, error[channel], exponent, backward);
    }
}

void rct_fully_connected_held_grad(const rct_fully_connected_t *op, const rct_grad_t *grad,
                                   const int8_t *input, const rct_error_t *error, rct_backward_t *backward,
                                   rct_error_t *input_error)
{
    rct_grad_t pass = *grad;
    const int32_t exponent = backward->exponent;
    pass.learn = NULL;
#if RCT_HAS_PARTS
    if (op->weights.split) {
        rct_fully_connected_split_grad(op, &pass, input, error, backward, input_error);
    } else
#endif
    {
        rct_fully_connected_grad(op, &pass, input, error, backward, input_error);
    }
    const int32_t lowered = backward->exponent;
    backward->exponent = exponent; /* the update takes the exponent of before */
    learn_rows(op, grad, input, error, backward);
    backward->exponent = lowered;
}
