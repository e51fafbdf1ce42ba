"""How much flash code, tables and self-test vectors take, before anything is compiled."""

from collections.abc import Collection, Mapping

from rct_tflite.reference.constants import scales_of
from rct_tflite.spec.graph import Graph, Op, OpKind

GOLDEN_VECTORS = 4
"""Inputs with their outputs that the firmware's self-test holds."""

# Measured on images of six networks for the Cortex-M7 (gcc 12.2, -O2), where they come within 5 % of code and tables.
INFERENCE_BYTES, OP_BYTES, CHANNEL_BYTES = 5400, 60, 5
"""Application, runtime and dense kernels; of an op; of a channel with a scale of its own."""
KERNEL_BYTES = {
    OpKind.CONV_2D: 2000,
    OpKind.TRANSPOSE_CONV: 2000,
    OpKind.DEPTHWISE_CONV_2D: 1000,
    OpKind.SOFTMAX: 1500,
    OpKind.FULLY_CONNECTED: 0,
    OpKind.RESHAPE: 0,
}
OTHER_KERNEL_BYTES = 350
STEP_BYTES, PASSED_OP_BYTES = 4300, 190
"""Loss, update and dense gradients; of an op with weights that the backward pass runs."""
GRADIENT_BYTES = {
    OpKind.CONV_2D: 2250,
    OpKind.TRANSPOSE_CONV: 2250,
    OpKind.DEPTHWISE_CONV_2D: 1640,
    OpKind.FULLY_CONNECTED: 0,
    OpKind.RESHAPE: 0,
    OpKind.SOFTMAX: 0,
}
OTHER_GRADIENT_BYTES = 300
SPLIT_BYTES = {
    OpKind.CONV_2D: 2200,
    OpKind.TRANSPOSE_CONV: 2200,
    OpKind.DEPTHWISE_CONV_2D: 1400,
    OpKind.FULLY_CONNECTED: 3900,
    OpKind.GATHER: 0,
}
"""Kernels for rows in two places, beside those for rows in one."""
MULTIPLIER_BYTES, RATIO_BYTES, PLACE_BYTES = 6, 2, 2
"""Of a channel that learns: multipliers of its weights and its bias; ratio of its scale; its place among such rows."""


def code_bytes(graph: Graph, learning: Collection[str]) -> int:
    """Returns about what code, the tables of inference and the self-test's vectors take; no options of the step.

    Args:
        graph: The network.
        learning: Names of the ops that learn.
    """
    kinds = {op.kind for op in graph.ops}
    channels = sum(graph.row_shape(op)[0] for op in graph.ops if op.has_weights and _has_scales(graph, op))
    ends = [graph.tensors[tensor] for tensor in (graph.input, graph.output)]
    vectors = GOLDEN_VECTORS * sum(tensor.size * tensor.dtype.itemsize for tensor in ends)
    inference = INFERENCE_BYTES + OP_BYTES * len(graph.ops) + CHANNEL_BYTES * channels + vectors
    inference += sum(KERNEL_BYTES.get(kind, OTHER_KERNEL_BYTES) for kind in kinds)
    deepest = next((number for number, op in enumerate(graph.ops) if op.name in learning), None)
    if deepest is None:
        return inference
    passed = graph.ops[deepest:]
    step = STEP_BYTES + PASSED_OP_BYTES * sum(op.has_weights for op in passed)
    return inference + step + sum(GRADIENT_BYTES.get(kind, OTHER_GRADIENT_BYTES) for kind in {op.kind for op in passed})


def step_table_bytes(graph: Graph, op: Op) -> int:
    """Returns what the multipliers of an op's updates take."""
    if not op.has_bias or not _has_scales(graph, op):
        return 0  # one for all, part of `PASSED_OP_BYTES`
    return (MULTIPLIER_BYTES + RATIO_BYTES) * graph.row_shape(op)[0]


def split_bytes(graph: Graph, learning: Mapping[str, tuple[int, ...]]) -> int:
    """Returns what kernels and tables take for ops of which some rows learn, and some do not.

    Args:
        graph: The network.
        learning: The channels that learn, by the name of the op.
    """
    split = [op for op in graph.ops if op.name in learning and 0 < len(learning[op.name]) < graph.row_shape(op)[0]]
    places = sum(PLACE_BYTES * graph.row_shape(op)[0] for op in split)
    whole = {op.kind for op in graph.ops if op not in split}
    return places + sum(SPLIT_BYTES[kind] for kind in {op.kind for op in split} & whole)


def _has_scales(graph: Graph, op: Op) -> bool:
    return scales_of(graph.tensors[op.inputs[1]]).size > 1
