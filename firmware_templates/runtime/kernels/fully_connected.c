/* FULLY_CONNECTED, forward. */
#include "../rct.h"
#include "dot.h"
#include "pack.h"
#include "requantize.h"

/* One output; `requant` is that of channel 0 on entry and serves all channels where there is one scale. */
static inline int8_t result_of(const rct_fully_connected_t *op, int32_t acc, int32_t channel,
                               rct_requant_channel_t *requant)
{
    if (op->requant.per_channel) {
        *requant = rct_requant_channel(&op->requant, channel);
    }
    return rct_requantize(acc, requant);
}

/* Four rows of 8 bits at a time; returns how many were done. */
static int32_t run_fours(const rct_fully_connected_t *op, const int8_t *restrict input,
                         int8_t *restrict output)
{
    const int32_t depth = op->weights.depth;
    const int32_t end = op->weights.bits == 8 ? op->weights.channels - 3 : 0;
    rct_requant_channel_t requant = rct_requant_channel(&op->requant, 0);
    int32_t channel = 0;
    for (; channel < end; channel += 4) {
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, depth, 0);
        const int32_t *bias = &op->weights.bias[channel];
        rct_acc_4_t acc = {{bias[0], bias[1], bias[2], bias[3]}};
        acc = rct_dot_4(weights, depth, input, depth, op->input_zero_point, acc);
        for (int32_t i = 0; i < 4; i++) {
            output[channel + i] = result_of(op, acc.row[i], channel + i, &requant);
        }
    }
    return channel;
}

void rct_fully_connected(const rct_fully_connected_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const int32_t depth = op->weights.depth;
    rct_requant_channel_t requant = rct_requant_channel(&op->requant, 0);
    for (int32_t channel = run_fours(op, input, output); channel < op->weights.channels; channel++) {
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, depth, row);
        const int32_t acc = rct_dot(weights, input, depth, op->input_zero_point, op->weights.bias[channel]);
        output[channel] = result_of(op, acc, channel, &requant);
    }
}
