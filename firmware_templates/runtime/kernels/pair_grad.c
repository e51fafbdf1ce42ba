/* ADD, SUB and MUL, backward, where the error of an operand is a product or a sum. */
#include "../rct.h"
#include "gain.h"
#include "integers.h"

/* What output i hands back; `j` is its place in the other operand. */
static inline int32_t product_at(const rct_pair_grad_t *grad, const int8_t *other, const rct_error_t *error,
                                 int32_t i, int32_t j)
{
    const int32_t value = grad->negative ? -error[i] : error[i];
    const int32_t product = other ? value * (other[j] - grad->other_zero_point) : value;
    return rct_round_shift(product, RCT_ERROR_BITS > 8 ? grad->dropped_bits : 0);
}

/* Writes an operand that does not repeat with a given shift, unless `input_error` is NULL; returns the
 * largest magnitude of a product. */
static int32_t write_products(const rct_pair_grad_t *grad, const int8_t *other, const rct_error_t *error,
                              int32_t shift, rct_error_t *input_error)
{
    int32_t peak = 0;
    for (int32_t i = 0, j = 0; i < grad->count; i++) {
        const int32_t product = product_at(grad, other, error, i, j);
        peak = rct_max(peak, rct_magnitude(product));
        if (input_error) {
            input_error[i] = rct_saturate_error(rct_round_shift(product, shift));
        }
        j = j + 1 == grad->other ? 0 : j + 1;
    }
    return peak;
}

/* Sums what the repetitions of an operand hand back; returns the largest magnitude of a sum. */
static int32_t sum_repetitions(const rct_pair_grad_t *grad, const int8_t *other, const rct_error_t *error)
{
    for (int32_t k = 0; k < grad->operand; k++) {
        grad->sums[k] = 0;
    }
    for (int32_t i = 0, j = 0, k = 0; i < grad->count; i++) {
        grad->sums[k] += product_at(grad, other, error, i, j);
        j = j + 1 == grad->other ? 0 : j + 1;
        k = k + 1 == grad->operand ? 0 : k + 1;
    }
    int32_t peak = 0;
    for (int32_t k = 0; k < grad->operand; k++) {
        peak = rct_max(peak, rct_magnitude(grad->sums[k]));
    }
    return peak;
}

void rct_pair_grad(const rct_pair_grad_t *grad, const int8_t *other, const rct_error_t *error,
                   rct_backward_t *backward, rct_error_t *input_error)
{
    const bool repeats = grad->operand < grad->count;
    const int32_t total_shift = backward->loss_exponent - backward->exponent;
    int32_t shift = rct_error_shift(*grad->gain, total_shift);
    if (repeats) {
        const int32_t peak = sum_repetitions(grad, other, error);
        rct_gain_update(grad->gain, peak, total_shift, &shift);
        for (int32_t k = 0; k < grad->operand; k++) {
            input_error[k] = rct_saturate_error(rct_round_shift(grad->sums[k], shift));
        }
    } else {
        /* What is written in place cannot be read again: the largest comes first. */
        const int32_t peak = write_products(grad, other, error, shift, 0);
        rct_gain_update(grad->gain, peak, total_shift, &shift);
        write_products(grad, other, error, shift, input_error);
    }
    backward->exponent -= shift;
}
