"""Grouping the calls of a model into what the device computes together."""

from dataclasses import dataclass
from typing import Any

import keras

from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.spec.quantization import AffineQuantization, affine_from_range
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.calls import Call, Calls
from rct_tflite.training.placement import Role, role_of
from rct_tflite.training.pointwise import LINEAR, Pointwise, pointwise_of
from rct_tflite.training.quantized_layer import Quantized

L = keras.layers

ACTIVATIONS = (L.Activation, L.ReLU, L.LeakyReLU)
"""Layers that are one activation function."""
PASSES = (L.Dropout, L.Identity, L.SpatialDropout1D, L.SpatialDropout2D)
"""Layers that change nothing when they do not train."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer with what follows it directly: batch normalisation behind weights, an activation, the range.

    Attributes:
        call: Of the layer.
        output: The value behind all of it.
        batch_norm: Folded into the weights; None where there is none.
        function: The activation.
        function_call: The call that has it: the layer's own, or that of an activation layer behind it.
        range: The quantisation of the result; None where it is missing.
        ends: Whether the model gives the result.
    """

    call: Call
    output: int
    batch_norm: Any
    function: Pointwise
    function_call: Call
    range: ActivationRange | None
    ends: bool

    @property
    def grid(self) -> AffineQuantization:
        """The quantisation of the result.

        Raises:
            UnsupportedLayerError: If there is no range behind it.
            QuantizationError: If the range was never observed.
        """
        if self.range is None:
            raise UnsupportedLayerError(
                f"The output of layer {self.call.shown} has no quantisation. Expected an "
                "rct.layers.ActivationRange after it and its batch normalisation and activation. Received: none."
            )
        return grid_of(self.range)


def grid_of(layer: ActivationRange) -> AffineQuantization:
    """Returns the int8 quantisation that a range stands for.

    Raises:
        QuantizationError: If the range was never observed.
    """
    try:
        return affine_from_range(float(layer.minimum.numpy()), float(layer.maximum.numpy()))
    except QuantizationError as error:
        raise QuantizationError(f"Layer {layer.name!r}: {error}") from error


def stages_of(calls: Calls) -> list[Stage]:
    """Returns the stages of a model; what moves, picks or drops values has nothing behind it."""
    taken: set[int] = set()
    stages = []
    for call in calls.all:
        if call.output not in taken:
            alone = isinstance(call.layer, ActivationRange) or role_of(call.layer) is Role.HAND_ON
            parts = [call] if alone else _parts(calls, call)
            taken |= {part.output for part in parts}
            stages.append(_stage(calls, parts))
    return stages


def _parts(calls: Calls, call: Call) -> list[Call]:
    """Returns a call and those that follow it directly and belong to its stage."""
    parts = [call]
    function = pointwise_of(call.layer)
    following = calls.sole_reader(call.output)
    folds = isinstance(call.layer, Quantized) and not call.layer.reads_rows
    if following and folds and function == LINEAR and _is_batch_norm(following.layer):
        parts.append(following)
        following = calls.sole_reader(following.output)
    while following and isinstance(following.layer, ACTIVATIONS) and function == LINEAR:
        function = pointwise_of(following.layer)
        parts.append(following)
        following = calls.sole_reader(following.output)
    if following and isinstance(following.layer, ActivationRange):
        parts.append(following)
    return parts


def _stage(calls: Calls, parts: list[Call]) -> Stage:
    first, last = parts[0], parts[-1]
    norms = [part for part in parts[1:] if _is_batch_norm(part.layer)]
    active = [part for part in parts if part not in norms and pointwise_of(part.layer) != LINEAR]
    function_call = active[0] if active else first
    return Stage(
        call=first,
        output=last.output,
        batch_norm=norms[0].layer if norms else None,
        function=pointwise_of(function_call.layer),
        function_call=function_call,
        range=last.layer if len(parts) > 1 and isinstance(last.layer, ActivationRange) else None,
        ends=last.output == calls.output,
    )


def _is_batch_norm(layer: Any) -> bool:
    return isinstance(layer, L.BatchNormalization)
