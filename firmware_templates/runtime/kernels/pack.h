/* Packed weights (ARITHMETIC.md 2): the first weight in the lowest bits, two's complement. */
#ifndef RCT_PACK_H
#define RCT_PACK_H

#include "../rct.h"
#include "integers.h"
#include "wide.h"

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

/* The bytes of four weights, of which the first begins in byte 0. Reads no byte beyond them. */
RCT_INLINE uint32_t rct_load_4(const uint8_t *packed, int32_t bits)
{
    uint32_t word = packed[0];
    if (bits > 2) {
        word |= (uint32_t)packed[1] << 8;
    }
    if (bits > 4) {
        word |= (uint32_t)packed[2] << 16;
    }
    if (bits > 6) {
        word |= (uint32_t)packed[3] << 24;
    }
    return word;
}

/* Weight number 0 to 3 of a word that begins with the first. */
RCT_INLINE int32_t rct_weight_of_4(uint32_t word, int32_t number, int32_t bits)
{
    return (int32_t)(word << (32 - bits * (number + 1))) >> (32 - bits);
}

/* Weight number `index` of a row, at its full width. */
static inline int32_t rct_read_weight(const uint8_t *packed, int32_t index, int32_t bits)
{
    const uint32_t place = (uint32_t)index * (uint32_t)bits;
    const int32_t end = (int32_t)(place % 8) + bits;
    uint32_t word = packed[place / 8];
    if (end > 8) {
        word |= (uint32_t)packed[place / 8 + 1] << 8;
    }
    if (RCT_WIDE_WEIGHTS && end > 16) {
        word |= (uint32_t)packed[place / 8 + 2] << 16;
    }
    return (int32_t)(word << (32 - end)) >> (32 - bits);
}

/* The same as the kernels see it, in 8 bits. */
static inline int32_t rct_seen_weight(const uint8_t *packed, int32_t index, int32_t bits)
{
#if RCT_WIDE_WEIGHTS
    if (bits > 8) {
        return rct_narrow(packed, rct_upper_place(index, bits));
    }
#endif
    return rct_read_weight(packed, index, bits);
}

static inline void rct_write_weight(uint8_t *packed, int32_t index, int32_t bits, int32_t weight)
{
    const uint32_t place = (uint32_t)index * (uint32_t)bits;
    const int32_t skipped = (int32_t)(place % 8);
    const uint32_t mask = ((1u << bits) - 1u) << skipped;
    const uint32_t field = (uint32_t)weight << skipped & mask;
    packed += place / 8;
    packed[0] = (uint8_t)((packed[0] & ~mask) | field);
    if (skipped + bits > 8) {
        packed[1] = (uint8_t)((packed[1] & ~(mask >> 8)) | field >> 8);
    }
    if (RCT_WIDE_WEIGHTS && skipped + bits > 16) {
        packed[2] = (uint8_t)((packed[2] & ~(mask >> 16)) | field >> 16);
    }
}

/* The packed row of a channel: where only some rows learn, these lie apart from the others. */
static inline const uint8_t *rct_weights_row(const rct_weights_t *weights, int32_t channel)
{
    const uint8_t *rows = weights->rows;
#if RCT_SPLIT_ROWS
    if (weights->split) {
        const int32_t place = weights->split->places[channel];
        rows = place < 0 ? weights->split->frozen : rows;
        channel = place < 0 ? channel : place;
    }
#endif
    return &rows[(uint32_t)channel * weights->row_bytes];
}

/* Whether the rows of four channels lie one after the other. */
static inline bool rct_weights_in_line(const rct_weights_t *weights, int32_t channel)
{
#if RCT_SPLIT_ROWS
    if (weights->split) {
        /* Places ascend: four that learn are in line, and so are four that do not. */
        const int16_t *places = &weights->split->places[channel];
        return (places[0] < 0) == (places[1] < 0) && (places[1] < 0) == (places[2] < 0) &&
               (places[2] < 0) == (places[3] < 0);
    }
#endif
    (void)weights, (void)channel;
    return true;
}

/* `count` weights of a channel's row as int8, from number `first` on: at 8 bits where they lie, else
 * unpacked into `scratch`, of more bits rounded. */
static inline const int8_t *rct_weights_run(const rct_weights_t *weights, int32_t channel, int32_t first,
                                            int32_t count, int8_t *scratch)
{
    const uint8_t *packed = rct_weights_row(weights, channel);
    if (weights->bits == 8) {
        return (const int8_t *)&packed[first];
    }
#if RCT_WIDE_WEIGHTS
    if (weights->bits > 8) {
        rct_narrow_run(packed, first, count, weights->bits, scratch);
        return scratch;
    }
#endif
    rct_unpack_run(packed, first, count, weights->bits, scratch);
    return scratch;
}

#endif
