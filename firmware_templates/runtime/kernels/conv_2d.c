/* CONV_2D, forward: channel by channel, so that a row of weights is unpacked once. */
#include "../rct.h"
#include "dot.h"
#include "pack.h"
#include "requantize.h"
#include "window.h"

/* One output: the cells of a filter row that lie in the image are contiguous in weights and input. */
static int32_t accumulate(const rct_conv_2d_t *op, const rct_cells_t *cells, const int8_t *weights,
                          const int8_t *input, int32_t acc)
{
    const int32_t in_channels = op->window.in_channels;
    const int32_t count = (cells->last_column - cells->first_column) * in_channels;
    const int32_t weights_stride = op->window.filter_w * in_channels;
    const int32_t input_stride = op->window.in_w * in_channels;
    weights += cells->first_row * weights_stride + cells->first_column * in_channels;
    input += cells->start * in_channels;
    for (int32_t i = cells->first_row; i < cells->last_row; i++) {
        acc = rct_dot(weights, input, count, op->input_zero_point, acc);
        weights += weights_stride;
        input += input_stride;
    }
    return acc;
}

void rct_conv_2d(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const rct_window_t *window = &op->window;
    for (int32_t channel = 0; channel < window->out_channels; channel++) {
        const rct_requant_channel_t requant = rct_requant_channel(&op->requant, channel);
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, op->weights.depth, row);
        const int32_t bias = op->weights.bias[channel];
        int8_t *result = &output[channel];
        for (int32_t y = 0; y < window->out_h; y++) {
            for (int32_t x = 0; x < window->out_w; x++) {
                const rct_cells_t cells = rct_cells(window, y, x);
                *result = rct_requantize(accumulate(op, &cells, weights, input, bias), &requant);
                result += window->out_channels;
            }
        }
    }
}
