/* Hand-written stand-in: see micro_interpreter.h. */
#ifndef DECLARATIONS_MICRO_MUTABLE_OP_RESOLVER_H
#define DECLARATIONS_MICRO_MUTABLE_OP_RESOLVER_H

#include "tensorflow/lite/micro/micro_interpreter.h"

struct TFLMRegistration;

namespace tflite
{

TFLMRegistration Register_AVERAGE_POOL_2D_INT8();
TFLMRegistration Register_CONV_2D_INT8();
TFLMRegistration Register_FULLY_CONNECTED_INT8();
TFLMRegistration Register_MAX_POOL_2D_INT8();
TFLMRegistration Register_ANY();

class MicroOpResolver
{
  public:
    virtual ~MicroOpResolver();

  private:
    void operator delete(void *)
    {
    }
};

template <unsigned int ops> class MicroMutableOpResolver : public MicroOpResolver
{
  public:
    TfLiteStatus AddAveragePool2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddConv2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddFullyConnected(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddMaxPool2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddReshape(const TFLMRegistration &registration = Register_ANY());

  private:
    void operator delete(void *)
    {
    }
};

} // namespace tflite

struct TFLMRegistration {
    void *invoke;
};

#endif
