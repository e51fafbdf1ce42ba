/* The update of one output channel from its gradient. */
#ifndef RCT_LEARN_CHANNEL_H
#define RCT_LEARN_CHANNEL_H

#include "../rct.h"

/* Updates a channel's row from grad->sums, (depth), then its bias. */
void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward);

#endif
