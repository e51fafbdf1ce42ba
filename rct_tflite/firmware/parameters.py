"""The parameter block of a device, as arrays and as a `.tflite`."""

import numpy as np

from rct_tflite.errors import DeviceError
from rct_tflite.planning.memory import MemoryPlan
from rct_tflite.reference.packing import row_bytes, unpack_rows
from rct_tflite.spec.graph import Graph
from rct_tflite.tflite.patch import LayerWeights, replace_weights


def decode_parameters(graph: Graph, memory: MemoryPlan, block: bytes) -> dict[str, LayerWeights]:
    """Unpacks what a device has learnt.

    Args:
        graph: The network that the device runs.
        memory: Its memory plan.
        block: The bytes that READ_PARAMETERS returned.

    Returns:
        Per trained op the int8 weights and int32 biases in the graph's shapes.

    Raises:
        DeviceError: If the block has another size.
    """
    if len(block) != memory.parameter_bytes:
        raise DeviceError(
            f"The device's parameters do not belong to this export. Expected {memory.parameter_bytes} bytes. "
            f"Received: {len(block)}. Flash the firmware of this export."
        )
    data = np.frombuffer(block, np.uint8)
    ops = {op.name: op for op in graph.ops}
    result: dict[str, LayerWeights] = {}
    for slot in memory.slots:
        op = ops[slot.op]
        channels, depth = graph.row_shape(op)
        bits = graph.bits_of(op)
        size = len(slot.channels) * row_bytes(depth, bits)
        rows = graph.weight_rows(op)
        if slot.channels:
            learnt = data[slot.rows : slot.rows + size].reshape(len(slot.channels), -1)
            rows[list(slot.channels)] = unpack_rows(learnt, depth, bits)
        bias = data[slot.bias : slot.bias + 4 * channels].view("<i4").astype(np.int32)
        result[slot.op] = graph.weights_of_rows(op, rows), bias
    return result


def tuned_model(model: bytes, graph: Graph, memory: MemoryPlan, block: bytes) -> bytes:
    """Returns a copy of a `.tflite` with what a device has learnt in place of the exported weights."""
    return replace_weights(model, decode_parameters(graph, memory, block))
