/* MAX_POOL_2D, forward. */
#include "../rct.h"
#include "integers.h"
#include "window.h"

void rct_max_pool_2d(const rct_pool_2d_t *op, const int8_t *input, int8_t *output)
{
    const int32_t channels = op->window.in_channels;
    const int32_t stride = op->window.in_w * channels;
    for (int32_t y = 0; y < op->window.out_h; y++) {
        for (int32_t x = 0; x < op->window.out_w; x++) {
            const rct_cells_t cells = rct_cells(&op->window, y, x);
            const int32_t width = (cells.last_column - cells.first_column) * channels;
            const int8_t *first = &input[cells.start * channels];
            for (int32_t channel = 0; channel < channels; channel++) {
                const int8_t *row = &first[channel];
                int32_t largest = INT8_MIN;
                for (int32_t i = cells.first_row; i < cells.last_row; i++, row += stride) {
                    for (int32_t k = 0; k < width; k += channels) {
                        largest = rct_max(largest, row[k]);
                    }
                }
                *output++ = (int8_t)rct_clamp(largest, op->act_min, op->act_max);
            }
        }
    }
}
