/* The backward pass of an activation of its own: the slope at its input. */
#include "../rct.h"
#include "integers.h"

#define SLOPE_BITS (RCT_ERROR_BITS - 2) /* slopes are within 2**SLOPE_BITS: nothing saturates */

void rct_table_grad(const rct_error_t *slopes, const int8_t *input, const rct_error_t *error, int32_t count,
                    rct_error_t *input_error)
{
    for (int32_t i = 0; i < count; i++) {
        input_error[i] = (rct_error_t)rct_round_shift(error[i] * slopes[input[i] - INT8_MIN], SLOPE_BITS);
    }
}
