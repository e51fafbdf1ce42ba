/* Hand-written stand-in: see micro_interpreter.h. */
#ifndef DECLARATIONS_SCHEMA_GENERATED_H
#define DECLARATIONS_SCHEMA_GENERATED_H

#include <stdint.h>

namespace tflite
{

class Model
{
  public:
    uint32_t version() const;
};

const Model *GetModel(const void *bytes);

} // namespace tflite

#endif
