/* AVERAGE_POOL_2D, backward. */
#include "../rct.h"
#include "integers.h"
#include "window.h"

void rct_average_pool_2d_grad(const rct_pool_2d_t *op, const rct_error_t *error, rct_error_t *input_error)
{
    const int32_t channels = op->window.in_channels;
    const int32_t count = op->window.in_h * op->window.in_w * channels;
    const int32_t width = op->window.filter_w * channels;
    for (int32_t i = 0; i < count; i++) {
        input_error[i] = 0;
    }
    for (int32_t y = 0; y < op->window.out_h; y++) {
        for (int32_t x = 0; x < op->window.out_w; x++, error += channels) {
            const rct_cells_t cells = rct_cells(&op->window, y, x);
            rct_error_t *row = &input_error[cells.start * channels];
            for (int32_t i = 0; i < op->window.filter_h; i++, row += op->window.in_w * channels) {
                for (int32_t k = 0, channel = 0; k < width; k++) {
                    row[k] = rct_saturate_error(row[k] + error[channel]);
                    channel = channel + 1 == channels ? 0 : channel + 1;
                }
            }
        }
    }
}
