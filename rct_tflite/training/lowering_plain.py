"""How layers without weights are exported: pooling, joins, padding, shapes, activations."""

from collections.abc import Sequence
from typing import Any

import keras

from rct_tflite.spec.graph import (
    Activation,
    ConcatenationOptions,
    MeanOptions,
    OpKind,
    Padding,
    PadOptions,
    PairOptions,
    Pool2DOptions,
    ReshapeOptions,
)
from rct_tflite.spec.quantization import AffineQuantization, affine_from_range
from rct_tflite.training.calls import Call
from rct_tflite.training.lowering import (
    ComputedOp,
    Rule,
    add_computed,
    add_function,
    check_format,
    image_of,
    image_shape,
    image_sources,
    no_check,
    padding_of,
    pair_of,
    sizes_of,
)
from rct_tflite.training.network_builder import NetworkBuilder
from rct_tflite.training.stages import PASSES, Stage

L = keras.layers

_PAIRS = {L.Add: OpKind.ADD, L.Multiply: OpKind.MUL, L.Subtract: OpKind.SUB}
_AVERAGES = (L.AveragePooling1D, L.AveragePooling2D)


def _check_pair(call: Call) -> str | None:
    shapes = [(1,) * (len(call.output_shape) - len(shape)) + tuple(shape) for shape in call.input_shapes]
    largest = tuple(call.output_shape)
    if not all(_repeats(shape, largest) for shape in shapes) or largest not in shapes:
        return f"one input must repeat the other as a whole, as (1, 1, 8) does beside (4, 4, 8), but they are {shapes}"
    return None if len(shapes) > 1 else "it must have at least two inputs"


def _repeats(small: tuple[Any, ...], large: tuple[Any, ...]) -> bool:
    first = next((axis for axis, size in enumerate(small) if size != 1), len(small))
    return small[first:] == large[first:]


def _add_pair(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """Two at a time; what is between has the quantisation that can hold every result."""
    call, kind = stage.call, _PAIRS[type(stage.call.layer)]
    shape = sizes_of(call.output_shape)
    rest = image_sources(builder, stage, sources)
    if kind is not OpKind.SUB:
        rest.sort(key=lambda place: builder.shape(place) != image_shape(shape))  # the one that is not repeated first
    place = rest[0]
    for number, other in enumerate(rest[1:-1], start=1):
        grid = _grid_of_pair(kind, builder.grid(place), builder.grid(other))
        op = (kind, PairOptions(Activation.NONE))
        place = builder.add(f"{call.label}_part{number}", op, [place, other], image_shape(shape), grid)
    place = add_computed(builder, stage, ComputedOp(kind, PairOptions, image_shape(shape)), [place, rest[-1]])
    return builder.reshaped(place, shape, f"{call.label}_output")


def _grid_of_pair(kind: OpKind, one: AffineQuantization, other: AffineQuantization) -> AffineQuantization:
    if kind is OpKind.ADD:
        return affine_from_range(one.minimum + other.minimum, one.maximum + other.maximum)
    corners = [a * b for a in (one.minimum, one.maximum) for b in (other.minimum, other.maximum)]
    return affine_from_range(min(corners), max(corners))


def _check_concatenate(call: Call) -> str | None:
    axis, rank = int(call.layer.axis), len(call.output_shape) + 1
    return None if axis % rank else f"its axis must not be the batch, but it is {axis}"


def _add_concatenate(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """TFLite joins values of one quantisation: that behind the join, or in front of the activation behind it."""
    call, grid, shape = stage.call, stage.grid, sizes_of(stage.call.output_shape)
    axis = int(call.layer.axis) % (len(shape) + 1) + len(image_shape(shape)) - len(shape)
    images = image_sources(builder, stage, sources)
    parts = [builder.requantized(place, grid, call.label) for place in images]
    op = (OpKind.CONCATENATION, ConcatenationOptions(axis))
    place = builder.add(call.label, op, parts, image_shape(shape), grid)
    if stage.function.fused is not Activation.NONE:
        place = add_function(builder, stage, place)
    return builder.reshaped(place, shape, f"{call.label}_output")


def _add_mean(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """The mean over all positions, in 1-D as in 2-D."""
    call = stage.call
    image = image_of(builder, sources[0], call.label)
    shape = sizes_of(call.output_shape)
    whole = (1, 1, shape[-1]) if len(shape) > 1 else shape
    op = ComputedOp(OpKind.MEAN, lambda _: MeanOptions(), whole, fuses=False)
    return builder.reshaped(add_computed(builder, stage, op, [image]), shape, f"{call.label}_output")


def _add_global_max(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    call = stage.call
    image = image_of(builder, sources[0], call.label)
    height, width, channels = builder.shape(image)
    options = Pool2DOptions(Padding.VALID, height, width, height, width, Activation.NONE)
    place = builder.add(call.label, (OpKind.MAX_POOL_2D, options), [image], (1, 1, channels), builder.grid(image))
    return builder.reshaped(place, sizes_of(call.output_shape), f"{call.label}_output")


def _add_pool(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    call, layer = stage.call, stage.call.layer
    kind = OpKind.AVERAGE_POOL_2D if isinstance(layer, _AVERAGES) else OpKind.MAX_POOL_2D
    window = (*pair_of(layer.strides), *pair_of(layer.pool_size))
    options = Pool2DOptions(padding_of(layer), *window, activation=Activation.NONE)
    image = image_of(builder, sources[0], call.label)
    shape = sizes_of(call.output_shape)
    whole = (1,) * (3 - len(shape)) + shape
    place = builder.add(call.label, (kind, options), [image], whole, builder.grid(image))
    return builder.reshaped(place, shape, f"{call.label}_output")


def _add_padding(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    call, shape = stage.call, sizes_of(stage.call.output_shape)
    padding = call.layer.padding if isinstance(call.layer, L.ZeroPadding2D) else [(0, 0), call.layer.padding]
    cells = tuple((int(before), int(after)) for before, after in padding)
    image = image_of(builder, sources[0], call.label)
    op = (OpKind.PAD, PadOptions(((0, 0), *cells, (0, 0))))
    place = builder.add(call.label, op, [image], (1,) * (3 - len(shape)) + shape, builder.grid(image))
    return builder.reshaped(place, shape, f"{call.label}_output")


def _add_reshape(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    call = stage.call
    op = (OpKind.RESHAPE, ReshapeOptions())
    source = builder.original(sources[0])
    return builder.add(call.label, op, [source], sizes_of(call.output_shape), builder.grid(source))


def _check_flatten(call: Call) -> str | None:
    return check_format(call) if len(call.input_shapes[0]) > 1 else None


def _add_activation(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    if stage.function.fused is Activation.NONE:
        return sources[0]
    (image,) = image_sources(builder, stage, sources)
    place = add_function(builder, stage, image)
    return builder.reshaped(place, builder.shape(sources[0]), f"{stage.call.label}_output")


def _pass(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    del builder, stage
    return sources[0]


RULES: dict[type, Rule] = {
    **dict.fromkeys(_PAIRS, Rule(_check_pair, _add_pair)),
    **dict.fromkeys(PASSES, Rule(no_check, _pass)),
    **dict.fromkeys((L.Activation, L.ReLU, L.LeakyReLU), Rule(no_check, _add_activation)),
    **dict.fromkeys((L.GlobalAveragePooling1D, L.GlobalAveragePooling2D), Rule(check_format, _add_mean)),
    **dict.fromkeys((L.GlobalMaxPooling1D, L.GlobalMaxPooling2D), Rule(check_format, _add_global_max)),
    **dict.fromkeys((*_AVERAGES, L.MaxPooling1D, L.MaxPooling2D), Rule(check_format, _add_pool)),
    L.Concatenate: Rule(_check_concatenate, _add_concatenate),
    L.Flatten: Rule(_check_flatten, _add_reshape),
    L.Reshape: Rule(no_check, _add_reshape),
    L.ZeroPadding1D: Rule(no_check, _add_padding),
    L.ZeroPadding2D: Rule(check_format, _add_padding),
}
