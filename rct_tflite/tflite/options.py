"""Reads an op's attributes and checks that its tensors fit them."""

from typing import Any

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    OpKind,
    OpOptions,
    Padding,
    Pool2DOptions,
    ReshapeOptions,
    Tensor,
)

OPTION_CLASSES = {
    OpKind.CONV_2D: "Conv2DOptionsT",
    OpKind.FULLY_CONNECTED: "FullyConnectedOptionsT",
    OpKind.MAX_POOL_2D: "Pool2DOptionsT",
    OpKind.AVERAGE_POOL_2D: "Pool2DOptionsT",
}
"""The schema's class of an op's options; RESHAPE needs none."""

_LARGEST = 1 << 20
"""Bound of strides and windows: past it a number is damage, not a network."""


def unsupported_attribute(kind: OpKind, raw: Any) -> str | None:
    """Returns which attribute of an op we cannot run, None if we can run all."""
    if kind is OpKind.RESHAPE:
        return None
    activations = [activation.value for activation in Activation]
    if raw.fusedActivationFunction not in activations:
        names = ", ".join(activation.name for activation in Activation)
        return f"fused activation {raw.fusedActivationFunction} (supported: {names})"
    if kind is OpKind.CONV_2D and (raw.dilationHFactor, raw.dilationWFactor) != (1, 1):
        return f"dilation {raw.dilationHFactor}x{raw.dilationWFactor} (supported: 1x1)"
    if kind is OpKind.FULLY_CONNECTED and raw.weightsFormat != 0:
        return f"shuffled weights, format {raw.weightsFormat} (supported: 0)"
    return None


def read_options(kind: OpKind, name: str, raw: Any) -> OpOptions:
    """Turns the schema's options into ours.

    Raises:
        ModelFileError: If a padding, stride or window is out of range.
    """
    if kind is OpKind.RESHAPE:
        return ReshapeOptions()
    activation = Activation(raw.fusedActivationFunction)
    if kind is OpKind.FULLY_CONNECTED:
        return FullyConnectedOptions(activation)
    if raw.padding not in (Padding.SAME.value, Padding.VALID.value):
        raise ModelFileError(f"Op {name!r} has an unknown padding. Expected 0 or 1. Received: {raw.padding}.")
    padding, stride_h, stride_w = Padding(raw.padding), int(raw.strideH), int(raw.strideW)
    if kind is OpKind.CONV_2D:
        _check_range(name, (stride_h, stride_w))
        return Conv2DOptions(padding, stride_h, stride_w, activation)
    window = (int(raw.filterHeight), int(raw.filterWidth))
    _check_range(name, (stride_h, stride_w, *window))
    return Pool2DOptions(padding, stride_h, stride_w, *window, activation)


def output_shape(options: OpOptions, source: Tensor, weights: Tensor | None, target: Tensor) -> tuple[int, ...]:
    """Returns the shape that an op's output must have.

    Args:
        options: The op's attributes.
        source: Its input: (1, height, width, channels) for convolution and pooling.
        weights: Its weights, None for an op without.
        target: Its output, whose shape says what a RESHAPE does.
    """
    if isinstance(options, ReshapeOptions):
        return target.shape if target.size == source.size else source.shape
    if isinstance(options, FullyConnectedOptions):
        assert weights is not None
        return (1, weights.shape[0])
    if isinstance(options, Conv2DOptions):
        assert weights is not None
        channels, window = weights.shape[0], weights.shape[1:3]
    else:
        channels, window = source.shape[3], (options.filter_h, options.filter_w)
    strides = (options.stride_h, options.stride_w)
    rows, columns = (
        _windows(size, extent, stride, options.padding)
        for size, extent, stride in zip(source.shape[1:3], window, strides, strict=True)
    )
    return (1, rows, columns, channels)


def _windows(size: int, extent: int, stride: int, padding: Padding) -> int:
    span = size if padding is Padding.SAME else size - extent + 1
    return max(-(-span // stride), 0)


def _check_range(name: str, numbers: tuple[int, ...]) -> None:
    if not all(1 <= number <= _LARGEST for number in numbers):
        raise ModelFileError(
            f"Op {name!r} has a stride or window out of range. Expected 1 to {_LARGEST}. Received: {numbers}."
        )
