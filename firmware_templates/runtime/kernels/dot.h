/* The inner product of all forward kernels. */
#ifndef RCT_DOT_H
#define RCT_DOT_H

#include <stdint.h>

/* acc + sum of weights[i] * (input[i] - zero_point) */
static inline int32_t rct_dot(const int8_t *restrict weights, const int8_t *restrict input, int32_t count,
                              int32_t zero_point, int32_t acc)
{
    for (; count >= 4; count -= 4) {
        acc += weights[0] * (input[0] - zero_point);
        acc += weights[1] * (input[1] - zero_point);
        acc += weights[2] * (input[2] - zero_point);
        acc += weights[3] * (input[3] - zero_point);
        weights += 4;
        input += 4;
    }
    for (; count > 0; count--) {
        acc += *weights++ * (*input++ - zero_point);
    }
    return acc;
}

#endif
