/* The inner products of the forward kernels: acc + sum of weights[i] * (input[i] - zero_point). */
#ifndef RCT_DOT_H
#define RCT_DOT_H

#include "integers.h"

/* One row of int8. */
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

/* Four rows of int8, `depth` apart: the input is read once, and where it is 0, as half of them are behind a
 * RELU, nothing is added. Counting down to 0 costs no comparison. */
static inline void rct_dot_4(const int8_t *restrict weights, int32_t depth, const int8_t *restrict input,
                             int32_t count, int32_t zero_point, int32_t *restrict acc)
{
    const int8_t *restrict row_1 = weights + depth;
    const int8_t *restrict row_2 = row_1 + depth;
    const int8_t *restrict row_3 = row_2 + depth;
    const int32_t offset = -zero_point;
    int32_t acc_0 = acc[0], acc_1 = acc[1], acc_2 = acc[2], acc_3 = acc[3];
    while (--count >= 0) {
        const int32_t value = input[count] + offset; /* an addition: its flags tell 0 */
        if (value != 0) {
            acc_0 += weights[count] * value;
            acc_1 += row_1[count] * value;
            acc_2 += row_2[count] * value;
            acc_3 += row_3[count] * value;
        }
    }
    acc[0] = acc_0;
    acc[1] = acc_1;
    acc[2] = acc_2;
    acc[3] = acc_3;
}

#endif
