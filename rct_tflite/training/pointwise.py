"""Activation functions: which op each is, and the range in front of one that was observed behind it."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from rct_tflite.spec.graph import Activation, OpKind
from rct_tflite.spec.quantization import AffineQuantization, affine_from_range

L = keras.layers

FIXED_GRIDS = {OpKind.LOGISTIC: AffineQuantization(1 / 256, -128), OpKind.TANH: AffineQuantization(1 / 128, 0)}
"""The quantisation that TFLite gives the result of these ops."""

_LARGEST_PROBABILITY = 1.0 - 2.0**-9
_LARGEST_TANH = 1.0 - 2.0**-8
"""Half a step below 1: nothing above it is told apart."""
_DEFAULT_SLOPE = 0.2
"""Of keras.activations.leaky_relu."""


@dataclass(frozen=True)
class Pointwise:
    """One activation function.

    Attributes:
        name: Keras's.
        slope: Of a leaky ReLU below 0, in float32, which is what a `.tflite` holds.
    """

    name: str
    slope: float = 0.0

    @property
    def fused(self) -> Activation | None:
        """What an op before it can do in its place, None where it must be an op of its own."""
        return _FUSED.get(self.name)

    @property
    def kind(self) -> OpKind:
        """The op that computes it. ReLU6 is RELU: its bound is the end of the range behind it."""
        return _KINDS[self.name]

    @property
    def problem(self) -> str | None:
        """Why the device cannot compute it, or None."""
        if self.name in _KINDS or self.name in _FUSED:
            return None
        known = ", ".join(sorted({*_KINDS, *_FUSED}))
        return f"its activation must be one of {known}, but it is {self.name}"


_FUSED = {"linear": Activation.NONE, "relu": Activation.RELU, "relu6": Activation.RELU6}
_KINDS = {
    "relu": OpKind.RELU,
    "relu6": OpKind.RELU,
    "leaky_relu": OpKind.LEAKY_RELU,
    "hard_silu": OpKind.HARD_SWISH,
    "sigmoid": OpKind.LOGISTIC,
    "tanh": OpKind.TANH,
}
LINEAR = Pointwise("linear")


def pointwise_of(layer: Any) -> Pointwise:
    """Returns the activation function of a layer, or of an activation layer; linear where it has none."""
    if isinstance(layer, L.ReLU):
        return _relu(layer)
    if isinstance(layer, L.LeakyReLU):
        return _leaky_relu(layer.negative_slope)
    function = getattr(layer, "activation", None)
    if function is None:
        return LINEAR
    if isinstance(function, L.Layer):
        return pointwise_of(function)
    name = str(getattr(function, "__name__", type(function).__name__))
    if getattr(keras.activations, name, None) is not function:
        return Pointwise("a function of your own")
    return _leaky_relu(_DEFAULT_SLOPE) if name == "leaky_relu" else Pointwise(name)


def _leaky_relu(slope: float) -> Pointwise:
    return Pointwise("leaky_relu", float(np.float32(slope)))


def _relu(layer: Any) -> Pointwise:
    if layer.threshold:
        return Pointwise("a ReLU with a threshold")
    if layer.max_value is None:
        return _leaky_relu(layer.negative_slope) if layer.negative_slope else Pointwise("relu")
    if layer.max_value == 6.0 and not layer.negative_slope:
        return Pointwise("relu6")
    return Pointwise(f"a ReLU with max_value {layer.max_value} and slope {layer.negative_slope}")


def range_before(function: Pointwise, output: AffineQuantization) -> AffineQuantization:
    """Returns the quantisation in front of a function, so that what it gives covers that behind it.

    Keras rounds once, behind a layer's activation; the device has an int8 tensor in front of it too.

    Args:
        function: One with an op of its own.
        output: The quantisation that was observed behind it.
    """
    low, high = output.minimum, output.maximum
    match function.name:
        case "sigmoid":
            largest = min(max(high, 0.5), _LARGEST_PROBABILITY)
            return affine_from_range(_logit(1.0 - _LARGEST_PROBABILITY), _logit(largest))
        case "tanh":
            return affine_from_range(*(math.atanh(min(max(x, -_LARGEST_TANH), _LARGEST_TANH)) for x in (low, high)))
        case "hard_silu":  # 0 below -3; solved for x above
            return affine_from_range(
                -3.0, high if high >= 3.0 else (math.sqrt(9.0 + 24.0 * max(high, 0.0)) - 3.0) / 2.0
            )
        case "leaky_relu" if function.slope > 0.0:
            return affine_from_range(low / function.slope, high)
    return affine_from_range(-high, high)


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
