"""Weights packed at their bit-width, one row (output channel) after the other (ARITHMETIC.md 2)."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS


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
