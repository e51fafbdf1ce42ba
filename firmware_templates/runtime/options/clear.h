/* Forgets what options hold. */
#ifndef RCT_CLEAR_H
#define RCT_CLEAR_H

#include <stdint.h>

static inline void rct_clear(void *data, uint32_t size)
{
    uint8_t *bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = 0;
    }
}

#endif
