"""The forward pass (ARITHMETIC.md 1): what TFLite-Micro computes, in NumPy, for many samples at once."""

import numpy as np
import numpy.typing as npt

from rct_tflite.reference import fixed_point
from rct_tflite.reference.constants import SUM_SHIFT, ForwardConstants, Window
from rct_tflite.reference.rounding import requantize
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN

IntArray = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]
SOFTMAX_SUM_BITS = 12
"""Integer bits of SOFTMAX's sum of exponentials."""


def patches(values: IntArray, window: Window, out_h: int, out_w: int, fill: int) -> IntArray:
    """Cuts the windows out of images.

    Args:
        values: int64 (n, height, width, channels).
        window: Filter, strides and padding.
        out_h: Rows of windows.
        out_w: Columns of windows.
        fill: Value outside the image.

    Returns:
        int64 (n, out_h, out_w, filter_h, filter_w, channels).
    """
    n, height, width, channels = values.shape
    need_h = (out_h - 1) * window.stride_h + window.filter_h
    need_w = (out_w - 1) * window.stride_w + window.filter_w
    padded = np.full((n, max(need_h, height + window.pad_top), max(need_w, width + window.pad_left), channels), fill)
    padded[:, window.pad_top : window.pad_top + height, window.pad_left : window.pad_left + width] = values
    rows = np.arange(out_h)[:, None] * window.stride_h + np.arange(window.filter_h)
    columns = np.arange(out_w)[:, None] * window.stride_w + np.arange(window.filter_w)
    cut = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
    return np.asarray(cut, np.int64)


def weighted(inputs: IntArray, weights: IntArray, bias: IntArray, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Runs FULLY_CONNECTED on rows, or the inner product of CONV_2D on rows of patches.

    Args:
        inputs: int64 (..., depth), zero point of the input already taken off.
        weights: int64 (channels, depth).
        bias: int64 (channels,).
        zero_point: Of the output.
        c: Multipliers and bounds.

    Returns:
        int8 (..., channels).
    """
    # float64 products of integers are exact up to 2**53, far above any int32 accumulator.
    acc = (inputs.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64) + bias
    scaled = requantize(acc, c.multiplier, c.shift) + zero_point
    return _clamp(scaled, c)


def depthwise(windows: IntArray, weights: IntArray, bias: IntArray, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Runs DEPTHWISE_CONV_2D.

    Args:
        windows: int64 (n, h, w, filter_h, filter_w, input channels), zero point of the input already taken off.
        weights: int64 (channels, filter_h * filter_w), channel `k * multiplier + m` reads input channel `k`.
        bias: int64 (channels,).
        zero_point: Of the output.
        c: Multipliers and bounds.

    Returns:
        int8 (n, h, w, channels).
    """
    spread = repeat_channels(windows, len(weights)).reshape(*windows.shape[:3], -1, len(weights))
    acc = np.einsum("nhwkc,ck->nhwc", spread.astype(np.float64), weights.astype(np.float64)).astype(np.int64) + bias
    return _clamp(requantize(acc, c.multiplier, c.shift) + zero_point, c)


def repeat_channels(values: IntArray, channels: int) -> IntArray:
    """Repeats each input channel (last axis) for the output channels that read it."""
    return np.repeat(values, channels // values.shape[-1], axis=-1)


def transpose_conv(spread: IntArray, bias: IntArray, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Finishes TRANSPOSE_CONV: sums int64 (n, h, w, channels) of what every input hands to an output."""
    return _clamp(requantize(spread + bias, c.multiplier, c.shift) + zero_point, c)


def add(one: IntArray, other: IntArray, sign: int, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Runs ADD (sign 1) or SUB (sign -1) on operands of one shape, zero points already taken off."""
    one, other = (
        requantize(value << SUM_SHIFT, c.multiplier[i : i + 1], c.shift[i : i + 1])
        for i, value in enumerate((one, other))
    )
    return _clamp(requantize(one + sign * other, c.multiplier[2:], c.shift[2:]) + zero_point, c)


def multiply(one: IntArray, other: IntArray, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Runs MUL on operands of one shape, zero points already taken off."""
    return _clamp(requantize(one * other, c.multiplier, c.shift) + zero_point, c)


def mean(values: IntArray, zero_point: int, c: ForwardConstants) -> Int8Array:
    """Runs MEAN over height and width of (n, h, w, channels), zero point already taken off; returns (n, channels)."""
    return _clamp(requantize(values.sum(axis=(1, 2)), c.multiplier, c.shift) + zero_point, c)


def softmax(values: IntArray, table: IntArray) -> Int8Array:
    """Runs SOFTMAX along the last axis of (n, classes).

    Args:
        values: int64, the int8 inputs.
        table: From `tables.softmax_table()`.
    """
    exps = table[values.max(axis=-1, keepdims=True) - values]
    total = fixed_point.divide_by_power(exps, SOFTMAX_SUM_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frompyfunc(int.bit_length, 1, 1)(total.astype(object)).astype(np.int64)
    scale = fixed_point.reciprocal_of_one_plus((total << headroom) - (1 << 31))
    product = fixed_point.high_product(scale, exps)
    exponent = SOFTMAX_SUM_BITS - headroom + 31 - 8
    probability = fixed_point.divide_by_power(product, exponent)
    return np.asarray(np.clip(probability + ACTIVATION_MIN, ACTIVATION_MIN, ACTIVATION_MAX), np.int8)


def conv_2d_input(errors: IntArray, weights: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Returns the sums of the input error of CONV_2D, and the accumulators of TRANSPOSE_CONV.

    Args:
        errors: int64 (out_h, out_w, channels), from `channel_errors()`.
        weights: int64 (channels, filter_h, filter_w, input_channels).
        window: Filter, strides and padding.
        in_shape: (height, width, input_channels).

    Returns:
        int64 (height, width, input_channels).
    """
    # float64 products of integers are exact up to 2**53, far above any sum.
    spread = np.tensordot(errors.astype(np.float64), weights.astype(np.float64), axes=(2, 0)).astype(np.int64)
    return scatter(spread, window, in_shape)


def scatter(spread: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Adds what each output hands back to the cells of its window.

    Args:
        spread: int64 (out_h, out_w, filter_h, filter_w, input_channels).
        window: Filter, strides and padding.
        in_shape: (height, width, input_channels).

    Returns:
        int64 (height, width, input_channels).
    """
    out_h, out_w = spread.shape[:2]
    high = max((out_h - 1) * window.stride_h + window.filter_h, in_shape[0] + window.pad_top)
    wide = max((out_w - 1) * window.stride_w + window.filter_w, in_shape[1] + window.pad_left)
    acc = np.zeros((high, wide, in_shape[2]), np.int64)
    for i in range(window.filter_h):
        for j in range(window.filter_w):
            rows = slice(i, i + (out_h - 1) * window.stride_h + 1, window.stride_h)
            columns = slice(j, j + (out_w - 1) * window.stride_w + 1, window.stride_w)
            acc[rows, columns] += spread[:, :, i, j]
    top, left = window.pad_top, window.pad_left
    return acc[top : top + in_shape[0], left : left + in_shape[1]]


def max_pool_2d(windows: IntArray, c: ForwardConstants) -> Int8Array:
    """Takes the largest value of windows (n, h, w, filter_h, filter_w, channels), padding filled with -128."""
    return _clamp(windows.max(axis=(3, 4)), c)


def average_pool_2d(windows: IntArray, counts: IntArray, c: ForwardConstants) -> Int8Array:
    """Averages windows (n, h, w, filter_h, filter_w, channels), padding filled with 0.

    Args:
        windows: The values.
        counts: int64 (h, w, 1), cells of each window that lie in the image.
        c: Bounds.
    """
    total = windows.sum(axis=(3, 4))
    magnitude = (np.abs(total) + counts // 2) // counts
    return _clamp(np.sign(total) * magnitude, c)


def _clamp(values: IntArray, c: ForwardConstants) -> Int8Array:
    clamped: Int8Array = np.clip(values, c.act_min, c.act_max).astype(np.int8)
    return clamped
