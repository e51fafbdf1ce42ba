/* The error of SUB's second operand. */
#include "../rct.h"

void rct_negate_errors(const int8_t *error, int32_t count, int8_t *input_error)
{
    for (int32_t i = 0; i < count; i++) {
        input_error[i] = (int8_t)-error[i];
    }
}
