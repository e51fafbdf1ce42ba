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

/* acc + sum of weights[i] * (input[i] + offset) for four rows of int8, `stride` apart: the input is read
 * once, and where it is 0, as half of them are behind a RELU, nothing is added. `offset` is minus the zero
 * point: the flags of an addition tell 0. Counting down to 0 costs no comparison. */
static inline void rct_dot_4(const int8_t *restrict weights, int32_t stride, const int8_t *restrict input,
                             int32_t count, int32_t offset, int32_t *restrict acc)
{
    const int8_t *row_1 = weights + stride;
    const int8_t *row_2 = row_1 + stride;
    const int8_t *row_3 = row_2 + stride;
    int32_t acc_0 = acc[0], acc_1 = acc[1], acc_2 = acc[2], acc_3 = acc[3];
    uint32_t i = (uint32_t)count; /* unsigned: gcc keeps one index, not four pointers */
    while (i-- > 0) {
        const int32_t value = input[i] + offset;
        if (value != 0) {
            acc_0 += weights[i] * value;
            acc_1 += row_1[i] * value;
            acc_2 += row_2[i] * value;
            acc_3 += row_3[i] * value;
        }
    }
    acc[0] = acc_0;
    acc[1] = acc_1;
    acc[2] = acc_2;
    acc[3] = acc_3;
}

#endif
