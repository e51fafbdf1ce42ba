"""How layers with weights are exported, and batch normalisation that stands alone."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from rct_tflite.spec.graph import Activation, Conv2DOptions, FullyConnectedOptions, OpKind, Padding, PadOptions
from rct_tflite.spec.network import TrainedWeights
from rct_tflite.training import layers as rct_layers
from rct_tflite.training.calls import Call
from rct_tflite.training.integer_weight import IntegerWeight
from rct_tflite.training.lowering import (
    ComputedOp,
    Rule,
    add_computed,
    check_format,
    image_of,
    padding_of,
    pair_of,
    sizes_of,
)
from rct_tflite.training.network_builder import NetworkBuilder
from rct_tflite.training.stages import Stage, grid_of
from rct_tflite.training.weights import batch_norm_weights, trained_weights

IntArray = npt.NDArray[np.int64]


def _check_conv(call: Call) -> str | None:
    layer = call.layer
    if set(layer.dilation_rate) != {1} or getattr(layer, "groups", 1) != 1:
        advice = "use rct.layers.DepthwiseConv2D for groups of one channel"
        return f"dilation_rate and groups must be 1, but they are {layer.dilation_rate} and {layer.groups}; {advice}"
    return check_format(call)


def _check_depthwise(call: Call) -> str | None:
    layer = call.layer
    if set(layer.dilation_rate) != {1}:
        return f"dilation_rate must be 1, but it is {tuple(layer.dilation_rate)}"
    return check_format(call)


def _check_transpose(call: Call) -> str | None:
    layer = call.layer
    if set(layer.dilation_rate) != {1} or getattr(layer, "output_padding", None) is not None:
        return (
            f"dilation_rate must be 1 and output_padding None, but they are {tuple(layer.dilation_rate)} and "
            f"{layer.output_padding}"
        )
    return check_format(call)


def _check_dense(call: Call) -> str | None:
    rank = len(call.input_shapes[0])
    return None if rank <= 3 else f"its input must have at most 3 axes beside the batch, but it has {rank}"


def _check_batch_norm(call: Call) -> str | None:
    axis = call.layer.axis[0] if isinstance(call.layer.axis, (list, tuple)) else call.layer.axis
    last = len(call.input_shapes[0])
    if axis not in (-1, last):
        return f"its axis must be the last one, but it is {axis}"
    return None if last <= 3 else f"its input must have at most 3 axes beside the batch, but it has {last}"


def _add_dense(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """A FULLY_CONNECTED; over several positions a CONV_2D of 1 by 1, which is the same."""
    call = stage.call
    integers = _kernel(stage)
    shape = sizes_of(call.output_shape)
    if len(shape) == 1:
        op = ComputedOp(OpKind.FULLY_CONNECTED, FullyConnectedOptions, shape, weights=_weights(stage, integers))
        return add_computed(builder, stage, op, sources)
    return _add_conv(builder, stage, sources[0], _weights(stage, integers[None, None]), (Padding.VALID, 1, 1))


def _add_conv_2d(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    layer = stage.call.layer
    window = (padding_of(layer), *pair_of(layer.strides))
    return _add_conv(builder, stage, sources[0], _weights(stage, _kernel(stage)), window)


def _add_conv_1d(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    layer = stage.call.layer
    source = _causally_padded(builder, stage, sources[0])
    weights = _weights(stage, _kernel(stage)[None])
    return _add_conv(builder, stage, source, weights, (padding_of(layer), *pair_of(layer.strides)))


def _causally_padded(builder: NetworkBuilder, stage: Stage, place: int) -> int:
    layer, label = stage.call.layer, stage.call.label
    before = layer.kernel_size[0] - 1
    if layer.padding != "causal" or not before:
        return place
    image = image_of(builder, place, label)
    _, steps, channels = builder.shape(image)
    op = (OpKind.PAD, PadOptions(((0, 0), (0, 0), (before, 0), (0, 0))))
    return builder.add(f"{label}_pad", op, [image], (1, steps + before, channels), builder.grid(place))


def _add_conv(
    builder: NetworkBuilder,
    stage: Stage,
    source: int,
    weights: TrainedWeights,
    window: tuple[Padding, int, int],
    name: str | None = None,
) -> int:
    """Adds a CONV_2D over what has up to three axes; the result has the shape of the stage's."""
    label, shape = stage.call.label, sizes_of(stage.call.output_shape)
    image = image_of(builder, source, label)
    whole = (1,) * (3 - len(shape)) + shape
    op = ComputedOp(OpKind.CONV_2D, lambda a: Conv2DOptions(*window, a), whole, weights=weights, name=name)
    return builder.reshaped(add_computed(builder, stage, op, [image]), shape, f"{label}_output")


def _add_depthwise(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    layer, shape = stage.call.layer, sizes_of(stage.call.output_shape)
    integers = _kernel(stage)
    weights = _weights(stage, integers.reshape(*integers.shape[:2], -1), channels_first=False)
    window = (padding_of(layer), *pair_of(layer.strides))
    op = ComputedOp(OpKind.DEPTHWISE_CONV_2D, lambda a: Conv2DOptions(*window, a), shape, weights=weights)
    return add_computed(builder, stage, op, sources)


def _add_separable(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """A depthwise convolution, and one of 1 by 1; batch normalisation and activation go to the second."""
    layer, label, shape = stage.call.layer, stage.call.label, sizes_of(stage.call.output_shape)
    depthwise, pointwise = layer.integer_weights
    # One axis of a kernel and of strides in 1-D; there, TensorFlow wants equal strides too.
    integers = _in_2d(_integers(depthwise))
    weights = trained_weights(depthwise, integers.reshape(*integers.shape[:2], -1), None, None, channels_first=False)
    options = Conv2DOptions(padding_of(layer), int(layer.strides[0]), int(layer.strides[-1]), Activation.NONE)
    whole = (1,) * (3 - len(shape)) + shape
    between = builder.add(
        f"{label}/{depthwise.name}",
        (OpKind.DEPTHWISE_CONV_2D, options),
        [image_of(builder, sources[0], label)],
        (*whole[:-1], weights.integers.shape[-1]),
        grid_of(layer.between),
        weights,
    )
    weights = trained_weights(pointwise, _in_2d(_integers(pointwise)), _bias(layer), stage.batch_norm, True)
    name = f"{label}/{pointwise.name}"
    return _add_conv(builder, stage, between, weights, (Padding.VALID, 1, 1), name)


def _in_2d(kernel: IntArray) -> IntArray:
    return kernel if kernel.ndim == 4 else kernel[None]


def _add_transpose(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    layer, shape = stage.call.layer, sizes_of(stage.call.output_shape)
    weights = _weights(stage, np.moveaxis(_kernel(stage), -2, -1))
    window = (padding_of(layer), *pair_of(layer.strides))
    op = ComputedOp(OpKind.TRANSPOSE_CONV, lambda a: Conv2DOptions(*window, a), shape, weights=weights)
    return add_computed(builder, stage, op, sources)


def _add_batch_norm(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """Batch normalisation that cannot be folded, as behind a join: a depthwise convolution of 1 by 1."""
    label, shape = stage.call.label, builder.shape(sources[0])
    image = image_of(builder, sources[0], label)
    weights = batch_norm_weights(stage.call.layer, shape[-1])
    op = ComputedOp(
        OpKind.DEPTHWISE_CONV_2D,
        lambda activation: Conv2DOptions(Padding.VALID, 1, 1, activation),
        builder.shape(image),
        weights=weights,
    )
    return builder.reshaped(add_computed(builder, stage, op, [image]), shape, f"{label}_output")


def _integers(weight: IntegerWeight) -> IntArray:
    integers: IntArray = weight.integers.numpy().astype(np.int64)
    return integers


def _bias(layer: Any) -> npt.NDArray[np.float64] | None:
    return layer.bias.numpy().astype(np.float64) if layer.use_bias else None


def _kernel(stage: Stage) -> IntArray:
    """Returns the integers of a layer with one weight."""
    (weight,) = stage.call.layer.integer_weights
    return _integers(weight)


def _weights(stage: Stage, integers: IntArray, channels_first: bool = True) -> TrainedWeights:
    """Returns what ships of a layer with one weight, its output channels last."""
    layer = stage.call.layer
    (weight,) = layer.integer_weights
    return trained_weights(weight, integers, _bias(layer), stage.batch_norm, channels_first)


_BATCH_NORM = Rule(_check_batch_norm, _add_batch_norm)
RULES: dict[type, Rule] = {
    rct_layers.Conv1D: Rule(_check_conv, _add_conv_1d),
    rct_layers.Conv2D: Rule(_check_conv, _add_conv_2d),
    rct_layers.Conv2DTranspose: Rule(_check_transpose, _add_transpose),
    rct_layers.Dense: Rule(_check_dense, _add_dense),
    rct_layers.DepthwiseConv2D: Rule(_check_depthwise, _add_depthwise),
    rct_layers.SeparableConv1D: Rule(_check_depthwise, _add_separable),
    rct_layers.SeparableConv2D: Rule(_check_depthwise, _add_separable),
    rct_layers.BatchNormalization: _BATCH_NORM,
    keras.layers.BatchNormalization: _BATCH_NORM,
}
