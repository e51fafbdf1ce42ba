/* The random numbers of the stochastic rounding (ARITHMETIC.md 5): the new state is the draw. */
#ifndef RCT_RANDOM_H
#define RCT_RANDOM_H

#include <stdint.h>

static inline uint32_t rct_random(uint32_t state)
{
    return state * 1664525u + 1013904223u;
}

#endif
