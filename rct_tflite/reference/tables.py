"""Tables of 256 entries, made with TFLite-Micro's fixed-point arithmetic (ARITHMETIC.md 1 and 3)."""

import math

import numpy as np
import numpy.typing as npt

from rct_tflite.reference import fixed_point
from rct_tflite.reference.rounding import quantize_multiplier, requantize
from rct_tflite.spec.graph import OpKind, Tensor
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN

IntArray = npt.NDArray[np.int64]
VALUES: IntArray = np.arange(ACTIVATION_MIN, ACTIVATION_MAX + 1)
"""Every int8, in the order of a table."""
SOFTMAX_INTEGER_BITS = 5
INPUT_INTEGER_BITS = 4
"""Bits before the point of what LOGISTIC and TANH take."""
SLOPE_BITS = 6
"""An error is multiplied by a slope and divided by 2**SLOPE_BITS: slopes up to 64 never saturate it."""
SMALLEST_SLOPE = 2.0**-20


def softmax_table(scale: float, beta: float) -> IntArray:
    """Returns exp(-scale * beta * d) in 2**-31 for d = 0 to 255; 0 where TFLite-Micro adds nothing.

    Args:
        scale: Of the input.
        beta: Of the SOFTMAX.
    """
    real = min(beta * scale * 2 ** (31 - SOFTMAX_INTEGER_BITS), 2.0**31 - 1.0)
    multiplier, shift = _quantize_any(real)
    radius = math.floor((2**SOFTMAX_INTEGER_BITS - 1) * 2 ** (31 - SOFTMAX_INTEGER_BITS) / 2**shift)
    distance = np.arange(256)
    inside = np.minimum(distance, radius)
    exps = fixed_point.exp_of_negative(_scaled(-inside, multiplier, shift), SOFTMAX_INTEGER_BITS)
    return np.where(distance <= radius, exps, 0)


def value_table(kind: OpKind, alpha: float, source: Tensor, result: Tensor) -> IntArray:
    """Returns the output of an op of `TABLE_KINDS` for every int8 input.

    Args:
        kind: The op's kind.
        alpha: Slope of LEAKY_RELU below 0.
        source: The op's input.
        result: The op's output.
    """
    centred = VALUES - source.zero_point
    match kind:
        case OpKind.RELU6:
            six = source.zero_point + math.floor(float(np.float32(6.0) / np.float32(source.scale)) + 0.5)
            table = np.clip(VALUES, source.zero_point, six)
        case OpKind.LOGISTIC | OpKind.TANH:
            table = _sigmoid(kind, centred, source.scale)
        case OpKind.HARD_SWISH:
            table = fixed_point.hard_swish(centred, source.scale, result.scale) + result.zero_point
        case _:
            table = _linear(kind, alpha, centred, source, result) + result.zero_point
    if kind is OpKind.RELU:
        table = np.maximum(table, result.zero_point)
    return np.clip(table, ACTIVATION_MIN, ACTIVATION_MAX)


def slope_bits(error_bits: int) -> int:
    """Returns the bits of slopes that errors of this width are multiplied with: products fit 30."""
    return SLOPE_BITS + error_bits - 8


def slope_table(kind: OpKind, alpha: float, source: Tensor, slope_bits: int = SLOPE_BITS) -> tuple[IntArray, int]:
    """Returns the derivative of an op of `TABLE_KINDS` for every int8 input; at 0 those of TensorFlow.

    Returns:
        `(table, bits)`: the derivative is `table * 2**-bits`, its largest magnitude 33 to 64 with 6 `slope_bits`.
        `slope_bits - bits` is the same for any `slope_bits`.
    """
    x = (VALUES - source.zero_point) * source.scale
    inside = (x > 0) & (x < 6)
    match kind:
        case OpKind.RELU:
            slope = (x > 0).astype(np.float64)
        case OpKind.RELU6:
            slope = inside.astype(np.float64)
        case OpKind.LEAKY_RELU:
            slope = np.where(x > 0, 1.0, alpha)
        case OpKind.LOGISTIC:
            slope = np.exp(-np.abs(x)) / (1.0 + np.exp(-np.abs(x))) ** 2
        case OpKind.TANH:
            slope = 1.0 - np.tanh(x) ** 2
        case OpKind.HARD_SWISH:
            slope = np.where(np.abs(x) < 3, (2 * x + 3) / 6, (x >= 3).astype(np.float64))
        case _:
            slope = np.ones(x.size)
    bits = slope_bits - math.ceil(math.log2(max(float(np.abs(slope).max()), SMALLEST_SLOPE)))
    return np.floor(slope * 2.0**bits + 0.5).astype(np.int64), bits


def _linear(kind: OpKind, alpha: float, centred: IntArray, source: Tensor, result: Tensor) -> IntArray:
    """RELU, LEAKY_RELU and QUANTIZE: one multiplier, another one below 0 where there is an alpha."""
    exact, rounded = source.scale / result.scale, np.float32(source.scale) / np.float32(result.scale)
    table = _scaled(centred, *quantize_multiplier(exact if kind is OpKind.QUANTIZE else float(rounded)))
    if kind is not OpKind.LEAKY_RELU:
        return table
    below = float(np.float32(source.scale) * np.float32(alpha) / np.float32(result.scale))
    multiplier, shift = quantize_multiplier(abs(below))
    slow = _scaled(centred, multiplier, shift)
    return np.where(centred >= 0, table, slow if below >= 0 else -slow)


def _sigmoid(kind: OpKind, centred: IntArray, scale: float) -> IntArray:
    """LOGISTIC in 1/256 from -128 on, or TANH in 1/128."""
    multiplier, shift = _quantize_any(scale * 2.0 ** (31 - INPUT_INTEGER_BITS))
    radius = math.floor((2**INPUT_INTEGER_BITS - 1) * 2.0 ** (31 - INPUT_INTEGER_BITS) / 2.0**shift)
    inside = _scaled(np.clip(centred, -radius, radius), multiplier, shift)
    if kind is OpKind.LOGISTIC:
        values = fixed_point.divide_by_power(fixed_point.logistic(inside, INPUT_INTEGER_BITS), 31 - 8) + ACTIVATION_MIN
    else:
        values = fixed_point.divide_by_power(fixed_point.tanh(inside, INPUT_INTEGER_BITS), 31 - 7)
    values = np.clip(values, ACTIVATION_MIN, ACTIVATION_MAX)
    return np.where(centred <= -radius, ACTIVATION_MIN, np.where(centred >= radius, ACTIVATION_MAX, values))


def _scaled(values: IntArray, multiplier: int, shift: int) -> IntArray:
    return requantize(values, np.array([multiplier]), np.array([shift]))


def _quantize_any(real: float) -> tuple[int, int]:
    """Splits a multiplier of any size, as the kernels with an input in fixed point need it."""
    mantissa, shift = math.frexp(real)
    fixed = math.floor(mantissa * 2**31 + 0.5)
    return (fixed // 2, shift + 1) if fixed == 2**31 else (fixed, shift)
