"""What every rule for a layer has in common: how it is checked, and how its ops are added."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rct_tflite.spec.graph import Activation, OpKind, OpOptions, Padding, TableOptions
from rct_tflite.spec.network import TrainedWeights
from rct_tflite.training.calls import Call
from rct_tflite.training.network_builder import NetworkBuilder
from rct_tflite.training.pointwise import FIXED_GRIDS, range_before
from rct_tflite.training.stages import Stage


@dataclass(frozen=True)
class Rule:
    """How layers of one class are exported.

    Attributes:
        check: Returns what is wrong with a call's settings or shapes, or None.
        add: Adds the ops of a stage, which reads the given places, and returns the place of its result.
    """

    check: Callable[[Call], str | None]
    add: Callable[[NetworkBuilder, Stage, Sequence[int]], int]


@dataclass(frozen=True)
class ComputedOp:
    """An op that rounds to a quantisation of its own.

    Attributes:
        kind: Of the op.
        options: Its options with a fused activation.
        shape: Of its result, without batch axis.
        fuses: Whether it can have a fused activation.
        weights: None for an op without.
        name: Of the op; the layer's where it is None.
    """

    kind: OpKind
    options: Callable[[Activation], OpOptions]
    shape: tuple[int, ...]
    fuses: bool = True
    weights: TrainedWeights | None = None
    name: str | None = None


def add_computed(builder: NetworkBuilder, stage: Stage, op: ComputedOp, sources: Sequence[int]) -> int:
    """Adds an op with the activation of its stage, fused or behind it; returns the place of the result."""
    function, label, grid = stage.function, op.name or stage.call.label, stage.grid
    fused = function.fused if op.fuses or function.fused is Activation.NONE else None
    if fused is not None:
        return builder.add(label, (op.kind, op.options(fused)), sources, op.shape, grid, op.weights)
    before = range_before(function, grid)
    plain = (op.kind, op.options(Activation.NONE))
    return add_function(builder, stage, builder.add(label, plain, sources, op.shape, before, op.weights))


def add_function(builder: NetworkBuilder, stage: Stage, place: int) -> int:
    """Adds the activation of a stage as an op of its own; returns the place of the result."""
    function, label = stage.function, stage.call.label
    grid = FIXED_GRIDS.get(function.kind, stage.grid)
    name = f"{label}_{function.name}" if builder.has(label) else label
    return builder.add(name, (function.kind, TableOptions(function.slope)), [place], builder.shape(place), grid)


def no_check(call: Call) -> None:
    """Accepts every call."""
    del call


def check_format(call: Call) -> str | None:
    """Returns what is wrong with a layer's data format, or None."""
    return None if call.layer.data_format == "channels_last" else "its data_format must be 'channels_last'"


def padding_of(layer: Any) -> Padding:
    """Returns the padding of a layer with a window; "causal" is VALID behind a PAD."""
    return Padding.SAME if layer.padding == "same" else Padding.VALID


def pair_of(value: Any) -> tuple[int, int]:
    """Returns strides or a window in 2-D; in 1-D there is one row."""
    first, last = (1, *value) if len(value) == 1 else value
    return int(first), int(last)


def image_of(builder: NetworkBuilder, place: int, name: str) -> int:
    """Returns the place of a value as (height, width, channels): what has fewer axes gets ones in front."""
    shape = builder.shape(place)
    return builder.reshaped(place, (1,) * (3 - len(shape)) + shape, name)


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns how the device holds a shape: sequences (steps, channels) are images of one row, others as they are."""
    return (1, *shape) if len(shape) == 2 else shape


def image_sources(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> list[int]:
    """Returns the places of sequences as images of one row, of other values as they are."""
    return [builder.reshaped(place, image_shape(builder.shape(place)), stage.call.label) for place in sources]


def sizes_of(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Returns a shape whose sizes are known."""
    return tuple(int(size) for size in shape if size is not None)
