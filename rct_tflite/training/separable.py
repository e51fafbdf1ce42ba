"""Separable convolutions whose two kernels are integers, with an int8 grid between them as on the device."""

from typing import Any

import keras

from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.quantized_layer import IntegerTensor, Quantized


class _Separable(Quantized):
    """Mixin that rounds what the depthwise part computes: the device runs two ops, with an int8 tensor between them.

    Attributes:
        between: The range of that tensor.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.between = ActivationRange(name=f"{self.name}_between")

    def build(self, input_shape: Any) -> None:
        """Adds the kernels and the range."""
        super().build(input_shape)  # type: ignore[misc]
        self.between.build(None)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Runs the depthwise part, rounds its result, and runs the pointwise part."""
        layer: Any = self
        own = {"data_format": layer.data_format}
        outputs = keras.ops.depthwise_conv(
            inputs, layer.depthwise_kernel, layer.strides, layer.padding, dilation_rate=layer.dilation_rate, **own
        )
        outputs = self.between(outputs, training=training)
        outputs = keras.ops.conv(outputs, layer.pointwise_kernel, 1, "valid", **own)
        if layer.use_bias:
            last = layer.data_format == "channels_last"
            shape = (1,) * (layer.rank + 1) + (-1,) if last else (1, -1) + (1,) * layer.rank
            outputs = outputs + keras.ops.reshape(layer.bias, shape)
        return outputs if layer.activation is None else layer.activation(outputs)


@keras.saving.register_keras_serializable("rct_tflite")
class SeparableConv1D(_Separable, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with an integer depthwise and an integer pointwise kernel."""

    depthwise_kernel = IntegerTensor("depthwise_kernel", -2, -1)
    pointwise_kernel = IntegerTensor("pointwise_kernel", -1)


@keras.saving.register_keras_serializable("rct_tflite")
class SeparableConv2D(_Separable, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with an integer depthwise and an integer pointwise kernel."""

    depthwise_kernel = IntegerTensor("depthwise_kernel", -2, -1)
    pointwise_kernel = IntegerTensor("pointwise_kernel", -1)
