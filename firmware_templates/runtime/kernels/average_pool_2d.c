/* AVERAGE_POOL_2D, forward. */
#include "../rct.h"
#include "integers.h"
#include "window.h"

static int32_t sum_window(const rct_pool_2d_t *op, const rct_cells_t *cells, const int8_t *row)
{
    const int32_t channels = op->window.in_channels;
    const int32_t width = (cells->last_column - cells->first_column) * channels;
    int32_t sum = 0;
    for (int32_t i = cells->first_row; i < cells->last_row; i++, row += op->window.in_w * channels) {
        for (int32_t k = 0; k < width; k += channels) {
            sum += row[k];
        }
    }
    return sum;
}

void rct_average_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output)
{
    const int32_t channels = op->window.in_channels;
    for (int32_t y = 0; y < op->window.out_h; y++) {
        for (int32_t x = 0; x < op->window.out_w; x++) {
            const rct_cells_t cells = rct_cells(&op->window, y, x);
            const int32_t count =
                (cells.last_row - cells.first_row) * (cells.last_column - cells.first_column);
            for (int32_t channel = 0; channel < channels; channel++) {
                const int32_t sum = sum_window(op, &cells, &input[cells.start * channels + channel]);
                const int32_t half = sum < 0 ? -(count / 2) : count / 2;
                *output++ = (int8_t)rct_clamp((sum + half) / count, op->act_min, op->act_max);
            }
        }
    }
}
