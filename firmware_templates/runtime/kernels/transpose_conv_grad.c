/* TRANSPOSE_CONV, backward: its input error is a convolution of its error. */
#include "../rct.h"
#include "gain.h"
#include "gradient.h"
#include "integers.h"
#include "learn_channel.h"
#include "pack.h"

/* The outputs that an input pixel hands to: those of its window that exist. */
typedef struct {
    int32_t top, left; /* of the window in the output, possibly outside */
    int32_t first_row, last_row;
    int32_t first_column, last_column;
} reach_t;

static reach_t reach_of(const rct_window_t *window, int32_t y, int32_t x)
{
    const int32_t top = y * window->stride_h - window->pad_top;
    const int32_t left = x * window->stride_w - window->pad_left;
    const reach_t reach = {
        .top = top,
        .left = left,
        .first_row = rct_max(0, -top),
        .last_row = rct_min(window->filter_h, window->out_h - top),
        .first_column = rct_max(0, -left),
        .last_column = rct_min(window->filter_w, window->out_w - left),
    };
    return reach;
}

/* ---- input error ------------------------------------------------------------------------------------ */

/* What one output pixel hands back through filter cell number `cell`. */
static void add_output(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                       int32_t cell)
{
    const int32_t in_channels = op->window.in_channels;
    for (int32_t channel = 0; channel < op->window.out_channels; channel++) {
        if (error[channel] != 0) {
            const int32_t scaled = rct_channel_error(&grad->scale, channel, error[channel]);
            const int8_t *weights =
                rct_weights_run(&op->weights, channel, cell * in_channels, in_channels, grad->row);
            for (int32_t k = 0; k < in_channels; k++) {
                grad->sums[k] += scaled * weights[k];
            }
        }
    }
}

/* Sums of input pixel (y, x) over all outputs that it fed. */
static void sum_pixel(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error, int32_t y,
                      int32_t x)
{
    const rct_window_t *window = &op->window;
    const reach_t reach = reach_of(window, y, x);
    for (int32_t k = 0; k < window->in_channels; k++) {
        grad->sums[k] = 0;
    }
    for (int32_t i = reach.first_row; i < reach.last_row; i++) {
        for (int32_t j = reach.first_column; j < reach.last_column; j++) {
            const int32_t place = (reach.top + i) * window->out_w + reach.left + j;
            add_output(op, grad, &error[place * window->out_channels], i * window->filter_w + j);
        }
    }
}

/* Writes the whole input error with a given shift; returns the largest magnitude of a sum. */
static int32_t write_input_error(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                                 int32_t shift, rct_error_t *input_error)
{
    int32_t peak = 0;
    for (int32_t y = 0; y < op->window.in_h; y++) {
        for (int32_t x = 0; x < op->window.in_w; x++) {
            sum_pixel(op, grad, error, y, x);
            for (int32_t k = 0; k < op->window.in_channels; k++) {
                peak = rct_max(peak, rct_magnitude(grad->sums[k]));
                *input_error++ = rct_saturate_error(rct_round_shift(grad->sums[k], shift));
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

/* ---- update ----------------------------------------------------------------------------------------- */

/* Adds the share of input pixel (y, x), `pixel`, to the gradient of a row; `error` is at the channel. */
static void add_pixel(const rct_conv_2d_t *op, const int8_t *pixel, const rct_error_t *error,
                      const reach_t *reach, int32_t shift, int32_t *gradient)
{
    const rct_window_t *window = &op->window;
    const int32_t in_channels = window->in_channels;
    for (int32_t i = reach->first_row; i < reach->last_row; i++) {
        for (int32_t j = reach->first_column; j < reach->last_column; j++) {
            const int32_t place = (reach->top + i) * window->out_w + reach->left + j;
            const int32_t value = rct_gradient_error(error[place * window->out_channels], shift);
            int32_t *cell = &gradient[(i * window->filter_w + j) * in_channels];
            for (int32_t k = 0; value != 0 && k < in_channels; k++) {
                cell[k] += value * (pixel[k] - op->input_zero_point);
            }
        }
    }
}

/* The gradient of a channel's row into `gradient`; returns that of its bias. */
static int32_t row_gradient(const rct_conv_2d_t *op, const int8_t *input, const rct_error_t *error,
                            int32_t *gradient)
{
    const rct_window_t *window = &op->window;
    const int32_t count = window->out_h * window->out_w;
    const int32_t shift = rct_gradient_shift(error, count, window->out_channels);
    int32_t bias_gradient = 0;
    for (int32_t k = 0; k < op->weights.depth; k++) {
        gradient[k] = 0;
    }
    for (int32_t y = 0; y < window->in_h; y++) {
        for (int32_t x = 0; x < window->in_w; x++, input += window->in_channels) {
            const reach_t reach = reach_of(window, y, x);
            add_pixel(op, input, error, &reach, shift, gradient);
        }
    }
    for (int32_t i = 0; i < count; i++) {
        bias_gradient += error[i * window->out_channels];
    }
    rct_gradient_in_8_bits(gradient, op->weights.depth, shift);
    return bias_gradient;
}

void rct_transpose_conv_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                             const rct_error_t *error, rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t shift = input_error ? pass_error(op, grad, error, backward, input_error) : 0;
#if RCT_SPLIT_ROWS
    const int32_t positions = op->window.out_h * op->window.out_w;
#endif
    for (int32_t channel = 0; grad->learn && channel < op->window.out_channels; channel++) {
#if RCT_SPLIT_ROWS
        if (rct_learn_bias(&op->weights, grad, channel, &error[channel], positions, backward)) {
            continue;
        }
#endif
        const int32_t bias_gradient = row_gradient(op, input, &error[channel], grad->sums);
        rct_learn_channel(&op->weights, grad, channel, bias_gradient, backward);
    }
    backward->exponent -= shift; /* the update takes the exponent of before */
}
