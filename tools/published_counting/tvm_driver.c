/* Runs a model once that TVM's generator of C wrote, on numbers that are always the same. */
#include "tvmgen_default.h"

#include <stddef.h>
#include <stdint.h>

#define INPUT_BYTES     27648 /* of the largest model */
#define OUTPUT_BYTES    2560
#define WORKSPACE_BYTES 400000 /* what the generated code asks for while it runs: at most 353800 */

static union {
    float f32[INPUT_BYTES / 4];
    int8_t s8[INPUT_BYTES];
} input;
static uint64_t output[OUTPUT_BYTES / 8];
static uint64_t workspace[WORKSPACE_BYTES / 8];
static size_t words_used;

/* Two calls that the generated code makes; it frees in the reverse order. */
void *TVMBackendAllocWorkspace(int device_type, int device, uint64_t bytes, int type_code, int type_bits);
int TVMBackendFreeWorkspace(int device_type, int device, void *pointer);
void counted_end(void);

void *TVMBackendAllocWorkspace(int device_type, int device, uint64_t bytes, int type_code, int type_bits)
{
    (void)device_type;
    (void)device;
    (void)type_code;
    (void)type_bits;
    const uint64_t words = (bytes + 7u) / 8u;
    if (words > WORKSPACE_BYTES / 8u - words_used) {
        return NULL;
    }
    void *start = &workspace[words_used];
    words_used += (size_t)words;
    return start;
}

int TVMBackendFreeWorkspace(int device_type, int device, void *pointer)
{
    (void)device_type;
    (void)device;
    words_used = (size_t)((uint64_t *)pointer - workspace);
    return 0;
}

/* Marks the end. */
__attribute__((noinline)) void counted_end(void)
{
    __asm volatile("");
}

int main(void)
{
    uint32_t random = 1u;
    for (size_t i = 0; i < INPUT_BYTES / (FLOAT_INPUT ? 4 : 1); i++) {
        random = random * 1664525u + 1013904223u;
        const int8_t value = (int8_t)(random >> 24);
        if (FLOAT_INPUT) {
            input.f32[i] = (float)value / 16.0f;
        } else {
            input.s8[i] = value;
        }
    }
    struct tvmgen_default_inputs inputs = {&input};
    struct tvmgen_default_outputs outputs = {output};
    const int32_t failed = tvmgen_default_run(&inputs, &outputs);
    counted_end();
    return failed != 0;
}
