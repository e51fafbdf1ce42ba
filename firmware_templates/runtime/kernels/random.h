/* The random numbers of the stochastic rounding (ARITHMETIC.md 5): the new state is the draw. */
#ifndef RCT_RANDOM_H
#define RCT_RANDOM_H

#include <stdint.h>

#define RCT_RANDOM_FACTOR    1664525u
#define RCT_RANDOM_INCREMENT 1013904223u

static inline uint32_t rct_random(uint32_t state)
{
    return state * RCT_RANDOM_FACTOR + RCT_RANDOM_INCREMENT;
}

#endif
