"""Weights packed at their bit-width, one row (output channel) after the other (ARITHMETIC.md 2)."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS
from rct_tflite.spec.training_plan import TrainingPlan


def held_bits(graph: Graph, plan: TrainingPlan, op: Op) -> int:
    """Returns the bit-width at which a device holds an op's weights: 8 at most where none of them learns."""
    bits = graph.bits_of(op)
    return bits if plan.learns_weights(op.name) else min(bits, EXPORT_BITS)


def held_rows(graph: Graph, plan: TrainingPlan, op: Op) -> npt.NDArray[np.int64]:
    """Returns an op's weights as a device holds them before it learns: int64 (channels, depth) of `held_bits()`."""
    return graph.full_rows(op) if plan.learns_weights(op.name) else graph.weight_rows(op)


def holds_wide_weights(graph: Graph, plan: TrainingPlan) -> bool:
    """Whether a device holds weights of more than 8 bits, or may come to hold some."""
    return any(widest_bits(graph, plan, op) > EXPORT_BITS for op in graph.ops if op.has_weights)


def widest_bits(graph: Graph, plan: TrainingPlan, op: Op) -> int:
    """Returns the largest bit-width that an op's weights may come to have on a device."""
    if plan.adaptation is not None and op.name in plan.adaptation.layers:
        return plan.adaptation.max_bits
    return held_bits(graph, plan, op)


def row_bytes(depth: int, bits: int) -> int:
    """Bytes of one packed row of `depth` weights."""
    return (depth * bits + 7) // 8


def room_bytes(channels: int, depth: int, bits: int) -> int:
    """Bytes that the packed rows of an op take in the parameter block: a multiple of four."""
    return -(-channels * row_bytes(depth, bits) // 4) * 4


def pack_rows(rows: npt.NDArray[np.signedinteger], bits: int) -> npt.NDArray[np.uint8]:
    """Packs signed integers, the first of a row in the lowest bits of the row's first byte.

    `rct_unpack_row()` in the runtime's `kernels/pack.h` reads the same layout.

    Args:
        rows: Signed integers (channels, depth), each of at most `bits` bits.
        bits: Bit-width, 2 to 16.

    Returns:
        uint8 (channels, row_bytes(depth, bits)).

    Raises:
        QuantizationError: If `bits` is out of range or a value needs more bits.

    Example:
        >>> pack_rows(np.array([[1, -2, 3]], np.int8), bits=4).tolist()
        [[225, 3]]
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise QuantizationError(
            f"Cannot pack this bit-width. Expected {MIN_BITS} to {MAX_BITS}. Received: bits={bits}."
        )
    limit = 1 << (bits - 1)
    if rows.size and not (-limit <= int(rows.min()) and int(rows.max()) < limit):
        raise QuantizationError(
            f"A weight does not fit its bit-width. Expected {-limit} to {limit - 1} at {bits} bits. "
            f"Received: {rows.min()} to {rows.max()}."
        )
    planes = (rows[..., None].astype(np.int64) >> np.arange(bits)) & 1
    flat = planes.reshape(rows.shape[0], rows.shape[1] * bits).astype(np.uint8)
    return np.packbits(flat, axis=1, bitorder="little")


def unpack_rows(packed: npt.NDArray[np.uint8], depth: int, bits: int) -> npt.NDArray[np.int16]:
    """Reverses `pack_rows()`.

    Args:
        packed: uint8 (channels, row_bytes(depth, bits)).
        depth: Weights of a row.
        bits: Bit-width, 2 to 16.

    Returns:
        int16 (channels, depth).

    Example:
        >>> unpack_rows(np.array([[225, 3]], np.uint8), depth=3, bits=4).tolist()
        [[1, -2, 3]]
    """
    planes = np.unpackbits(packed, axis=1, count=depth * bits, bitorder="little").reshape(-1, depth, bits)
    values = (planes.astype(np.int64) << np.arange(bits)).sum(axis=2)
    signed: npt.NDArray[np.int16] = (values - ((values >> (bits - 1)) << bits)).astype(np.int16)
    return signed
