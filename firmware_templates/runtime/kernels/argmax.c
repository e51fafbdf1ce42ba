/* The class that a network decides for. */
#include "../rct.h"

uint16_t rct_argmax(const int8_t *values, uint16_t count)
{
    uint16_t best = 0;
    for (uint16_t i = 1; i < count; i++) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}
