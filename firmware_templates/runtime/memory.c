#include "rct_model.h"

void rct_copy(void *to, const void *from, uint32_t size)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    for (uint32_t i = 0; i < size; i++) {
        target[i] = source[i];
    }
}

bool rct_equal(const void *a, const void *b, uint32_t size)
{
    const uint8_t *left = a;
    const uint8_t *right = b;
    for (uint32_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            return false;
        }
    }
    return true;
}

void rct_copy_rows(uint8_t *rows, const rct_weights_t *weights)
{
    const uint8_t *frozen = weights->split->frozen;
    for (int32_t channel = 0; channel < weights->channels; channel++, frozen += weights->row_bytes) {
        if (weights->split->places[channel] >= 0) {
            rct_copy(rows, frozen, weights->row_bytes);
            rows += weights->row_bytes;
        }
    }
}

bool rct_biases_are_within(const int32_t *bias, int32_t count, int32_t limit)
{
    for (int32_t i = 0; i < count; i++) {
        if (bias[i] < -limit || bias[i] > limit) {
            return false;
        }
    }
    return true;
}
