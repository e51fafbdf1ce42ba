/* Hand-written stand-in: see micro_interpreter.h. */
#ifndef DECLARATIONS_MICRO_MUTABLE_OP_RESOLVER_H
#define DECLARATIONS_MICRO_MUTABLE_OP_RESOLVER_H

#include "tensorflow/lite/micro/micro_interpreter.h"

struct TFLMRegistration;

namespace tflite
{

TFLMRegistration Register_ADD_INT8();
TFLMRegistration Register_AVERAGE_POOL_2D_INT8();
TFLMRegistration Register_CONV_2D_INT8();
TFLMRegistration Register_DEPTHWISE_CONV_2D_INT8();
TFLMRegistration Register_FULLY_CONNECTED_INT8();
TFLMRegistration Register_MAX_POOL_2D_INT8();
TFLMRegistration Register_MUL_INT8();
TFLMRegistration Register_PAD_INT8();
TFLMRegistration Register_SOFTMAX_INT8();
TFLMRegistration Register_TRANSPOSE_CONV_INT8();
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
    TfLiteStatus AddAdd(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddAveragePool2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddConcatenation(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddConv2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddDepthwiseConv2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddFullyConnected(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddGather(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddHardSwish(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddLeakyRelu(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddLogistic(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddMaxPool2D(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddMean(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddMul(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddPad(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddQuantize(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddRelu(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddRelu6(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddReshape(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddSoftmax(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddSub(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddTanh(const TFLMRegistration &registration = Register_ANY());
    TfLiteStatus AddTransposeConv(const TFLMRegistration &registration = Register_ANY());

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
