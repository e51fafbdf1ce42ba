"""Bytes that the parameters of a model take."""

from dataclasses import dataclass
from typing import Any

import keras

from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.integer_weight import IntegerWeight

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
        optimizer: What the optimizer holds beside `rct`: momentum, 0 by default.
    """

    rct: int
    float32: int
    qat: int
    optimizer: int = 0


def parameter_bytes(model: Any) -> ParameterBytes:
    """Counts the bytes of a quantised model's parameters at its present bit-widths.

    Args:
        model: An `RCTModel`.
    """
    weights = model.integer_weights
    count = sum(weight.weight_count for weight in weights)
    packed = sum((weight.weight_count * int(weight.bits.numpy()) + 7) // 8 for weight in weights)
    scales = sum(int(keras.ops.size(weight.scale)) for weight in weights)
    others = sum(
        int(keras.ops.size(variable))
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, (IntegerWeight, ActivationRange))
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables)
        if str(variable.dtype).startswith("float")
    )
    return ParameterBytes(
        rct=packed + _FLOAT_BYTES * (scales + others),
        float32=_FLOAT_BYTES * (count + others),
        qat=_QAT_BYTES * count + _FLOAT_BYTES * others,
        optimizer=model.optimizer.state_bytes if getattr(model, "optimizer", None) is not None else 0,
    )
