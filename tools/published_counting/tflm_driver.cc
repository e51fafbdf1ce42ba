/* Runs a model once in TFLite-Micro, on numbers that are always the same. MODEL is the array that holds it.
 */
#include "rct_port.h"

#include "tensorflow/lite/micro/micro_error_reporter.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include <cstddef>
#include <cstdint>

#define ARENA_BYTES (200 * 1024) /* as in the submission */

extern const unsigned char MODEL[];
alignas(16) static uint8_t arena[ARENA_BYTES];

extern "C" {
[[noreturn]] void abort(void);
[[noreturn]] void __assert_func(const char *file, int line, const char *function, const char *condition);
void counted_end(void);
void __cxa_pure_virtual(void);
void DebugLog(const char *text);

/* Marks the end. */
__attribute__((noinline)) void counted_end(void)
{
    __asm volatile("");
}

/* The C library's would want an operating system. */
void abort(void)
{
    for (;;) {
    }
}

void __assert_func(const char *, int, const char *, const char *)
{
    abort();
}

void __cxa_pure_virtual(void)
{
    abort();
}

void DebugLog(const char *text)
{
    rct_port_print(text);
}
}

/* Objects here live on the stack: nothing is ever deleted. */
void operator delete(void *) noexcept
{
}

void operator delete(void *, size_t) noexcept
{
}

int main()
{
    tflite::MicroErrorReporter reporter;
    tflite::MicroMutableOpResolver<7> resolver;
    resolver.AddConv2D();
    resolver.AddDepthwiseConv2D();
    resolver.AddFullyConnected();
    resolver.AddAdd();
    resolver.AddAveragePool2D();
    resolver.AddReshape();
    resolver.AddSoftmax();
    tflite::MicroInterpreter interpreter(tflite::GetModel(MODEL), resolver, arena, sizeof(arena), &reporter);
    if (interpreter.AllocateTensors() != kTfLiteOk) {
        return 1;
    }
    TfLiteTensor *input = interpreter.input(0);
    uint32_t random = 1u;
    for (size_t i = 0; i < input->bytes; i++) {
        random = random * 1664525u + 1013904223u;
        input->data.int8[i] = static_cast<int8_t>(random >> 24);
    }
    const TfLiteStatus status = interpreter.Invoke();
    counted_end();
    return status != kTfLiteOk;
}
