/* DEPTHWISE_CONV_2D, backward. */
#include "../rct.h"
#include "gain.h"
#include "gradient.h"
#include "integers.h"
#include "learn_channel.h"
#include "pack.h"
#include "window.h"

/* ---- input error: for each input element, what every output that it fed hands back ------------------ */

/* What the outputs of one channel hand back to input pixel (y, x); `error` is at the channel. */
static int32_t sum_outputs(const rct_window_t *window, const int8_t *weights, const rct_error_t *error,
                           const rct_error_scale_t *scale, int32_t channel, int32_t y, int32_t x)
{
    const int32_t below = y + window->pad_top;
    const int32_t right = x + window->pad_left;
    int32_t sum = 0;
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
            const int32_t value = error[(out_y * window->out_w + out_x) * window->out_channels];
            sum += rct_channel_error(scale, channel, value) * weights[i * window->filter_w + j];
        }
    }
    return sum;
}

/* Writes the whole input error with a given shift; returns the largest magnitude of a sum. */
static int32_t write_input_error(const rct_conv_2d_t *op, const rct_grad_t *grad, const rct_error_t *error,
                                 int32_t shift, rct_error_t *input_error)
{
    const rct_window_t *window = &op->window;
    const int32_t multiplier = window->out_channels / window->in_channels;
    int32_t peak = 0;
    for (int32_t y = 0; y < window->in_h; y++) {
        for (int32_t x = 0; x < window->in_w; x++) {
            for (int32_t k = 0, channel = 0; k < window->in_channels; k++) {
                int32_t sum = 0;
                for (int32_t m = 0; m < multiplier; m++, channel++) {
                    const int8_t *weights =
                        rct_weights_run(&op->weights, channel, 0, op->weights.depth, grad->row);
                    sum += sum_outputs(window, weights, &error[channel], &grad->scale, channel, y, x);
                }
                peak = rct_max(peak, rct_magnitude(sum));
                *input_error++ = rct_saturate_error(rct_round_shift(sum, shift));
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

/* Adds the share of one output to the gradient of a row; `input` is at the channel of the image's first
 * pixel. */
static void add_output(const rct_conv_2d_t *op, const rct_cells_t *cells, const int8_t *input, int32_t error,
                       int32_t *gradient)
{
    const int32_t pixel = op->window.in_channels;
    const int32_t columns = cells->last_column - cells->first_column;
    gradient += cells->first_row * op->window.filter_w + cells->first_column;
    input += cells->start * pixel;
    for (int32_t i = cells->first_row; i < cells->last_row; i++) {
        for (int32_t j = 0; j < columns; j++) {
            gradient[j] += error * (input[j * pixel] - op->input_zero_point);
        }
        gradient += op->window.filter_w;
        input += op->window.in_w * pixel;
    }
}

/* The gradient of a channel's row into `gradient`; returns that of its bias. */
static int32_t row_gradient(const rct_conv_2d_t *op, const int8_t *input, const rct_error_t *error,
                            int32_t *gradient)
{
    const rct_window_t *window = &op->window;
    const int32_t shift = rct_gradient_shift(error, window->out_h * window->out_w, window->out_channels);
    int32_t bias_gradient = 0;
    for (int32_t k = 0; k < op->weights.depth; k++) {
        gradient[k] = 0;
    }
    for (int32_t y = 0; y < window->out_h; y++) {
        for (int32_t x = 0; x < window->out_w; x++, error += window->out_channels) {
            if (*error != 0) {
                const rct_cells_t cells = rct_cells(window, y, x);
                add_output(op, &cells, input, rct_gradient_error(*error, shift), gradient);
                bias_gradient += *error;
            }
        }
    }
    rct_gradient_in_8_bits(gradient, op->weights.depth, shift);
    return bias_gradient;
}

void rct_depthwise_conv_2d_grad(const rct_conv_2d_t *op, const rct_grad_t *grad, const int8_t *input,
                                const rct_error_t *error, rct_backward_t *backward, rct_error_t *input_error)
{
    const int32_t shift = input_error ? pass_error(op, grad, error, backward, input_error) : 0;
    const int32_t multiplier = op->window.out_channels / op->window.in_channels;
#if RCT_SPLIT_ROWS
    const int32_t positions = op->window.out_h * op->window.out_w;
#endif
    for (int32_t channel = 0; grad->learn && channel < op->window.out_channels; channel++) {
#if RCT_SPLIT_ROWS
        if (rct_learn_bias(&op->weights, grad, channel, &error[channel], positions, backward)) {
            continue;
        }
#endif
        const int32_t bias_gradient =
            row_gradient(op, &input[channel / multiplier], &error[channel], grad->sums);
        rct_learn_channel(&op->weights, grad, channel, bias_gradient, backward);
    }
    backward->exponent -= shift; /* the update takes the exponent of before */
}
