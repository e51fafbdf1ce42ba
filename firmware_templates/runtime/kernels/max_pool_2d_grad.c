/* MAX_POOL_2D, backward. */
#include "../rct.h"
#include "integers.h"
#include "window.h"

/* Place of the first largest value of one channel, relative to the window's first cell. */
static int32_t find_largest(const rct_pool_2d_t *op, const rct_cells_t *cells, const int8_t *first)
{
    const int32_t channels = op->window.in_channels;
    const int32_t width = (cells->last_column - cells->first_column) * channels;
    int32_t largest = INT8_MIN - 1;
    int32_t place = 0;
    int32_t row = 0;
    for (int32_t i = cells->first_row; i < cells->last_row; i++, row += op->window.in_w * channels) {
        for (int32_t k = row; k < row + width; k += channels) {
            if (first[k] > largest) {
                largest = first[k];
                place = k;
            }
        }
    }
    return place;
}

void rct_max_pool_2d_grad(const rct_pool_2d_t *op, const int8_t *input, const rct_error_t *error,
                          rct_error_t *input_error)
{
    const int32_t channels = op->window.in_channels;
    const int32_t count = op->window.in_h * op->window.in_w * channels;
    for (int32_t i = 0; i < count; i++) {
        input_error[i] = 0;
    }
    for (int32_t y = 0; y < op->window.out_h; y++) {
        for (int32_t x = 0; x < op->window.out_w; x++, error += channels) {
            const rct_cells_t cells = rct_cells(&op->window, y, x);
            for (int32_t channel = 0; channel < channels; channel++) {
                if (error[channel] != 0) {
                    const int32_t first = cells.start * channels + channel;
                    const int32_t place = first + find_largest(op, &cells, &input[first]);
                    input_error[place] = rct_saturate_error(input_error[place] + error[channel]);
                }
            }
        }
    }
}
