"""Reads an op's attributes and checks that its tensors fit them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.spec.graph import (
    PAIR_KINDS,
    TABLE_KINDS,
    Activation,
    ConcatenationOptions,
    Conv2DOptions,
    FullyConnectedOptions,
    GatherOptions,
    MeanOptions,
    OpKind,
    OpOptions,
    Padding,
    PadOptions,
    PairOptions,
    Pool2DOptions,
    ReshapeOptions,
    SoftmaxOptions,
    TableOptions,
    Tensor,
)

OPTION_CLASSES = {
    OpKind.ADD: "AddOptionsT",
    OpKind.SUB: "SubOptionsT",
    OpKind.MUL: "MulOptionsT",
    OpKind.CONCATENATION: "ConcatenationOptionsT",
    OpKind.CONV_2D: "Conv2DOptionsT",
    OpKind.DEPTHWISE_CONV_2D: "DepthwiseConv2DOptionsT",
    OpKind.TRANSPOSE_CONV: "TransposeConvOptionsT",
    OpKind.FULLY_CONNECTED: "FullyConnectedOptionsT",
    OpKind.MAX_POOL_2D: "Pool2DOptionsT",
    OpKind.AVERAGE_POOL_2D: "Pool2DOptionsT",
    OpKind.SOFTMAX: "SoftmaxOptionsT",
    OpKind.LEAKY_RELU: "LeakyReluOptionsT",
    OpKind.GATHER: "GatherOptionsT",
}
"""The schema's class of an op's options; the other kinds need none."""

_WINDOWED = (
    OpKind.CONV_2D,
    OpKind.DEPTHWISE_CONV_2D,
    OpKind.TRANSPOSE_CONV,
    OpKind.MAX_POOL_2D,
    OpKind.AVERAGE_POOL_2D,
)
_DILATED = (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D)
_ACTIVATED = (*PAIR_KINDS, *_WINDOWED, OpKind.FULLY_CONNECTED, OpKind.CONCATENATION)
_LARGEST = 1 << 20
"""Bound of strides and windows: past it a number is damage, not a network."""


def unsupported_attribute(kind: OpKind, raw: Any) -> str | None:
    """Returns which attribute of an op we cannot run, None if we can run all."""
    if kind in _ACTIVATED:
        activations = [activation.value for activation in Activation]
        if kind is OpKind.CONCATENATION:
            activations = [Activation.NONE.value]
        if raw.fusedActivationFunction not in activations:
            names = ", ".join(activation.name for activation in Activation if activation.value in activations)
            return f"fused activation {raw.fusedActivationFunction} (supported: {names})"
    if kind in _DILATED and (raw.dilationHFactor, raw.dilationWFactor) != (1, 1):
        return f"dilation {raw.dilationHFactor}x{raw.dilationWFactor} (supported: 1x1)"
    if kind is OpKind.GATHER and (raw.axis, raw.batchDims) != (0, 0):
        return f"axis {raw.axis} and {raw.batchDims} batch dimensions (supported: axis 0, none)"
    if kind is OpKind.FULLY_CONNECTED and raw.weightsFormat != 0:
        return f"shuffled weights, format {raw.weightsFormat} (supported: 0)"
    return None


def read_options(kind: OpKind, name: str, raw: Any, rank: int, integers: npt.NDArray[np.int64] | None) -> OpOptions:
    """Turns the schema's options into ours.

    Args:
        kind: The op's kind.
        name: The op's name.
        raw: The schema's options.
        rank: Dimensions of the op's output.
        integers: The constant that PAD and MEAN read.

    Raises:
        ModelFileError: If a padding, stride, window or axis is out of range.
        UnsupportedLayerError: If MEAN or CONCATENATION runs along axes that we cannot run.
    """
    if kind in TABLE_KINDS:
        return TableOptions(float(raw.alpha) if kind is OpKind.LEAKY_RELU else 0.0)
    if kind in PAIR_KINDS:
        return PairOptions(Activation(raw.fusedActivationFunction))
    match kind:
        case OpKind.RESHAPE:
            return ReshapeOptions()
        case OpKind.GATHER:
            return GatherOptions()
        case OpKind.FULLY_CONNECTED:
            return FullyConnectedOptions(Activation(raw.fusedActivationFunction))
        case OpKind.SOFTMAX:
            return SoftmaxOptions(float(raw.beta))
        case OpKind.CONCATENATION:
            return _concatenation(name, int(raw.axis), rank)
        case OpKind.MEAN | OpKind.PAD:
            assert integers is not None
            return _mean(name, integers) if kind is OpKind.MEAN else _pad(name, integers)
    return _window_options(kind, name, raw)


def _window_options(kind: OpKind, name: str, raw: Any) -> OpOptions:
    activation = Activation(raw.fusedActivationFunction)
    if raw.padding not in (Padding.SAME.value, Padding.VALID.value):
        raise ModelFileError(f"Op {name!r} has an unknown padding. Expected 0 or 1. Received: {raw.padding}.")
    padding, stride_h, stride_w = Padding(raw.padding), int(raw.strideH), int(raw.strideW)
    if kind not in (OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D):
        _check_range(name, (stride_h, stride_w))
        return Conv2DOptions(padding, stride_h, stride_w, activation)
    window = (int(raw.filterHeight), int(raw.filterWidth))
    _check_range(name, (stride_h, stride_w, *window))
    return Pool2DOptions(padding, stride_h, stride_w, *window, activation)


def _concatenation(name: str, axis: int, rank: int) -> ConcatenationOptions:
    positive = axis + rank if axis < 0 else axis
    if not 1 <= positive < rank:
        raise UnsupportedLayerError(
            f"Op {name!r} joins along an axis that is none of its own. Expected 1 to {rank - 1}. Received: {axis}."
        )
    return ConcatenationOptions(positive)


def _mean(name: str, axes: npt.NDArray[np.int64]) -> MeanOptions:
    if sorted((axes.reshape(-1) % 4).tolist()) != [1, 2]:
        raise UnsupportedLayerError(
            f"Op {name!r} (MEAN) must run over height and width. Expected axes 1 and 2. Received: {axes.tolist()}."
        )
    return MeanOptions()


def _pad(name: str, cells: npt.NDArray[np.int64]) -> PadOptions:
    if cells.ndim != 2 or cells.shape[1] != 2 or cells.min() < 0 or cells.max() > _LARGEST or cells[0].any():
        raise ModelFileError(f"Op {name!r} has an impossible padding. Received: {cells.tolist()}.")
    return PadOptions(tuple((int(before), int(after)) for before, after in cells))


def output_shape(
    options: OpOptions, sources: Sequence[Tensor], weights: Tensor | None, channels: int, target: Tensor
) -> tuple[int, ...]:
    """Returns the shape that an op's output must have.

    Args:
        options: The op's attributes.
        sources: What it reads: (1, height, width, channels) for convolution and pooling; ids and table for GATHER.
        weights: Its weights, None for an op without.
        channels: Of the weights' output.
        target: Its output, whose shape says what RESHAPE, MEAN and TRANSPOSE_CONV do.
    """
    source = sources[0]
    match options:
        case ReshapeOptions():
            return target.shape if target.size == source.size else source.shape
        case FullyConnectedOptions():
            return (1, channels)
        case MeanOptions():
            kept = (1, 1, 1, source.shape[-1])
            return kept if len(target.shape) == 4 else (1, source.shape[-1])
        case GatherOptions():
            return (*source.shape, sources[1].shape[1])
        case PairOptions():
            return _pair_shape(sources)
        case ConcatenationOptions(axis):
            return _joined_shape(sources, axis)
        case PadOptions(cells):
            if len(cells) != len(source.shape):
                return ()
            return tuple(size + before + after for size, (before, after) in zip(source.shape, cells, strict=True))
        case Conv2DOptions() | Pool2DOptions():
            return _window_shape(options, source, weights, channels)
    return source.shape


def transposed_input_shape(options: Conv2DOptions, weights: Tensor, target: Tensor) -> tuple[int, ...]:
    """Returns the shape that a TRANSPOSE_CONV with this output must read: that of CONV_2D turned around."""
    extents = weights.shape[1:3]
    strides = (options.stride_h, options.stride_w)
    rows, columns = (
        _windows(size, extent, stride, options.padding)
        for size, extent, stride in zip(target.shape[1:3], extents, strides, strict=True)
    )
    return (1, rows, columns, weights.shape[3])


def repeats(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether a tensor can stand beside a larger one by repeating all of it.

    Example:
        >>> repeats((1, 1, 1, 8), (1, 4, 4, 8)), repeats((8,), (1, 8)), repeats((1, 4, 4, 1), (1, 4, 4, 8))
        (True, True, False)
    """
    padded = (1,) * (len(large) - len(small)) + small
    first = next((axis for axis, size in enumerate(padded) if size != 1), len(padded))
    return len(small) <= len(large) and padded[first:] == large[first:]


def _pair_shape(sources: Sequence[Tensor]) -> tuple[int, ...]:
    one, other = (tensor.shape for tensor in sources)
    if repeats(other, one):
        return one
    return other if repeats(one, other) else ()


def _joined_shape(sources: Sequence[Tensor], axis: int) -> tuple[int, ...]:
    first = sources[0].shape
    rest = (first[:axis], first[axis + 1 :])
    if any((s.shape[:axis], s.shape[axis + 1 :]) != rest for s in sources):
        return ()
    return (*first[:axis], sum(source.shape[axis] for source in sources), *first[axis + 1 :])


def _window_shape(
    options: Conv2DOptions | Pool2DOptions, source: Tensor, weights: Tensor | None, channels: int
) -> tuple[int, ...]:
    if isinstance(options, Conv2DOptions):
        assert weights is not None
        window = weights.shape[1:3]
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
