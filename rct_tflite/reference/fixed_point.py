"""The fixed-point functions under TFLite-Micro's SOFTMAX, LOGISTIC, TANH and HARD_SWISH, on int64 arrays of int32.

A number with `n` integer bits is held in units of `2**(n - 31)`.
"""

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.rounding import INT32_MAX, quantize_multiplier

IntArray = npt.NDArray[np.int64]
ONE = INT32_MAX
"""1.0 with no integer bits."""
_EXP_OF_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2**k) with no integer bits."""
_EXP_OF_EIGHTH = 1895147668
_THIRD = 715827883
_48_OVER_17 = 1515870810
_32_OVER_17 = 1010580540


def high_product(a: IntArray, b: IntArray | int) -> IntArray:
    """Returns the product of two numbers with no integer bits, rounded to nearest."""
    product: IntArray = (a * b + 2**30) >> 31
    return product


def divide_by_power(values: IntArray, exponent: IntArray | int) -> IntArray:
    """Returns `values / 2**exponent`, halves rounded away from zero."""
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (values < 0)
    result: IntArray = (values >> exponent) + ((values & mask) > threshold)
    return result


def multiply_by_power(values: IntArray, exponent: int) -> IntArray:
    """Returns `values * 2**exponent` within int32."""
    product: IntArray = np.clip(values << exponent, -INT32_MAX - 1, INT32_MAX)
    return product


def exp_of_negative(values: IntArray, integer_bits: int) -> IntArray:
    """Returns exp of numbers of at most 0 with `integer_bits` integer bits; no integer bits in the result."""
    quarter = 1 << (29 - integer_bits)
    near = (values & (quarter - 1)) - quarter
    result = _exp_near_zero(multiply_by_power(near, integer_bits))
    rest = near - values
    for exponent, factor in _EXP_OF_POWERS.items():
        if exponent < integer_bits:
            bit = 1 << (31 - integer_bits + exponent)
            result = np.where(rest & bit, high_product(result, factor), result)
    return np.where(values == 0, ONE, result)


def reciprocal_of_one_plus(values: IntArray) -> IntArray:
    """Returns 1 / (1 + x) of numbers in 0 to 1 with no integer bits."""
    return multiply_by_power(_newton_division(values), 1)


def logistic(values: IntArray, integer_bits: int) -> IntArray:
    """Returns 1 / (1 + exp(-x)); no integer bits in the result."""
    positive = reciprocal_of_one_plus(exp_of_negative(-np.abs(values), integer_bits))
    return np.where(values == 0, 1 << 30, np.where(values > 0, positive, ONE - positive))


def tanh(values: IntArray, integer_bits: int) -> IntArray:
    """Returns tanh(x); no integer bits in the result."""
    exps = exp_of_negative(-np.abs(values), integer_bits + 1)  # the same bits, read as twice the number
    result = multiply_by_power(_newton_division(exps) - (1 << 29), 2)
    return np.where(values == 0, 0, np.where(values > 0, result, -result))


def hard_swish(centred: IntArray, input_scale: float, output_scale: float) -> IntArray:
    """Returns x * relu6(x + 3) / 6 of int8 values without zero point, in 16 bits as TFLite-Micro does.

    Args:
        centred: int64, -255 to 255.
        input_scale: Of the input.
        output_scale: Of the output.
    """
    fine = np.float32(1.0 / 128.0) * np.float32(input_scale)
    output_multiplier, output_shift = _short_multiplier(float(fine / np.float32(output_scale)))
    gate_multiplier, gate_shift = _short_multiplier(float(fine / (np.float32(3.0) / np.float32(32768.0))))
    fine_input = centred << 7
    before_shift = _short_product(fine_input, output_multiplier)
    gate = fine_input
    if gate_shift > 0:
        gate = _clip_short(gate << (gate_shift - 1))
    gate = _short_product(gate, gate_multiplier)
    gate = _clip_short(gate << 1) if gate_shift > 0 else divide_by_power(gate, -gate_shift)
    gate = (gate + (1 << 15)) >> 1
    product = gate * before_shift
    toward_zero = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return divide_by_power(toward_zero, -output_shift)


def _exp_near_zero(values: IntArray) -> IntArray:
    """Taylor series around -1/8 on [-1/4, 0), no integer bits."""
    x = values + (1 << 28)
    x2 = high_product(x, x)
    x3 = high_product(x2, x)
    quarter_x4 = divide_by_power(high_product(x2, x2), 2)
    inner = divide_by_power(high_product(quarter_x4 + x3, _THIRD) + x2, 1)
    return high_product(x + inner, _EXP_OF_EIGHTH) + _EXP_OF_EIGHTH


def _newton_division(values: IntArray) -> IntArray:
    """Returns 2 / (1 + x) with two integer bits by three steps of Newton and Raphson."""
    half = _half_sum(values)
    x = _48_OVER_17 + high_product(half, -_32_OVER_17)
    for _ in range(3):
        rest = (1 << 29) - high_product(half, x)
        x = x + multiply_by_power(high_product(x, rest), 2)
    return x


def _half_sum(values: IntArray) -> IntArray:
    """Returns (x + 1) / 2, rounded half away from zero; x is not negative."""
    return (values + ONE + 1) >> 1


def _short_multiplier(real: float) -> tuple[int, int]:
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, 2**15 - 1), shift


def _short_product(a: IntArray, b: int) -> IntArray:
    return (a * b + (1 << 14)) >> 15


def _clip_short(values: IntArray) -> IntArray:
    return np.clip(values, -(2**15), 2**15 - 1)
