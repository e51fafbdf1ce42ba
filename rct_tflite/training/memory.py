"""Bytes that the parameters of a model take."""

from dataclasses import dataclass
from typing import Any

import keras

from rct_tflite.training.quantized_layer import QuantizedLayer

_FLOAT_BYTES = 4
_QAT_BYTES = 5
"""Quantisation-aware training holds each weight twice: int8 for the pass, float32 for the update."""


@dataclass(frozen=True)
class ParameterBytes:
    """The same parameters, held in three ways, in bytes. Activation ranges are in none of them.

    Attributes:
        rct: Weights at their bit-widths, packed; their scales, biases and batch normalisation in float32.
        float32: Weights, biases and batch normalisation in float32.
        qat: Weights at 8 + 32 bits; biases and batch normalisation in float32. Its scales are not counted.
    """

    rct: int
    float32: int
    qat: int


def parameter_bytes(model: Any) -> ParameterBytes:
    """Counts the bytes of a quantised model's parameters at its present bit-widths.

    Args:
        model: An `RCTModel`.
    """
    packed = weights = scales = others = 0
    for layer in model.layers:
        if isinstance(layer, QuantizedLayer):
            packed += (layer.weight_count * int(layer.bits) + 7) // 8
            weights += layer.weight_count
            scales += int(keras.ops.size(layer.scale))
            others += layer.bias.shape[0] if layer.use_bias else 0
        elif isinstance(layer, keras.layers.BatchNormalization):
            others += layer.count_params()
    return ParameterBytes(
        rct=packed + _FLOAT_BYTES * (scales + others),
        float32=_FLOAT_BYTES * (weights + others),
        qat=_QAT_BYTES * weights + _FLOAT_BYTES * others,
    )
