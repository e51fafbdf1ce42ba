/* GATHER, forward. Rows that learn in part lie apart from the others: one test for a row tells. */
#define RCT_SPLIT_ROWS 1
#include "rct_gather.h"
#include "pack.h"

bool rct_ids_are_sound(const uint16_t *ids, int32_t count, uint16_t rows)
{
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] >= rows) {
            return false;
        }
    }
    return true;
}

void rct_gather(const rct_gather_t *op, const uint16_t *ids, int8_t *output)
{
    const int32_t depth = op->weights.depth;
    for (int32_t i = 0; i < op->count; i++, output += depth) {
        const int8_t *row = rct_weights_run(&op->weights, ids[i], 0, depth, output);
        for (int32_t k = 0; row != output && k < depth; k++) {
            output[k] = row[k];
        }
    }
}
