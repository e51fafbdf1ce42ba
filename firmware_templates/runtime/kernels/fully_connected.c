/* FULLY_CONNECTED, forward. */
#include "../rct.h"
#include "dot.h"
#include "pack.h"
#include "requantize.h"

void rct_fully_connected(const rct_fully_connected_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const int32_t channels = op->weights.channels;
    const int32_t depth = op->weights.depth;
    for (int32_t channel = 0; channel < channels; channel++) {
        const rct_requant_channel_t requant = rct_requant_channel(&op->requant, channel);
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, depth, row);
        const int32_t acc = rct_dot(weights, input, depth, op->input_zero_point, op->weights.bias[channel]);
        output[channel] = rct_requantize(acc, &requant);
    }
}
