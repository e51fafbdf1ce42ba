"""How much the forward kernels do: what their instructions are estimated from where none can be counted.

An amount is what a loop of a kernel runs through, such as multiplications or output positions, counted from the shapes
alone. Where a kernel skips zeros, the share of values that are not 0 is part of it; this share alone is assumed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rct_tflite.reference.constants import Window, masks_errors, window_of
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, Graph, Op, OpKind


class Item(NamedTuple):
    """Something that a kernel does.

    Attributes:
        file: In whose functions it is counted: kernels are compiled several times, from one source.
        kernel: The source.
        what: Such as "product", "row" or "output".
    """

    file: str
    kernel: str
    what: str


Amounts = dict[Item, float]
"""How much of each is done."""

OPEN = 0.5
"""Share of the outputs of a RELU that are not 0."""
EXPORT_BITS = 8
QUAD = 4
OWN_CODE_BITS = (4, 6)
"""Widths for which FULLY_CONNECTED has code of its own."""
NARROWING_KINDS = (OpKind.RELU, OpKind.RELU6)
UNKNOWN = "unknown"
"""Kernel of the ops that no kernel is known of."""
LIBRARY = "library"
"""What kernels call beside themselves: divisions and memset of the compiler's library, gains, the calls themselves."""


@dataclass(frozen=True)
class Geometry:
    """Of an op with a window, on an image with padding.

    Attributes:
        places: Positions of the window.
        rows: Rows of all windows, as far as they lie in the image.
        cells: Cells of all windows, as far as they lie in the image.
    """

    places: int
    rows: int
    cells: int


def geometry_of(graph: Graph, op: Op, window: Window) -> Geometry:
    """Counts the positions of a window and the cells that a kernel comes by."""
    image, places = graph.tensors[op.inputs[0]].shape, graph.tensors[op.output].shape
    if op.kind is OpKind.TRANSPOSE_CONV:
        image, places = places, image
    rows = cells_inside(image[1], places[1], window.filter_h, window.stride_h, window.pad_top)
    columns = cells_inside(image[2], places[2], window.filter_w, window.stride_w, window.pad_left)
    return Geometry(places[1] * places[2], rows * places[2], rows * columns)


def cells_inside(image: int, places: int, size: int, stride: int, pad: int) -> int:
    """Returns the cells along one axis of all windows that lie in the image.

    Example:
        >>> cells_inside(image=4, places=4, size=3, stride=1, pad=1)
        10
    """
    starts = [place * stride - pad for place in range(places)]
    return sum(min(start + size, image) - max(start, 0) for start in starts)


def open_inputs(graph: Graph) -> dict[int, float]:
    """Returns per tensor the share of its values that are not 0; without an entry, all."""
    shares: dict[int, float] = {}
    for op in graph.ops:
        before = max((shares.get(index, 1.0) for index in graph.sources(op)), default=1.0)
        if masks_errors(op) or op.kind in NARROWING_KINDS:
            shares[op.output] = OPEN
        elif op.kind in (OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D, OpKind.MEAN):
            merged = graph.tensors[op.inputs[0]].size / graph.tensors[op.output].size
            shares[op.output] = 1.0 - (1.0 - before) ** merged
        elif op.kind in (OpKind.RESHAPE, OpKind.PAD, OpKind.CONCATENATION):
            shares[op.output] = before
    return shares


def forward_amounts(graph: Graph, op: Op, share: float, learning: frozenset[int] = frozenset()) -> Amounts:
    """Returns what the forward pass of an op does.

    Args:
        graph: The network.
        op: One of its ops.
        share: Of its inputs that are not 0.
        learning: Output channels whose weights learn: where only some do, rows lie in two places.
    """
    if op.kind is OpKind.RESHAPE:
        return {}
    outputs = graph.tensors[op.output].size
    library = {Item(LIBRARY, LIBRARY, "op"): 1.0}
    if op.kind in (OpKind.AVERAGE_POOL_2D, OpKind.TRANSPOSE_CONV):
        library[Item(LIBRARY, LIBRARY, f"divided {op.kind.name.lower()}")] = outputs
    if not op.has_bias:
        kernel, amounts = _plain(graph, op)
        return add_amounts(library, items(kernel, kernel, amounts))
    channels, _ = graph.row_shape(op)
    kernel = op.kind.name.lower()
    split = "_split" if 0 < len(learning) < channels else ""
    return add_amounts(library, items(kernel + split, kernel, _WEIGHTED[op.kind](graph, op, share, learning)))


def items(file: str, kernel: str, amounts: Mapping[str, float]) -> Amounts:
    """Returns what one kernel does."""
    return {Item(file, kernel, what): float(amount) for what, amount in amounts.items()}


def _plain(graph: Graph, op: Op) -> tuple[str, Mapping[str, float]]:
    """Returns the kernel of an op without weights, and what it does."""
    inputs, outputs = graph.tensors[op.inputs[0]].size, graph.tensors[op.output].size
    channels = graph.tensors[op.output].shape[-1]
    window = window_of(graph, op)
    if window is not None:
        g = geometry_of(graph, op, window)
        amounts = {"cell": g.cells * channels, "row": g.rows * channels, "output": outputs, "place": g.places}
        return op.kind.name.lower(), amounts
    if op.kind in TABLE_KINDS:
        return "table", {"element": outputs}
    if op.kind is OpKind.SOFTMAX:
        return "softmax", {"class": outputs, "row": outputs / channels}
    if op.kind is OpKind.CONCATENATION:
        return "copy_blocks", {"byte": outputs, "row": outputs / channels * len(op.inputs)}
    if op.kind is OpKind.PAD:
        return "pad", {"output": outputs, "input": inputs}
    if op.kind is OpKind.MEAN:
        return "mean", {"input": inputs, "output": outputs}
    if op.kind in PAIR_KINDS:
        return "multiply" if op.kind is OpKind.MUL else "add", {"element": outputs}
    return UNKNOWN, {op.kind.name: outputs}


Measure = Callable[[Graph, Op, float, frozenset[int]], Mapping[str, float]]


def _fully_connected(graph: Graph, op: Op, share: float, learning: frozenset[int]) -> Mapping[str, float]:
    channels, depth = graph.row_shape(op)
    bits = graph.bits_of(op)
    in_fours = bits == EXPORT_BITS and channels >= QUAD and not 0 < len(learning) < channels
    if in_fours:
        groups, kind = -(-channels // QUAD), "8"
        return {
            f"value at {kind} bits": depth * groups,
            f"product at {kind} bits": QUAD * depth * groups * share,
            "output": channels,
        }
    pairs, kind = -(-channels // 2), str(bits) if bits in OWN_CODE_BITS else "any"
    return {
        f"value at {kind} bits": depth * pairs,
        f"product at {kind} bits": 2 * depth * pairs * share,
        "output": channels,
    }


def _conv_2d(graph: Graph, op: Op, share: float, learning: frozenset[int]) -> Mapping[str, float]:
    channels, depth = graph.row_shape(op)
    window = window_of(graph, op)
    assert window is not None
    geometry, in_channels = geometry_of(graph, op, window), graph.tensors[op.inputs[0]].shape[-1]
    packed = graph.bits_of(op) != EXPORT_BITS
    quads = 0 if packed else _quads_in_line(channels, learning)
    ones = channels - QUAD * quads
    values = geometry.cells * in_channels
    return {
        "value of 4": values * quads,
        "product of 4": QUAD * values * quads * share,
        "row of 4": geometry.rows * quads,
        "place of 4": geometry.places * quads,
        "product of 1": values * ones,
        "row of 1": geometry.rows * ones,
        "place of 1": geometry.places * ones,
        "output": geometry.places * channels,
        "unpacked": channels * depth if packed else 0,
    }


def _quads_in_line(channels: int, learning: frozenset[int]) -> int:
    """Returns how many groups of four channels have their rows one after the other."""
    if not 0 < len(learning) < channels:
        return channels // QUAD
    groups = (range(first, first + QUAD) for first in range(0, channels - QUAD + 1, QUAD))
    return sum(len({channel in learning for channel in group}) == 1 for group in groups)


def _depthwise_conv_2d(graph: Graph, op: Op, share: float, learning: frozenset[int]) -> Mapping[str, float]:
    del share, learning  # no value is skipped, and each row is found anew
    channels, depth = graph.row_shape(op)
    window = window_of(graph, op)
    assert window is not None
    geometry = geometry_of(graph, op, window)
    return {
        "product": geometry.cells * channels,
        "row": geometry.rows * channels,
        "output": geometry.places * channels,
        "unpacked": channels * depth if graph.bits_of(op) != EXPORT_BITS else 0,
    }


def _transpose_conv(graph: Graph, op: Op, share: float, learning: frozenset[int]) -> Mapping[str, float]:
    del share, learning
    channels, depth = graph.row_shape(op)
    window = window_of(graph, op)
    assert window is not None
    geometry = geometry_of(graph, op, window)
    return {
        "product": geometry.cells * channels * graph.tensors[op.inputs[0]].shape[-1],
        "cell": geometry.cells * channels,
        "output": graph.tensors[op.output].size,
        "unpacked": channels * depth if graph.bits_of(op) != EXPORT_BITS else 0,
    }


_WEIGHTED: Mapping[OpKind, Measure] = {
    OpKind.FULLY_CONNECTED: _fully_connected,
    OpKind.CONV_2D: _conv_2d,
    OpKind.DEPTHWISE_CONV_2D: _depthwise_conv_2d,
    OpKind.TRANSPOSE_CONV: _transpose_conv,
}


def add_amounts(*parts: Amounts) -> Amounts:
    """Adds up what is done; nothing is done where an amount is 0."""
    total: Amounts = defaultdict(float)
    for part in parts:
        for key, amount in part.items():
            if amount:
                total[key] += amount
    return dict(total)
