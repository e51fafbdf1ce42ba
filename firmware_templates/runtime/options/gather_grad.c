/* GATHER, backward: the update of the rows that were read. */
#define RCT_SPLIT_ROWS 1
#include "rct_gather.h"
#include "update.h"

static bool was_read_before(const uint16_t *ids, int32_t place)
{
    for (int32_t i = 0; i < place; i++) {
        if (ids[i] == ids[place]) {
            return true;
        }
    }
    return false;
}

/* Adds up the errors wherever the row of `place` was read, from there on. */
static void sum_errors(const rct_gather_t *op, const uint16_t *ids, int32_t place, const rct_error_t *error,
                       int32_t *sums)
{
    const int32_t depth = op->weights.depth;
    for (int32_t k = 0; k < depth; k++) {
        sums[k] = 0;
    }
    for (int32_t i = place; i < op->count; i++) {
        for (int32_t k = 0; ids[i] == ids[place] && k < depth; k++) {
            sums[k] += error[i * depth + k];
        }
    }
}

void rct_gather_grad(const rct_gather_t *op, const rct_gather_grad_t *grad, const uint16_t *ids,
                     const rct_error_t *error, rct_backward_t *backward)
{
    const rct_weights_t *table = &op->weights;
    const int32_t low_bits = RCT_WIDE_WEIGHTS ? rct_max(table->bits - 8, 0) : 0;
    rct_row_t row = {
        .depth = table->depth,
        .bits = table->bits,
        .stochastic = grad->stochastic,
        .step = rct_step(&grad->step, 0, backward->exponent - low_bits),
    };
    for (int32_t i = 0; i < op->count; i++) {
        const int32_t place = table->split ? table->split->places[ids[i]] : ids[i];
        if (place < 0 || was_read_before(ids, i)) {
            continue;
        }
        sum_errors(op, ids, i, error, grad->sums);
        row.weights = &grad->rows[(uint32_t)place * table->row_bytes];
        backward->random = rct_update_from_sums(&row, grad->sums, backward->random);
    }
}
