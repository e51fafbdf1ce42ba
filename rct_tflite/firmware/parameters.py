"""The parameter block of a device, as arrays and as a `.tflite`."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DeviceError
from rct_tflite.planning.memory import MemoryPlan, slots_at
from rct_tflite.reference.packing import row_bytes, unpack_rows
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS, narrowed
from rct_tflite.tflite.patch import LayerWeights, replace_weights
from rct_tflite.tflite.rescale import Resolution, rescale_weights


def decode_parameters(graph: Graph, memory: MemoryPlan, block: bytes) -> dict[str, LayerWeights]:
    """Unpacks what a device has learnt.

    Args:
        graph: The network that the device runs.
        memory: Its memory plan.
        block: The bytes that READ_PARAMETERS returned.

    Returns:
        Per trained op the int8 weights and int32 biases in the graph's shapes.

    Raises:
        DeviceError: If the block has another size, or widths that do not fit it.
    """
    return {
        op.name: (graph.weights_of_rows(op, narrowed(rows, bits)).astype(np.int8), bias)
        for op, bits, rows, bias in _decode(graph, memory, block)
    }


def _decode(
    graph: Graph, memory: MemoryPlan, block: bytes
) -> list[tuple[Op, int, npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """Returns per trained op its bit-width on the device, rows (channels, depth) and biases (channels,)."""
    if len(block) != memory.parameter_bytes:
        raise DeviceError(
            f"The device's parameters do not belong to this export. Expected {memory.parameter_bytes} bytes. "
            f"Received: {len(block)}. Flash the firmware of this export."
        )
    data = np.frombuffer(block, np.uint8)
    ops = {op.name: op for op in graph.ops}
    widths = {slot.op: slot.bits for slot in memory.slots}
    if memory.header_bytes:
        widths = {name: bits for name, (bits, _) in _header(memory, block).items()}
    slots, end = slots_at(graph, {slot.op: slot.channels for slot in memory.slots}, widths, memory.header_bytes)
    if end > len(block) or (memory.header_bytes and not all(MIN_BITS <= k <= MAX_BITS for k in widths.values())):
        raise DeviceError(
            f"The device's parameters are damaged. Expected bit-widths of {MIN_BITS} to {MAX_BITS} whose weights "
            f"fit {len(block)} bytes. Received: {widths}. Read them again, or reset the device."
        )
    result = []
    for slot in slots:
        op = ops[slot.op]
        channels, depth = graph.row_shape(op)
        bits = widths[slot.op]
        size = len(slot.channels) * row_bytes(depth, bits)
        rows = graph.full_rows(op) if slot.channels else graph.weight_rows(op)
        if slot.channels:
            learnt = data[slot.rows : slot.rows + size].reshape(len(slot.channels), -1)
            rows[list(slot.channels)] = unpack_rows(learnt, depth, bits)
        bias = data[slot.bias : slot.bias + (4 * channels if op.has_bias else 0)].view("<i4").astype(np.int32)
        result.append((op, bits, rows, bias))
    return result


def decode_resolutions(graph: Graph, memory: MemoryPlan, block: bytes) -> dict[str, Resolution]:
    """Returns the bit-width of each trained op, and how far its scale has moved since the export.

    An op whose weights do not learn keeps the width that the file gives it.

    Args:
        graph: The network that the device runs.
        memory: Its memory plan.
        block: The bytes that READ_PARAMETERS returned.
    """
    kept = {slot.op for slot in memory.slots if not (memory.header_bytes and slot.channels)}
    result = {op.name: Resolution(graph.bits_of(op), 0) for op in graph.ops if op.name in kept}
    if memory.header_bytes:
        moved = {name: pair for name, pair in _header(memory, block).items() if name not in kept}
        result |= {name: Resolution(bits, octave) for name, (bits, octave) in moved.items()}
    return {slot.op: result[slot.op] for slot in memory.slots}


def _header(memory: MemoryPlan, block: bytes) -> dict[str, tuple[int, int]]:
    """Returns width and octave of each trained op, as a block of widths that change begins with them."""
    pairs = np.frombuffer(block[: 2 * len(memory.slots)], np.int8).reshape(-1, 2).tolist()
    return {slot.op: (bits, octave) for slot, (bits, octave) in zip(memory.slots, pairs, strict=True)}


def tuned_model(model: bytes, graph: Graph, memory: MemoryPlan, block: bytes) -> bytes:
    """Returns a copy of a `.tflite` with what a device has learnt in place of the exported weights."""
    parameters = decode_parameters(graph, memory, block)
    learning = {slot.op for slot in memory.slots if slot.channels}
    wide = {
        op.name: graph.weights_of_rows(op, rows)
        for op, bits, rows, _ in _decode(graph, memory, block)
        if bits > EXPORT_BITS and op.name in learning
    }
    return replace_weights(rescale_weights(model, decode_resolutions(graph, memory, block), wide), parameters)
