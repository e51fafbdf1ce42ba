/* TRANSPOSE_CONV, backward, where the bit-width follows the training. */
/* clang-format off: the order matters */
#define rct_transpose_conv_grad rct_observed_transpose_conv_grad
#define rct_learn_channel       rct_observed_learn_channel
#include "adapt.h"
#include "transpose_conv_grad.c"
/* clang-format on */

void rct_adapted_transpose_conv_grad(const rct_adaptation_t *adaptation, int32_t layer, const int8_t *input,
                                     const int8_t *error, rct_backward_t *backward, int8_t *input_error)
{
    rct_bound_t bound;
    rct_bind_grad(adaptation, layer, &bound);
    backward->exponent += bound.octave;
    rct_transpose_conv_grad(&bound.op.conv_2d, &bound.grad, input, error, backward, input_error);
    backward->exponent -= 2 * bound.octave;
}
