/* The inner products of the forward kernels: acc + sum of weights[i] * (input[i] - zero_point). */
#ifndef RCT_DOT_H
#define RCT_DOT_H

#include <stdint.h>

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

/* Four rows at once, `depth` apart: the input is read once. Rows of 8 bits only. */
typedef struct {
    int32_t row[4];
} rct_acc_4_t;

static inline rct_acc_4_t rct_dot_4(const int8_t *restrict weights, int32_t depth,
                                    const int8_t *restrict input, int32_t count, int32_t zero_point,
                                    rct_acc_4_t acc)
{
    const int8_t *restrict row_1 = weights + depth;
    const int8_t *restrict row_2 = row_1 + depth;
    const int8_t *restrict row_3 = row_2 + depth;
    for (int32_t i = 0; i < count; i++) { /* unrolled, it would run out of registers on 32-bit Arm */
        const int32_t value = input[i] - zero_point;
        acc.row[0] += weights[i] * value;
        acc.row[1] += row_1[i] * value;
        acc.row[2] += row_2[i] * value;
        acc.row[3] += row_3[i] * value;
    }
    return acc;
}

#endif
