/* The sum of two errors of one tensor (ARITHMETIC.md 3). */
#include "../rct.h"
#include "gain.h"
#include "integers.h"

#define RATIO_BITS 14
#define KEPT_BITS  6 /* below the coarser error's */

/* Writes the sum with a given shift, in place, unless `to` is NULL; returns the largest magnitude of a sum.
 */
static int32_t write_sum(const rct_merge_t *merge, const int32_t shifts[2], const rct_error_t *arriving,
                         const rct_error_t *error, int32_t count, int32_t shift, rct_error_t *to)
{
    int32_t peak = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t sum = rct_round_shift(error[i] * merge->ratio[0], shifts[0]) +
                            rct_round_shift(arriving[i] * merge->ratio[1], shifts[1]);
        peak = rct_max(peak, rct_magnitude(sum));
        if (to) {
            to[i] = rct_saturate_error(rct_round_away(sum, shift));
        }
    }
    return peak;
}

void rct_merge_errors(const rct_merge_t *merge, const rct_error_t *arriving, int32_t count,
                      const rct_backward_t *backward, rct_error_t *error, int32_t *exponent)
{
    const int32_t there = *exponent - merge->exponent[0];
    const int32_t comes = backward->exponent - merge->exponent[1];
    const int32_t coarsest = rct_min(there, comes);
    const int32_t shifts[2] = {
        rct_min(there - coarsest + RATIO_BITS - KEPT_BITS, 31),
        rct_min(comes - coarsest + RATIO_BITS - KEPT_BITS, 31),
    };
    const int32_t total_shift = backward->loss_exponent - (coarsest + KEPT_BITS);
    int32_t shift = rct_error_shift(*merge->gain, total_shift);
    /* What is written in place cannot be read again: the largest comes first. */
    const int32_t peak = write_sum(merge, shifts, arriving, error, count, shift, 0);
    rct_gain_update(merge->gain, peak, total_shift, &shift);
    write_sum(merge, shifts, arriving, error, count, shift, error);
    *exponent = coarsest + KEPT_BITS - shift;
}
