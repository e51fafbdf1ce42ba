"""TFLite-Micro's fixed-point multiplication, and the shifts of the backward pass (ARITHMETIC.md 1 and 3)."""

import math

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError

Int64Array = npt.NDArray[np.int64]
INT32_MAX = 2**31 - 1
MAX_SHIFT = 30


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Splits a positive real multiplier into `m * 2**(shift - 31)`, as TFLite's `QuantizeMultiplier`.

    Returns:
        `(m, shift)`, `m` in `[2**30, 2**31)`; `(0, 0)` for a multiplier below `2**-32`.

    Raises:
        QuantizationError: If the multiplier is not below `2**30`.

    Example:
        >>> quantize_multiplier(0.75)
        (1610612736, 0)
    """
    mantissa, shift = math.frexp(real)
    fixed = math.floor(mantissa * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    if shift > MAX_SHIFT:
        raise QuantizationError(
            f"A requantisation multiplier is too large. Expected below 2**{MAX_SHIFT}. Received: {real:g}. "
            "Check the scales of the op's input, weights and output."
        )
    return (0, 0) if shift < -31 else (fixed, shift)


def requantize(acc: Int64Array, multiplier: Int64Array, shift: Int64Array) -> Int64Array:
    """Multiplies accumulators by `multiplier * 2**(shift - 31)` with TFLite-Micro's two roundings.

    Args:
        acc: int64 (..., channels), each value within int32.
        multiplier: int64 (channels,) or (1,), from `quantize_multiplier()`.
        shift: int64 of the same shape.

    Returns:
        int64 (..., channels). Where TFLite-Micro's left shift would overflow, the accumulator saturates.
    """
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    limit = INT32_MAX >> left
    high = ((np.clip(acc, -limit, limit) << left) * multiplier + (1 << 30)) >> 31
    remainder = high & ((1 << right) - 1)
    threshold = (((1 << right) - 1) >> 1) + (high < 0)
    result: Int64Array = (high >> right) + (remainder > threshold)
    return result


def round_shift(value: Int64Array, shift: int) -> Int64Array:
    """Returns `value / 2**shift`, halves rounded up; a shift below 0 multiplies.

    Example:
        >>> round_shift(np.array([3, -3, 5]), 1).tolist()
        [2, -1, 3]
    """
    if shift <= 0:
        return value << -shift
    return (value + (1 << (shift - 1))) >> shift


def round_away(value: Int64Array, shift: int) -> Int64Array:
    """Returns `value / 2**shift`, halves rounded away from zero, for a shift from 0 on.

    Example:
        >>> round_away(np.array([3, -3, 5]), 1).tolist()
        [2, -2, 3]
    """
    return round_shift(value - (value < 0), shift) if shift else value


def round_shifts(value: Int64Array, shifts: Int64Array) -> Int64Array:
    """Returns `value / 2**shifts`, halves rounded up, for shifts from 0 on that broadcast against the values.

    Example:
        >>> round_shifts(np.array([3, 3]), np.array([0, 1])).tolist()
        [3, 2]
    """
    return (value + ((1 << shifts) >> 1)) >> shifts


def log2_q8(value: int) -> int:
    """Returns `log2(value)` in units of 1/256, the mantissa taken as linear.

    Example:
        >>> log2_q8(1), log2_q8(3), log2_q8(256)
        (0, 384, 2048)
    """
    octave = value.bit_length() - 1
    return 256 * octave + ((value << 8) >> octave) - 256
