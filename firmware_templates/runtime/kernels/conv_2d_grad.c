/* CONV_2D, backward. */
#include "../rct.h"
#include "gain.h"
#include "gradient.h"
#include "integers.h"
#include "learn_channel.h"
#include "pack.h"
#include "window.h"

/* ---- input error: for each input pixel, what every output that it fed hands back ------------------- */

/* What one output pixel hands back through filter cell number `cell`. */
static void add_output(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                       int32_t cell)
{
    const int32_t in_channels = op->window.in_channels;
    int32_t *restrict sums = grad->sums;
    for (int32_t channel = 0; channel < op->window.out_channels; channel++) {
        if (error[channel] == 0) {
            continue;
        }
        const int32_t scaled = rct_channel_error(&grad->scale, channel, error[channel]);
        const int8_t *restrict weights =
            rct_weights_run(&op->weights, channel, cell * in_channels, in_channels, grad->row);
        for (int32_t k = 0; k < in_channels; k++) {
            sums[k] += scaled * weights[k];
        }
    }
}

/* Sums of input pixel (y, x) over all outputs that it fed. */
static void sum_pixel(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error, int32_t y,
                      int32_t x)
{
    const rct_window_t *window = &op->window;
    const int32_t below = y + window->pad_top;
    const int32_t right = x + window->pad_left;
    for (int32_t k = 0; k < window->in_channels; k++) {
        grad->sums[k] = 0;
    }
    for (int32_t out_y = rct_min(below / window->stride_h, window->out_h - 1); out_y >= 0; out_y--) {
        const int32_t i = below - out_y * window->stride_h;
        if (i >= window->filter_h) {
            break;
        }
        for (int32_t out_x = rct_min(right / window->stride_w, window->out_w - 1); out_x >= 0; out_x--) {
            const int32_t j = right - out_x * window->stride_w;
            if (j >= window->filter_w) {
                break;
            }
            const int32_t place = (out_y * window->out_w + out_x) * window->out_channels;
            add_output(op, grad, &error[place], i * window->filter_w + j);
        }
    }
}

/* Writes the whole input error with a given shift; returns the largest magnitude of a sum. */
static int32_t write_input_error(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                                 int32_t shift, rct_error_t *input_error)
{
    const rct_window_t *window = &op->window;
    const int32_t *sums = grad->sums;
    int32_t peak = 0;
    for (int32_t y = 0; y < window->in_h; y++) {
        for (int32_t x = 0; x < window->in_w; x++) {
            sum_pixel(op, grad, error, y, x);
            for (int32_t k = 0; k < window->in_channels; k++) {
                peak = rct_max(peak, rct_magnitude(sums[k]));
                *input_error++ = rct_saturate_error(rct_round_shift(sums[k], shift));
            }
        }
    }
    return peak;
}

static int32_t pass_error(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                          const rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t total_shift = backward->loss_exponent - backward->exponent;
    int32_t shift = rct_error_shift(*grad->gain, total_shift);
    const int32_t peak = write_input_error(op, grad, error, shift, input_error);
    if (rct_gain_update(grad->gain, peak, total_shift, &shift)) {
        write_input_error(op, grad, error, shift, input_error);
    }
    return shift;
}

/* ---- update: the gradient of one row at a time ------------------------------------------------------ */

/* Adds the share of one output pixel to the gradient of a row. */
static void add_pixel(const rct_conv_2d_t *op, const rct_cells_t *cells, const int8_t *input, int32_t error,
                      int32_t *gradient)
{
    const int32_t in_channels = op->window.in_channels;
    const int32_t zero_point = op->input_zero_point;
    const int32_t count = (cells->last_column - cells->first_column) * in_channels;
    const int32_t row = op->window.filter_w * in_channels;
    gradient += cells->first_row * row + cells->first_column * in_channels;
    input += cells->start * in_channels;
    for (int32_t i = cells->first_row; i < cells->last_row; i++) {
        const int8_t *restrict values = input;
        int32_t *restrict sums = gradient;
        for (int32_t k = 0; k < count; k++) {
            sums[k] += error * (values[k] - zero_point);
        }
        gradient += row;
        input += op->window.in_w * in_channels;
    }
}

/* The gradient of a channel's row into `gradient` and that of its bias; false where every error is 0. */
static bool row_gradient(const rct_conv_2d_t *op, const int8_t *input, const rct_error_t *error,
                         int32_t *gradient, int32_t *bias_gradient)
{
    const rct_window_t *window = &op->window;
    const int32_t shift = rct_gradient_shift(error, window->out_h * window->out_w, window->out_channels);
    bool touched = false;
    *bias_gradient = 0;
    for (int32_t y = 0; y < window->out_h; y++) {
        for (int32_t x = 0; x < window->out_w; x++, error += window->out_channels) {
            if (*error == 0) {
                continue;
            }
            for (int32_t k = 0; !touched && k < op->weights.depth; k++) {
                gradient[k] = 0;
            }
            touched = true;
            const rct_cells_t cells = rct_cells(window, y, x);
            add_pixel(op, &cells, input, rct_gradient_error(*error, shift), gradient);
            *bias_gradient += *error;
        }
    }
    if (touched) {
        rct_gradient_in_8_bits(gradient, op->weights.depth, shift);
    }
    return touched;
}

void rct_conv_2d_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                      const rct_error_t *error, rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t shift = input_error ? pass_error(op, grad, error, backward, input_error) : 0;
#if RCT_SPLIT_ROWS
    const int32_t positions = op->window.out_h * op->window.out_w;
#endif
    for (int32_t channel = 0; grad->learn && channel < op->window.out_channels; channel++) {
        int32_t bias_gradient;
#if RCT_SPLIT_ROWS
        if (rct_learn_bias(&op->weights, grad, channel, &error[channel], positions, backward)) {
            continue;
        }
#endif
        if (row_gradient(op, input, &error[channel], grad->sums, &bias_gradient)) {
            rct_learn_channel(&op->weights, grad, channel, bias_gradient, backward);
        }
    }
    backward->exponent -= shift; /* the update takes the exponent of before */
}
