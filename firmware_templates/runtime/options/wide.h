/* Weights of 9 to 16 bits (ARITHMETIC.md 2): kernels see them rounded to 8. */
#ifndef RCT_WIDE_H
#define RCT_WIDE_H

#include "integers.h"

#define RCT_WIDE_WEIGHTS 1

/* A weight as the kernels see it, whose upper nine bits begin at bit `place` of the row: they always lie in
 * two bytes. The ninth one rounds; what is shifted in below it does not matter. Only the ends come to -128:
 * the upper one because it wraps. */
static inline int32_t rct_narrow(const uint8_t *packed, uint32_t place)
{
    const uint8_t *bytes = packed + place / 8;
    const uint32_t word = (bytes[0] | (uint32_t)bytes[1] << 8) << (23 - place % 8);
    const int32_t weight = (int32_t)(word + (1u << 23)) >> 24;
    if (weight == -128) {
        return (int32_t)word < 0 ? -127 : 127;
    }
    return weight;
}

/* Where the upper nine bits of weight number `index` begin. */
static inline uint32_t rct_upper_place(int32_t index, int32_t bits)
{
    return (uint32_t)index * (uint32_t)bits + (uint32_t)bits - 9;
}

/* weight := clamp(weight - steps) within its full width, read and written at once. */
static inline void rct_subtract_wide(uint8_t *packed, int32_t index, int32_t bits, int32_t steps)
{
    const uint32_t place = (uint32_t)index * (uint32_t)bits;
    const int32_t skipped = (int32_t)(place % 8), end = skipped + bits;
    const int32_t top = (1 << (bits - 1)) - 1;
    uint8_t *bytes = packed + place / 8;
    uint32_t word = bytes[0] | (uint32_t)bytes[1] << 8;
    if (end > 16) {
        word |= (uint32_t)bytes[2] << 16;
    }
    const int32_t weight = (int32_t)(word << (32 - end)) >> (32 - bits);
    const uint32_t mask = ((1u << bits) - 1u) << skipped;
    word = (word & ~mask) | ((uint32_t)rct_clamp(weight - steps, -top, top) << skipped & mask);
    bytes[0] = (uint8_t)word;
    bytes[1] = (uint8_t)(word >> 8);
    if (end > 16) {
        bytes[2] = (uint8_t)(word >> 16);
    }
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
