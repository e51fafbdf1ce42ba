/* What the parts of the adaptation share (ARITHMETIC.md 10). */
#ifndef RCT_KERNELS_ADAPT_H
#define RCT_KERNELS_ADAPT_H

#include <stddef.h>

#include "../rct_adapt.h"

/* The exported weights of a layer: their shape does not change. */
const rct_weights_t *rct_exported(const rct_adapted_layer_t *layer);

static inline uint32_t rct_row_bytes(const rct_weights_t *weights, int32_t bits)
{
    return ((uint32_t)weights->depth * (uint32_t)bits + 7u) / 8u;
}

/* Bytes that the rows of a layer that learn take at a width. */
uint32_t rct_room(const rct_adapted_layer_t *layer, int32_t bits);

static inline int32_t rct_bits_of(const rct_adaptation_t *adaptation, int32_t layer)
{
    return adaptation->parameters[2 * layer];
}

static inline int32_t rct_octave_of(const rct_adaptation_t *adaptation, int32_t layer)
{
    return (int8_t)adaptation->parameters[2 * layer + 1];
}

/* The packed rows of a layer; with the number of layers, the end of the last one. */
uint8_t *rct_rows_of(const rct_adaptation_t *adaptation, int32_t layer);

int32_t *rct_bias_of(const rct_adaptation_t *adaptation, int32_t layer);

/* Whether the integers of a layer leave room for a scale half as large. */
bool rct_can_double(const rct_adaptation_t *adaptation, int32_t layer);

/* The integers double, at a bit more. */
void rct_double(const rct_adaptation_t *adaptation, int32_t layer);

/* The integers halve, at a bit less or, for a range twice as wide, at the same bits. */
void rct_halve(const rct_adaptation_t *adaptation, int32_t layer, int32_t bits, rct_backward_t *backward);

/* Sets `planned` of every layer. */
void rct_decide(const rct_adaptation_t *adaptation);

#endif
