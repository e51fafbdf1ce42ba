/* The error of SUB's second operand. */
#include "../rct.h"

void rct_negate_errors(const rct_error_t *error, int32_t count, rct_error_t *input_error)
{
    for (int32_t i = 0; i < count; i++) {
        input_error[i] = (rct_error_t)-error[i];
    }
}
