/* Weights of 9 to 16 bits (ARITHMETIC.md 2): kernels see them rounded to 8. */
#ifndef RCT_WIDE_H
#define RCT_WIDE_H

#include "integers.h"

#define RCT_WIDE_WEIGHTS 1

/* A weight as the kernels see it, whose upper nine bits begin at bit `place` of the row: they always lie in
 * two bytes. The ninth one rounds. */
static inline int32_t rct_narrow(const uint8_t *packed, uint32_t place)
{
    const uint8_t *bytes = packed + place / 8;
    const uint32_t word = bytes[0] | (uint32_t)bytes[1] << 8;
    const int32_t upper = (int32_t)(word << (23 - place % 8)) >> 23;
    return rct_clamp((upper + 1) >> 1, -127, 127);
}

/* Where the upper nine bits of weight number `index` begin. */
static inline uint32_t rct_upper_place(int32_t index, int32_t bits)
{
    return (uint32_t)index * (uint32_t)bits + (uint32_t)bits - 9;
}

/* `count` weights from weight number `first` of the row on, as the kernels see them. */
static inline void rct_narrow_run(const uint8_t *restrict packed, int32_t first, int32_t count, int32_t bits,
                                  int8_t *restrict weights)
{
    uint32_t place = rct_upper_place(first, bits);
    for (int32_t i = 0; i < count; i++, place += (uint32_t)bits) {
        weights[i] = (int8_t)rct_narrow(packed, place);
    }
}

#endif
