/* Ops whose output depends on one value: activations of their own, and QUANTIZE. */
#include "../rct.h"

void rct_table(const int8_t *table, const int8_t *input, int32_t count, int8_t *output)
{
    for (int32_t i = 0; i < count; i++) {
        output[i] = table[input[i] - INT8_MIN];
    }
}
