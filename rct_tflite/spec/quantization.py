"""The quantisation grids: weights (symmetric, frozen range) and activations (affine int8)."""

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError

MIN_BITS = 2
MAX_BITS = 16
EXPORT_BITS = 8
"""Widest weight that a `.tflite` of int8 weights can hold."""

ACTIVATION_MIN = -128
ACTIVATION_MAX = 127
SCALE_SIGNIFICANT_BITS = 12
"""Mantissa bits of an exported scale: products of two scales are then exact in float32, so that every
TFLite-Micro version computes the same multiplier, whether it multiplies in float or in double."""


class Rounding(enum.StrEnum):
    """How an update smaller than one step is rounded to integers.

    `TRUNCATE` is the paper's (toward zero), `STOCHASTIC` is unbiased.
    """

    TRUNCATE = "truncate"
    STOCHASTIC = "stochastic"


@dataclass(frozen=True)
class AffineQuantization:
    """`real = scale * (integer - zero_point)` for one int8 activation tensor."""

    scale: float
    zero_point: int

    @property
    def minimum(self) -> float:
        """The real value of -128."""
        return self.scale * (ACTIVATION_MIN - self.zero_point)

    @property
    def maximum(self) -> float:
        """The real value of 127."""
        return self.scale * (ACTIVATION_MAX - self.zero_point)


def top(bits: int) -> int:
    """Returns the largest weight integer at `bits` bits; the smallest is its negative.

    Raises:
        QuantizationError: If `bits` is outside 2 to 16.

    Example:
        >>> [top(bits) for bits in (2, 6, 8)]
        [1, 31, 127]
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise QuantizationError(
            f"Cannot quantise weights to this bit-width. Expected {MIN_BITS} to {MAX_BITS} bits. Received: bits={bits}."
        )
    return int(2 ** (bits - 1) - 1)


def low_bits(bits: int) -> int:
    """Returns how many bits a weight has below those that the `.tflite` and the kernels see of it.

    Example:
        >>> [low_bits(bits) for bits in (6, 8, 12)]
        [0, 0, 4]
    """
    return max(bits - EXPORT_BITS, 0)


def narrowed(integers: npt.NDArray[np.signedinteger], bits: int) -> npt.NDArray[np.int64]:
    """Returns weights as the `.tflite` and the kernels see them: what has more than 8 bits is rounded to 8.

    Args:
        integers: Of any shape, at `bits` bits.
        bits: Bit-width, 2 to 16.

    Returns:
        int64, same shape; halves rounded up, within 127 where there was something to round.

    Example:
        >>> narrowed(np.array([-2047, -9, -8, 7, 8, 2047]), bits=12).tolist()
        [-127, -1, 0, 0, 1, 127]
    """
    dropped = low_bits(bits)
    wide: npt.NDArray[np.int64] = integers.astype(np.int64)
    if not dropped:
        return wide
    limit = top(EXPORT_BITS)
    seen: npt.NDArray[np.int64] = np.clip((wide + (1 << (dropped - 1))) >> dropped, -limit, limit)
    return seen


def round_scale(scale: float, significant_bits: int = SCALE_SIGNIFICANT_BITS) -> float:
    """Rounds a positive scale to `significant_bits` bits of mantissa.

    Raises:
        QuantizationError: If the scale is not a positive, finite number.

    Example:
        >>> round_scale(0.1)
        0.100006103515625
    """
    if not (scale > 0.0 and math.isfinite(scale)):
        raise QuantizationError(
            f"A scale must be a positive, finite number. Received: scale={scale}. "
            "Check the training for a collapsed or exploded layer."
        )
    mantissa, exponent = math.frexp(scale)
    steps = 2.0**significant_bits
    return math.ldexp(round(mantissa * steps) / steps, exponent)


def affine_from_range(minimum: float, maximum: float) -> AffineQuantization:
    """Returns the int8 quantisation that covers `[minimum, maximum]` and represents 0 exactly.

    The scale is rounded up to 12 significant bits, so that the range is covered to half a step.

    Args:
        minimum: Smallest real value. A positive one is taken as 0.
        maximum: Largest real value. A negative one is taken as 0.

    Raises:
        QuantizationError: If the range is empty or not finite.

    Example:
        >>> affine_from_range(0.0, 6.0)
        AffineQuantization(scale=0.02353668212890625, zero_point=-128)
    """
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        raise QuantizationError(f"An activation range must be finite. Received: [{minimum}, {maximum}].")
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    if high <= low:
        raise QuantizationError(
            f"An activation range is empty. Received: [{minimum}, {maximum}]. "
            "Train for at least one batch, so that ranges are observed; after training it means that every value is 0, "
            "as behind a RELU that died: lower the learning rate, or leave the layer out."
        )
    mantissa, exponent = math.frexp((high - low) / (ACTIVATION_MAX - ACTIVATION_MIN))
    steps = 2.0**SCALE_SIGNIFICANT_BITS
    scale = math.ldexp(math.ceil(mantissa * steps) / steps, exponent)
    zero_point = min(max(round(ACTIVATION_MIN - low / scale), ACTIVATION_MIN), ACTIVATION_MAX)
    return AffineQuantization(scale, int(zero_point))
