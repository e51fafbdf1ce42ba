/* The cells of a window that lie in the image. */
#ifndef RCT_WINDOW_H
#define RCT_WINDOW_H

#include "../rct.h"
#include "integers.h"

typedef struct {
    int32_t first_row, last_row;       /* of the filter; the last is one past the end */
    int32_t first_column, last_column; /* */
    int32_t start;                     /* place of the first cell in the image: row * in_w + column */
} rct_cells_t;

/* The cells of the window of output (y, x); there is at least one. */
static inline rct_cells_t rct_cells(const rct_window_t *window, int32_t y, int32_t x)
{
    const int32_t top = y * window->stride_h - window->pad_top;
    const int32_t left = x * window->stride_w - window->pad_left;
    rct_cells_t cells = {
        .first_row = rct_max(0, -top),
        .last_row = rct_min(window->filter_h, window->in_h - top),
        .first_column = rct_max(0, -left),
        .last_column = rct_min(window->filter_w, window->in_w - left),
    };
    cells.start = (top + cells.first_row) * window->in_w + left + cells.first_column;
    return cells;
}

#endif
