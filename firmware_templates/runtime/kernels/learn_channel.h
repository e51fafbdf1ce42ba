/* The update of one output channel from its gradient. */
#ifndef RCT_LEARN_CHANNEL_H
#define RCT_LEARN_CHANNEL_H

#include "../rct.h"

/* Whether the weights of a channel learn; of an op that learns, each bias does. */
static inline bool rct_row_learns(const rct_weights_t *weights, const rct_learn_t *learn, int32_t channel)
{
#if RCT_SPLIT_ROWS
    return !learn->biases_only && (!weights->split || weights->split->places[channel] >= 0);
#else
    (void)weights, (void)learn, (void)channel;
    return true;
#endif
}

#if RCT_SPLIT_ROWS
/* Updates the bias of a channel whose weights do not learn; false where they do. `error` is at the channel,
 * of `positions`. */
bool rct_learn_bias(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                    const rct_error_t *error, int32_t positions, rct_backward_t *backward);
#endif

/* Updates a channel's row from grad->sums, (depth), then its bias. */
void rct_learn_channel(const rct_weights_t *shape, const rct_grad_t *grad, int32_t channel,
                       int32_t bias_gradient, rct_backward_t *backward);

#endif
