/* TRANSPOSE_CONV, forward: each output gathers what the inputs hand to it. */
#include "../rct.h"
#include "dot.h"
#include "integers.h"
#include "pack.h"
#include "requantize.h"

static int32_t gather(const rct_conv_2d_t *op, const int8_t *weights, const int8_t *input, int32_t below,
                      int32_t right, int32_t acc)
{
    const rct_window_t *window = &op->window;
    const int32_t in_channels = window->in_channels;
    for (int32_t y = rct_min(below / window->stride_h, window->in_h - 1); y >= 0; y--) {
        const int32_t i = below - y * window->stride_h;
        if (i >= window->filter_h) {
            break;
        }
        for (int32_t x = rct_min(right / window->stride_w, window->in_w - 1); x >= 0; x--) {
            const int32_t j = right - x * window->stride_w;
            if (j >= window->filter_w) {
                break;
            }
            const int8_t *cell = &weights[(i * window->filter_w + j) * in_channels];
            const int8_t *pixel = &input[(y * window->in_w + x) * in_channels];
            acc = rct_dot(cell, pixel, in_channels, op->input_zero_point, acc);
        }
    }
    return acc;
}

void rct_transpose_conv(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const rct_window_t *window = &op->window;
    for (int32_t channel = 0; channel < window->out_channels; channel++) {
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, op->weights.depth, row);
        const rct_requant_channel_t requant = rct_requant_channel(&op->requant, channel);
        int8_t *result = &output[channel];
        for (int32_t y = 0; y < window->out_h; y++) {
            for (int32_t x = 0; x < window->out_w; x++, result += window->out_channels) {
                const int32_t acc = gather(op, weights, input, y + window->pad_top, x + window->pad_left,
                                           op->weights.bias[channel]);
                *result = rct_requantize(acc, &requant);
            }
        }
    }
}
