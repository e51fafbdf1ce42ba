"""Scaling of the raw input within a model: the device does it before its first op."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from rct_tflite.training.calls import INPUT_VALUE, Call, Calls


@dataclass(frozen=True, eq=False)
class InputScaling:
    """`real = raw * scale + offset`, from the layers of a model that do it.

    Attributes:
        calls: Of these layers.
        scale: 1 where there are none.
        offset: 0 where there are none.
        value: Number of the value behind them.
    """

    calls: tuple[Call, ...]
    scale: float
    offset: float
    value: int


def input_scaling(calls: Calls) -> InputScaling:
    """Returns the scaling with one number for all inputs that a model begins with."""
    found: list[Call] = []
    scale, offset, value = 1.0, 0.0, INPUT_VALUE
    while (call := calls.sole_reader(value)) is not None and (affine := _affine_of(call.layer)) is not None:
        scale, offset = scale * affine[0], offset * affine[0] + affine[1]
        found.append(call)
        value = call.output
    return InputScaling(tuple(found), scale, offset, value)


def _affine_of(layer: Any) -> tuple[float, float] | None:
    """Returns scale and offset of a layer that has one of each, else None."""
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    elif isinstance(layer, keras.layers.Normalization) and not layer.invert:
        mean, variance = (keras.ops.convert_to_numpy(part).astype(np.float64) for part in (layer.mean, layer.variance))
        scale = 1.0 / np.maximum(np.sqrt(variance), keras.backend.epsilon())
        offset = -mean * scale
    else:
        return None
    return (float(scale.reshape(())), float(offset.reshape(()))) if scale.size == offset.size == 1 else None
