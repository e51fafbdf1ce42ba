/* Hand-written stand-in: the declarations of TensorFlow Lite Micro that the artifacts use, nothing more.
 * It lets a compiler check their syntax and types; it cannot run. */
#ifndef DECLARATIONS_MICRO_INTERPRETER_H
#define DECLARATIONS_MICRO_INTERPRETER_H

#include <stddef.h>
#include <stdint.h>

#define TFLITE_SCHEMA_VERSION (3)

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef enum { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteInt8 = 9 } TfLiteType;

typedef union {
    int32_t *i32;
    int8_t *int8;
    void *data;
} TfLitePtrUnion;

typedef struct {
    TfLiteType type;
    TfLitePtrUnion data;
    size_t bytes;
} TfLiteTensor;

namespace tflite
{

class Model;
class MicroOpResolver;

class MicroInterpreter
{
  public:
    MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t arena_size);
    ~MicroInterpreter();
    TfLiteStatus AllocateTensors();
    TfLiteStatus Invoke();
    TfLiteTensor *input(size_t index);
    TfLiteTensor *output(size_t index);
    size_t arena_used_bytes() const;
};

} // namespace tflite

#endif
