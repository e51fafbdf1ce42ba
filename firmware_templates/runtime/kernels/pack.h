/* Packed weights (ARITHMETIC.md 2): the first weight in the lowest bits, two's complement. */
#ifndef RCT_PACK_H
#define RCT_PACK_H

#include "../rct.h"

/* The next four bytes, whatever the alignment and byte order of the core: compilers make one load of it. */
static inline uint32_t rct_load_word(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Four weights from the lowest bits of a word on. The conversion to int32_t wraps: C99 leaves that to the
 * compiler. */
static inline void rct_unpack_4(uint32_t word, int32_t bits, int8_t *restrict weights)
{
    const int32_t unused = 32 - bits;
    weights[0] = (int8_t)((int32_t)(word << unused) >> unused);
    word >>= bits;
    weights[1] = (int8_t)((int32_t)(word << unused) >> unused);
    word >>= bits;
    weights[2] = (int8_t)((int32_t)(word << unused) >> unused);
    word >>= bits;
    weights[3] = (int8_t)((int32_t)(word << unused) >> unused);
}

/* Eight weights are `bits` bytes. Up to 3 bits reads a word that is longer than that. */
static inline void rct_unpack_8(const uint8_t *restrict packed, int32_t bits, int8_t *restrict weights)
{
    const uint32_t low = rct_load_word(packed);
    const uint32_t high = bits < 4 ? low >> (4 * bits) : rct_load_word(packed + bits - 4) >> (32 - 4 * bits);
    rct_unpack_4(low, bits, weights);
    rct_unpack_4(high, bits, weights + 4);
}

/* Unpacks `count` weights from weight number `first` of the row on; at most 7 bits. */
static inline void rct_unpack_run(const uint8_t *restrict packed, int32_t first, int32_t count, int32_t bits,
                                  int8_t *restrict weights)
{
    const int32_t skipped = first * bits;
    packed += skipped / 8;
    if (skipped % 8 == 0) {
        for (; count >= 8 && count * bits >= 32; count -= 8, packed += bits, weights += 8) {
            rct_unpack_8(packed, bits, weights);
        }
    }
    if (count == 0) {
        return;
    }
    const uint32_t mask = (1u << bits) - 1u;
    const uint32_t sign = 1u << (bits - 1);
    uint32_t buffer = (uint32_t)*packed++ >> (skipped % 8);
    int32_t filled = 8 - skipped % 8;
    for (int32_t i = 0; i < count; i++) {
        if (filled < bits) {
            buffer |= (uint32_t)*packed++ << filled;
            filled += 8;
        }
        weights[i] = (int8_t)((int32_t)((buffer & mask) ^ sign) - (int32_t)sign);
        buffer >>= bits;
        filled -= bits;
    }
}

static inline void rct_unpack_row(const uint8_t *packed, int32_t depth, int32_t bits, int8_t *row)
{
    rct_unpack_run(packed, 0, depth, bits, row);
}

static inline uint32_t rct_pack_4(const int8_t *weights, int32_t bits)
{
    const uint32_t mask = (1u << bits) - 1u;
    const uint32_t high = ((uint32_t)weights[3] & mask) << bits | ((uint32_t)weights[2] & mask);
    const uint32_t low = ((uint32_t)weights[1] & mask) << bits | ((uint32_t)weights[0] & mask);
    return high << (2 * bits) | low;
}

/* At most 7 bits. */
static inline void rct_pack_row(const int8_t *restrict row, int32_t depth, int32_t bits,
                                uint8_t *restrict packed)
{
    const uint32_t mask = (1u << bits) - 1u;
    uint32_t buffer = 0;
    int32_t filled = 0;
    while (depth > 0) {
        if (depth >= 4) {
            buffer |= rct_pack_4(row, bits) << filled; /* at most 4 of 8 bits are filled before */
            filled += 4 * bits;
            row += 4;
            depth -= 4;
        } else {
            buffer |= ((uint32_t)*row++ & mask) << filled;
            filled += bits;
            depth--;
        }
        for (; filled >= 8; filled -= 8) {
            *packed++ = (uint8_t)buffer;
            buffer >>= 8;
        }
    }
    if (filled > 0) {
        *packed = (uint8_t)buffer;
    }
}

/* `count` weights of a channel's row as int8, from number `first` on: at 8 bits where they lie, else
 * unpacked into `scratch`. */
static inline const int8_t *rct_weights_run(const rct_weights_t *weights, int32_t channel, int32_t first,
                                            int32_t count, int8_t *scratch)
{
    const uint8_t *packed = &weights->rows[(uint32_t)channel * weights->row_bytes];
    if (weights->bits == 8) {
        return (const int8_t *)&packed[first];
    }
    rct_unpack_run(packed, first, count, weights->bits, scratch);
    return scratch;
}

#endif
