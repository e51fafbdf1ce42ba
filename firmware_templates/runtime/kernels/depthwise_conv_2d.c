/* DEPTHWISE_CONV_2D, forward: channels outside, so that a row of weights is unpacked once. */
#include "../rct.h"
#include "pack.h"
#include "requantize.h"
#include "window.h"

/* The cells of a window that lie in the image; `input` is at the channel of the image's first pixel. */
static int32_t sum_cells(const rct_conv_2d_t *op, const rct_cells_t *cells, const int8_t *restrict weights,
                         const int8_t *restrict input, int32_t acc)
{
    const int32_t pixel = op->window.in_channels;
    const int32_t filter_w = op->window.filter_w;
    const int32_t columns = cells->last_column - cells->first_column;
    const int32_t zero_point = op->input_zero_point;
    weights += cells->first_row * filter_w + cells->first_column;
    input += cells->start * pixel;
    for (int32_t i = cells->first_row; i < cells->last_row; i++) {
        const int8_t *value = input;
        for (int32_t j = 0; j < columns; j++, value += pixel) {
            acc += weights[j] * (*value - zero_point);
        }
        weights += filter_w;
        input += op->window.in_w * pixel;
    }
    return acc;
}

void rct_depthwise_conv_2d(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const rct_window_t *window = &op->window;
    const int32_t multiplier = window->out_channels / window->in_channels;
    for (int32_t channel = 0; channel < window->out_channels; channel++) {
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, op->weights.depth, row);
        const rct_requant_channel_t requant = rct_requant_channel(&op->requant, channel);
        const int8_t *image = &input[channel / multiplier];
        int8_t *result = &output[channel];
        for (int32_t y = 0; y < window->out_h; y++) {
            for (int32_t x = 0; x < window->out_w; x++, result += window->out_channels) {
                const rct_cells_t cells = rct_cells(window, y, x);
                const int32_t acc = sum_cells(op, &cells, weights, image, op->weights.bias[channel]);
                *result = rct_requantize(acc, &requant);
            }
        }
    }
}
