/* CONV_2D, forward: channels outside, so that a row of weights is unpacked once. */
#include "../rct.h"
#include "dot.h"
#include "pack.h"
#include "requantize.h"
#include "window.h"

/* The cells of a filter row that lie in the image are contiguous, in the weights and in the input. */
typedef struct {
    const int8_t *weights; /* of the first cell */
    const int8_t *input;
    int32_t count;          /* values in a row of cells */
    int32_t rows;           /* */
    int32_t weights_stride; /* from row to row */
    int32_t input_stride;
} overlap_t;

static inline overlap_t overlap_of(const rct_window_t *window, const rct_cells_t *cells,
                                   const int8_t *weights, const int8_t *input)
{
    const int32_t in_channels = window->in_channels;
    const int32_t first = cells->first_row * window->filter_w + cells->first_column;
    const overlap_t overlap = {
        .weights = weights + first * in_channels,
        .input = input + cells->start * in_channels,
        .count = (cells->last_column - cells->first_column) * in_channels,
        .rows = cells->last_row - cells->first_row,
        .weights_stride = window->filter_w * in_channels,
        .input_stride = window->in_w * in_channels,
    };
    return overlap;
}

static void run_channel(const rct_conv_2d_t *op, const int8_t *weights, const int8_t *input, int32_t channel,
                        int8_t *output)
{
    const rct_window_t *window = &op->window;
    const rct_requant_channel_t requant = rct_requant_channel(&op->requant, channel);
    const int32_t zero_point = op->input_zero_point;
    for (int32_t y = 0; y < window->out_h; y++) {
        for (int32_t x = 0; x < window->out_w; x++, output += window->out_channels) {
            const rct_cells_t cells = rct_cells(window, y, x);
            overlap_t o = overlap_of(window, &cells, weights, input);
            int32_t acc = op->weights.bias[channel];
            for (; o.rows > 0; o.rows--) {
                acc = rct_dot(o.weights, o.input, o.count, zero_point, acc);
                o.weights += o.weights_stride;
                o.input += o.input_stride;
            }
            output[channel] = rct_requantize(acc, &requant);
        }
    }
}

/* Four channels of 8 bits, from `channel` on. */
static void run_four(const rct_conv_2d_t *op, const int8_t *input, int32_t channel, int8_t *output)
{
    const rct_window_t *window = &op->window;
    const int32_t depth = op->weights.depth;
    const int8_t *weights = rct_weights_run(&op->weights, channel, 0, depth, 0);
    const int32_t *bias = &op->weights.bias[channel];
    const int32_t offset = -op->input_zero_point;
    rct_requant_channel_t requant[4];
    for (int32_t i = 0; i < 4; i++) {
        requant[i] = rct_requant_channel(&op->requant, channel + i);
    }
    for (int32_t y = 0; y < window->out_h; y++) {
        for (int32_t x = 0; x < window->out_w; x++, output += window->out_channels) {
            const rct_cells_t cells = rct_cells(window, y, x);
            overlap_t o = overlap_of(window, &cells, weights, input);
            int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
            for (; o.rows > 0; o.rows--) {
                rct_dot_4(o.weights, depth, o.input, o.count, offset, acc);
                o.weights += o.weights_stride;
                o.input += o.input_stride;
            }
            for (int32_t i = 0; i < 4; i++) {
                output[channel + i] = rct_requantize(acc[i], &requant[i]);
            }
        }
    }
}

static void run_ones(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int32_t channel, int32_t end,
                     int8_t *output)
{
    for (; channel < end; channel++) {
        const int8_t *weights = rct_weights_run(&op->weights, channel, 0, op->weights.depth, row);
        run_channel(op, weights, input, channel, output);
    }
}

void rct_conv_2d(const rct_conv_2d_t *op, const int8_t *input, int8_t *row, int8_t *output)
{
    const int32_t channels = op->window.out_channels;
    int32_t channel = 0;
    for (; op->weights.bits == 8 && channel < channels - 3; channel += 4) {
        if (rct_weights_in_line(&op->weights, channel)) {
            run_four(op, input, channel, output);
        } else {
            run_ones(op, input, row, channel, channel + 4, output);
        }
    }
    run_ones(op, input, row, channel, channels, output);
}
