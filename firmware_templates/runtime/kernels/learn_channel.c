/* The update of one output channel from its gradient. */
#include "learn_channel.h"
#include "pack.h"
#include "update.h"

void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward)
{
    const rct_learn_t *learn = grad->learn;
    uint8_t *packed = &learn->rows[(uint32_t)channel * shape->row_bytes];
    int8_t *weights = (int8_t *)packed;
    if (shape->bits != 8) {
        rct_unpack_row(packed, shape->depth, shape->bits, grad->row);
        weights = grad->row;
    }
    const rct_sums_update_t update = {
        .gradient = grad->sums,
        .depth = shape->depth,
        .step = rct_step(&learn->weight_step, channel, backward->exponent),
        .top = rct_top(shape->bits),
        .stochastic = learn->stochastic,
    };
    backward->random = rct_update_from_sums(&update, weights, backward->random);
    if (shape->bits != 8) {
        rct_pack_row(weights, shape->depth, shape->bits, packed);
    }
    rct_update_bias(learn, channel, bias_gradient, backward);
}
