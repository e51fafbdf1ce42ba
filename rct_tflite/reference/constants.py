"""Every constant that the integer arithmetic needs, computed once from the graph (ARITHMETIC.md 1, 3, 6)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import RecipeError, UnsupportedLayerError
from rct_tflite.reference.rounding import INT32_MAX, quantize_multiplier
from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    Graph,
    Op,
    OpKind,
    Padding,
    Pool2DOptions,
    Tensor,
)
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.training_plan import TrainingPlan

RATIO_BITS = 14
MAX_GUARD_BITS = 8
MAX_ERROR = 127
MAX_STEP_EXPONENT = 126
"""The shift of a step multiplier must fit int8."""
MAX_WEIGHT = 128
"""Largest magnitude of a weight: files of others may hold -128."""
MAX_SUM = 2**30 - 1
"""Largest magnitude of a sum: half of int32, so that rounding it cannot overflow either."""
EXP_TABLE_ONE = 2**15
LARGEST_INPUT = ACTIVATION_MAX - ACTIVATION_MIN
"""Largest distance between an activation and its zero point."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a 2-D window moves: sizes, strides and the cells of padding before the first row and column."""

    filter_h: int
    filter_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int

    @property
    def overlaps(self) -> bool:
        """Whether one cell can lie in two windows."""
        return self.stride_h < self.filter_h or self.stride_w < self.filter_w


@dataclass(frozen=True, eq=False)
class ForwardConstants:
    """Of one op: requantisation per channel (or one), bounds of the result, window.

    `masks_low` and `masks_high` say which of the bounds the fused activation set: errors stop there.
    """

    multiplier: IntArray
    shift: IntArray
    act_min: int
    act_max: int
    masks_low: bool
    masks_high: bool
    window: Window | None


@dataclass(frozen=True, eq=False)
class StepMultiplier:
    """`mantissa * 2**-shift` per channel, mantissa in `[2**14, 2**15)`."""

    mantissa: IntArray
    shift: IntArray


@dataclass(frozen=True, eq=False)
class BackwardConstants:
    """Of one op with weights.

    Attributes:
        ratio: Per channel, 2**14 = the channel with the largest scale; None where all share one scale.
        guard_bits: Bits that a ratio adds to the error.
        weight_step: Multiplier of the weights' gradient; None where the op is frozen.
        bias_step: Multiplier of the bias' gradient; None where the op is frozen.
        bias_limit: Largest magnitude of a bias.
    """

    ratio: IntArray | None
    guard_bits: int
    weight_step: StepMultiplier | None
    bias_step: StepMultiplier | None
    bias_limit: int


def window_of(graph: Graph, op: Op) -> Window | None:
    """Returns the window of a convolution or pooling, with TFLite's padding; None for other ops."""
    options = op.options
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if isinstance(options, Conv2DOptions):
        _, filter_h, filter_w, _ = graph.tensors[op.inputs[1]].shape
    elif isinstance(options, Pool2DOptions):
        filter_h, filter_w = options.filter_h, options.filter_w
    else:
        return None
    pad = [0, 0]
    if options.padding is Padding.SAME:
        spans = ((0, options.stride_h, filter_h), (1, options.stride_w, filter_w))
        for axis, stride, size in spans:
            needed = (result.shape[1 + axis] - 1) * stride + size - source.shape[1 + axis]
            pad[axis] = max(needed, 0) // 2
    return Window(filter_h, filter_w, options.stride_h, options.stride_w, pad[0], pad[1])


def forward_constants(graph: Graph, op: Op) -> ForwardConstants:
    """Returns what the forward pass of an op needs.

    Raises:
        UnsupportedLayerError: If an accumulator could pass 32 bits.
    """
    result = graph.tensors[op.output]
    if op.has_weights:
        _check_accumulators(graph, op)
    multipliers = _real_multipliers(graph, op) if op.has_weights else [1.0]
    fixed = [quantize_multiplier(real) for real in multipliers]
    activation = getattr(op.options, "activation", Activation.NONE)
    act_min, act_max, masks_high = ACTIVATION_MIN, ACTIVATION_MAX, False
    if activation is not Activation.NONE:
        act_min = max(act_min, result.zero_point)
    if activation is Activation.RELU6:
        six = math.floor(float(np.float32(6.0) / np.float32(result.scale)) + 0.5)
        act_max = min(act_max, result.zero_point + six)
        masks_high = result.zero_point + six <= ACTIVATION_MAX
    return ForwardConstants(
        multiplier=np.array([m for m, _ in fixed], np.int64),
        shift=np.array([s for _, s in fixed], np.int64),
        act_min=act_min,
        act_max=act_max,
        masks_low=activation is not Activation.NONE,
        masks_high=masks_high,
        window=window_of(graph, op),
    )


def backward_constants(graph: Graph, plan: TrainingPlan) -> dict[str, BackwardConstants]:
    """Returns what the backward pass of each op with weights needs, from the last op to the deepest trained one.

    Raises:
        UnsupportedLayerError: If an op on the way cannot hand an error back, or its sums could overflow.
        RecipeError: If the learning rate gives a multiplier that integers cannot hold.
    """
    constants: dict[str, BackwardConstants] = {}
    error_scale = 1.0
    for op in reversed(ops_in_backward(graph, plan)):
        if op.has_weights:
            constants[op.name] = _weighted_backward(graph, op, plan, error_scale)
            largest = float(_scales(graph.tensors[op.inputs[1]]).max())
            error_scale *= largest * 2.0 ** -constants[op.name].guard_bits
        elif op.kind is OpKind.AVERAGE_POOL_2D:
            error_scale /= _average_window(graph, op)
    return constants


def ops_in_backward(graph: Graph, plan: TrainingPlan) -> tuple[Op, ...]:
    """Returns the ops from the deepest trained one to the last, in the order of the graph."""
    first = next((i for i, op in enumerate(graph.ops) if op.name in plan.trained), len(graph.ops))
    return graph.ops[first:]


def exp_table(logits: Tensor) -> IntArray:
    """Returns `round(2**15 * exp(-scale * d))` for d = 0, 1, ... up to the last entry that is not 0 (at most 256).

    Args:
        logits: The int8 tensor that the loss reads.
    """
    distance = np.arange(LARGEST_INPUT + 1)
    table = np.floor(EXP_TABLE_ONE * np.exp(-logits.scale * distance) + 0.5).astype(np.int64)
    entries: IntArray = table[: int(np.count_nonzero(table))]
    return entries


def _scales(weights: Tensor) -> npt.NDArray[np.float64]:
    assert weights.quantization is not None
    scales: npt.NDArray[np.float64] = weights.quantization.scales.astype(np.float64)
    return scales


def _real_multipliers(graph: Graph, op: Op) -> list[float]:
    source, weights = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
    result = graph.tensors[op.output]
    scales = _scales(weights)
    if isinstance(op.options, FullyConnectedOptions) and scales.size == 1:
        product = np.float32(source.scale) * np.float32(scales[0])
        return [float(product) / result.scale]
    return [source.scale * float(scale) / result.scale for scale in scales]


def _weighted_backward(graph: Graph, op: Op, plan: TrainingPlan, error_scale: float) -> BackwardConstants:
    source, weights = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
    scales = _scales(weights)
    depth = weights.size // weights.shape[0]
    same = bool(np.all(scales == scales[0]))
    guard_bits = _guard_bits(op, weights)
    _check_sums(op, depth, graph.tensors[op.output])
    trained = op.name in plan.trained
    rate = plan.learning_rate * error_scale
    bias_limit = INT32_MAX - depth * MAX_WEIGHT * LARGEST_INPUT
    if trained and _largest_bias(graph, op).max() > bias_limit:
        raise UnsupportedLayerError(
            f"A bias of layer '{op.name}' is too large to train beside. Expected a magnitude of at most {bias_limit}. "
            f"Received: {_largest_bias(graph, op).max()}. Freeze the layer (--train last:N)."
        )
    return BackwardConstants(
        ratio=None if same else np.floor(2.0**RATIO_BITS * scales / scales.max() + 0.5).astype(np.int64),
        guard_bits=0 if same else guard_bits,
        weight_step=_step_multiplier(op, rate * source.scale / scales) if trained else None,
        bias_step=_step_multiplier(op, rate / (source.scale * scales)) if trained else None,
        bias_limit=bias_limit,
    )


def _largest_bias(graph: Graph, op: Op) -> IntArray:
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    return np.abs(bias.reshape(-1).astype(np.int64))


def _check_accumulators(graph: Graph, op: Op) -> None:
    """Proves that no input can bring an accumulator of the op past 32 bits, with the weights as they are."""
    weights = graph.tensors[op.inputs[1]].data
    assert weights is not None
    rows = np.abs(weights.reshape(weights.shape[0], -1).astype(np.int64)).sum(axis=1)
    largest = int((rows * LARGEST_INPUT + _largest_bias(graph, op)).max())
    if largest > INT32_MAX:
        raise UnsupportedLayerError(
            f"An accumulator of layer '{op.name}' could overflow 32 bits. Expected a sum of at most {INT32_MAX}. "
            f"Received: weights and bias that can reach {largest}. Split the layer, or check its bias."
        )


def _guard_bits(op: Op, weights: Tensor) -> int:
    terms = weights.size // weights.shape[-1]
    room = MAX_SUM // (MAX_ERROR * MAX_WEIGHT * terms)
    if room < 1:
        raise UnsupportedLayerError(
            f"Layer '{op.name}' is too large to train: the sum of an input error has {terms} terms and could overflow "
            f"32 bits. Expected at most {MAX_SUM // (MAX_ERROR * MAX_WEIGHT)}. "
            "Freeze it and the layers below (--train last:N)."
        )
    return min(MAX_GUARD_BITS, room.bit_length() - 1)


def _check_sums(op: Op, depth: int, result: Tensor) -> None:
    """Proves that neither an accumulator nor a gradient of the op can pass 32 bits."""
    limit = MAX_SUM // (MAX_WEIGHT * LARGEST_INPUT)
    positions = result.size // result.shape[-1]
    for what, count in (("weights in a row", depth), ("output positions", positions)):
        if count > limit:
            raise UnsupportedLayerError(
                f"Layer '{op.name}' is too large for 32-bit sums. Expected at most {limit} {what}. Received: {count}."
            )


def _step_multiplier(op: Op, real: npt.NDArray[np.float64]) -> StepMultiplier:
    mantissa, exponent = np.frexp(real)
    fits = np.all(np.isfinite(real)) and np.all(np.abs(14 - exponent) <= MAX_STEP_EXPONENT)
    if not fits:
        raise RecipeError(
            f"The learning rate gives layer '{op.name}' an update that integers cannot hold. Expected a multiplier of "
            f"2**-112 to 2**139. Received: {real.min():.3g} to {real.max():.3g}. Choose another learning rate."
        )
    fixed = np.floor(mantissa * 2.0**15 + 0.5).astype(np.int64)
    shift = 15 - exponent.astype(np.int64)
    full = fixed == 2**15
    return StepMultiplier(np.where(full, 2**14, fixed), np.where(full, shift - 1, shift))


def _average_window(graph: Graph, op: Op) -> int:
    window = window_of(graph, op)
    assert window is not None
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    for axis, stride, size in ((1, window.stride_h, window.filter_h), (2, window.stride_w, window.filter_w)):
        if (result.shape[axis] - 1) * stride + size > source.shape[axis]:
            raise UnsupportedLayerError(
                f"Cannot train through layer '{op.name}' (AVERAGE_POOL_2D): a window reaches over the border. "
                "Use padding='valid', or train only the layers above it (--train last:N)."
            )
    return window.filter_h * window.filter_w
