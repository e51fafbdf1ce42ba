"""Every constant that the forward pass needs, computed once from the graph (ARITHMETIC.md 1)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.reference.rounding import INT32_MAX, quantize_multiplier
from rct_tflite.reference.tables import softmax_table, value_table
from rct_tflite.spec.graph import (
    TABLE_KINDS,
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    Graph,
    Op,
    OpKind,
    Padding,
    PairOptions,
    Pool2DOptions,
    SoftmaxOptions,
    TableOptions,
    Tensor,
)
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN

EXP_TABLE_ONE = 2**15
LARGEST_INPUT = ACTIVATION_MAX - ACTIVATION_MIN
"""Largest distance between an activation and its zero point."""
SUM_SHIFT = 20
"""ADD and SUB bring their operands to this many fraction bits."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a 2-D window moves: sizes, strides and the cells of padding before the first row and column.

    TRANSPOSE_CONV moves its window over the output.
    """

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
    """Of one op.

    Attributes:
        multiplier: Of the requantisation: per output channel or one; (first, second, output) of ADD and SUB.
        shift: Of the requantisation, same shape.
        act_min: Lower bound of the result.
        act_max: Upper bound of the result.
        masks_low: Whether the fused activation set the lower bound: errors stop there.
        masks_high: Whether it set the upper bound.
        window: Of a convolution or pooling.
        table: int64 (256,): the output for -128 to 127 of the ops in `TABLE_KINDS`, the exponentials of SOFTMAX.
    """

    multiplier: IntArray
    shift: IntArray
    act_min: int = ACTIVATION_MIN
    act_max: int = ACTIVATION_MAX
    masks_low: bool = False
    masks_high: bool = False
    window: Window | None = None
    table: IntArray | None = None


def window_of(graph: Graph, op: Op) -> Window | None:
    """Returns the window of a convolution or pooling, with TFLite's padding; None for other ops."""
    options = op.options
    image, places = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if op.kind is OpKind.TRANSPOSE_CONV:
        image, places = places, image
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
            needed = (places.shape[1 + axis] - 1) * stride + size - image.shape[1 + axis]
            pad[axis] = max(needed, 0) // 2
    return Window(filter_h, filter_w, options.stride_h, options.stride_w, pad[0], pad[1])


def masks_errors(op: Op) -> bool:
    """Whether an op has a fused activation, which stops errors where it holds the output at a bound."""
    return getattr(op.options, "activation", Activation.NONE) is not Activation.NONE


def forward_constants(graph: Graph, op: Op) -> ForwardConstants:
    """Returns what the forward pass of an op needs.

    Raises:
        UnsupportedLayerError: If an accumulator could pass 32 bits.
    """
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if op.has_bias:
        _check_accumulators(graph, op)
    fixed = _mean(graph, op) if op.kind is OpKind.MEAN else [quantize_multiplier(r) for r in _real(graph, op)]
    table = None
    if op.kind in TABLE_KINDS:
        assert isinstance(op.options, TableOptions)
        table = value_table(op.kind, op.options.alpha, source, result)
    elif isinstance(op.options, SoftmaxOptions):
        table = softmax_table(source.scale, op.options.beta)
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
        masks_low=masks_errors(op),
        masks_high=masks_high,
        window=window_of(graph, op),
        table=table,
    )


def mask_bounds(graph: Graph, op: Op) -> tuple[int, int]:
    """Returns between which outputs, both left out, the fused activation of an op lets errors pass."""
    c = forward_constants(graph, op)
    return c.act_min, c.act_max if c.masks_high else ACTIVATION_MAX + 1


def exp_table(logits: Tensor) -> IntArray:
    """Returns `round(2**15 * exp(-scale * d))` for d = 0, 1, ... up to the last entry that is not 0 (at most 256).

    Args:
        logits: The int8 tensor that the loss reads.
    """
    distance = np.arange(LARGEST_INPUT + 1)
    table = np.floor(EXP_TABLE_ONE * np.exp(-logits.scale * distance) + 0.5).astype(np.int64)
    entries: IntArray = table[: int(np.count_nonzero(table))]
    return entries


def scales_of(weights: Tensor) -> npt.NDArray[np.float64]:
    """Returns the scales of weights: one, or one per output channel."""
    assert weights.quantization is not None
    scales: npt.NDArray[np.float64] = weights.quantization.scales.astype(np.float64)
    return scales


def largest_bias(graph: Graph, op: Op) -> int:
    """Returns the largest magnitude of a bias of an op with weights."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    return int(np.abs(bias.astype(np.int64)).max())


def _real(graph: Graph, op: Op) -> list[float]:
    """Returns the real multipliers of an op's requantisation, computed as TFLite-Micro computes them."""
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    if op.has_bias:
        scales = scales_of(graph.tensors[op.inputs[1]])
        if isinstance(op.options, FullyConnectedOptions) and scales.size == 1:
            product = np.float32(source.scale) * np.float32(scales[0])
            return [float(product) / result.scale]
        return [source.scale * float(scale) / result.scale for scale in scales]
    if not isinstance(op.options, PairOptions):
        return [1.0]
    one, other = (graph.tensors[index].scale for index in op.inputs)
    if op.kind is OpKind.MUL:
        return [one * other / result.scale]
    if op.kind is OpKind.ADD:
        twice = 2 * max(one, other)
        return [one / twice, other / twice, twice / (2**SUM_SHIFT * result.scale)]
    half = np.float32(2) * np.float32(max(one, other))  # SUB divides in float32
    step = np.float32(2**SUM_SHIFT) * np.float32(result.scale)
    return [float(np.float32(one) / half), float(np.float32(other) / half), float(half / step)]


def _mean(graph: Graph, op: Op) -> list[tuple[int, int]]:
    """Returns the multiplier of MEAN, into which TFLite-Micro divides the number of elements."""
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    count = source.shape[1] * source.shape[2]
    if count * LARGEST_INPUT > INT32_MAX:
        raise UnsupportedLayerError(
            f"The sum of layer '{op.name}' (MEAN) could overflow 32 bits. Expected at most "
            f"{INT32_MAX // LARGEST_INPUT} positions. Received: {count}. Pool before it."
        )
    multiplier, shift = quantize_multiplier(source.scale / result.scale)
    room = min(count.bit_length() - 1, 32, 31 + shift)
    return [((multiplier << room) // count, shift - room)]


def _check_accumulators(graph: Graph, op: Op) -> None:
    """Proves that no input can bring an accumulator of the op past 32 bits, with the weights as they are."""
    bias = graph.tensors[op.inputs[2]].data
    assert bias is not None
    rows = np.abs(graph.weight_rows(op)).sum(axis=1)
    largest = int((rows * LARGEST_INPUT + np.abs(bias.reshape(-1).astype(np.int64))).max())
    if largest > INT32_MAX:
        raise UnsupportedLayerError(
            f"An accumulator of layer '{op.name}' could overflow 32 bits. Expected a sum of at most {INT32_MAX}. "
            f"Received: weights and bias that can reach {largest}. Split the layer, or check its bias."
        )
