/*
 * GATHER: rows of a table by their numbers, as an embedding picks the vectors of words. And its training.
 *
 * The network then takes ids in place of int8 activations: rct_model_input() is where `info.input_bytes / 2`
 * numbers of type uint16_t go, each below the number of rows. No table has more than 65535 rows, so ids have
 * two bytes wherever they lie or travel, though the .tflite declares them as int32.
 *
 * An id that is no row of the table is refused before anything is computed: rct_model_predict() returns NULL,
 * and what learns, evaluates or remembers returns RCT_ERR_ARGUMENT. rct_model_input_is_sound() of rct_input.h
 * asks beforehand.
 */
#ifndef RCT_GATHER_H
#define RCT_GATHER_H

#include "rct.h"

#ifdef __cplusplus
extern "C" {
#endif

#if RCT_ERROR_BITS == 16
    #define rct_gather_grad rct_gather_grad_16
#endif

typedef struct {
    rct_weights_t weights; /* a table: channels are its rows, depth the values of one; no bias */
    int32_t count;         /* ids */
} rct_gather_t;

/* The update of a table: there is no error below it. */
typedef struct {
    uint8_t *rows; /* those that learn: the same memory as in rct_weights_t */
    rct_step_multiplier_t step;
    bool stochastic;
    int32_t *sums; /* scratch, (depth) */
} rct_gather_grad_t;

/* Whether each id is below `rows`. */
bool rct_ids_are_sound(const uint16_t *ids, int32_t count, uint16_t rows);

/* The ids are sound. */
void rct_gather(const rct_gather_t *op, const uint16_t *ids, /* (count) */
                int8_t *output);                             /* (count, depth) */

/* Updates each row that was read once, in the order of the first reading, by the sum of the errors where it
 * was read. The ids are sound. */
void rct_gather_grad(const rct_gather_t *op, const rct_gather_grad_t *grad, const uint16_t *ids, /* (count) */
                     const rct_error_t *error, /* (count, depth) */
                     rct_backward_t *backward);

#ifdef __cplusplus
}
#endif

#endif
