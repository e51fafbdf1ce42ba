/* Packed weights (ARITHMETIC.md 2): the first weight in the lowest bits, two's complement. */
#ifndef RCT_PACK_H
#define RCT_PACK_H

#include "../rct.h"

/* Eight weights from the start of a byte on; reads up to four bytes behind the half of them. */
static inline void rct_unpack_8(const uint8_t *restrict packed, int32_t bits, int8_t *restrict weights)
{
    const int32_t unused = 32 - bits;
    const uint8_t *half = packed + bits / 2; /* four weights are bits / 2 bytes */
    uint32_t low =
        packed[0] | (uint32_t)packed[1] << 8 | (uint32_t)packed[2] << 16 | (uint32_t)packed[3] << 24;
    uint32_t high = half[0] | (uint32_t)half[1] << 8 | (uint32_t)half[2] << 16 | (uint32_t)half[3] << 24;
    high >>= bits % 2 * 4;
    for (int32_t i = 0; i < 4; i++) {
        weights[i] = (int8_t)((int32_t)(low << unused) >> unused);
        weights[i + 4] = (int8_t)((int32_t)(high << unused) >> unused);
        low >>= bits;
        high >>= bits;
    }
}

/* Unpacks `count` weights, at least one, from weight number `first` of the row on. */
static inline void rct_unpack_run(const uint8_t *restrict packed, int32_t first, int32_t count, int32_t bits,
                                  int8_t *restrict weights)
{
    const int32_t skipped = first * bits;
    packed += skipped / 8;
    /* Eight weights are `bits` bytes; the fast path must not read behind the last byte of the run. */
    for (; skipped % 8 == 0 && count * bits >= 8 * (bits / 2 + 4); count -= 8) {
        rct_unpack_8(packed, bits, weights);
        packed += bits;
        weights += 8;
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

static inline void rct_pack_row(const int8_t *restrict row, int32_t depth, int32_t bits,
                                uint8_t *restrict packed)
{
    const uint32_t mask = (1u << bits) - 1u;
    uint32_t buffer = 0;
    int32_t filled = 0;
    for (int32_t i = 0; i < depth; i++) {
        buffer |= ((uint32_t)row[i] & mask) << filled;
        filled += bits;
        if (filled >= 8) {
            *packed++ = (uint8_t)buffer;
            buffer >>= 8;
            filled -= 8;
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
