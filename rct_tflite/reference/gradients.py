"""The backward pass of single ops (ARITHMETIC.md 3 and 4), for one sample."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.constants import EXP_TABLE_ONE, MAX_ERROR, RATIO_BITS, BackwardConstants, Window
from rct_tflite.reference.rounding import log2_q8, round_shift
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN

IntArray = npt.NDArray[np.int64]
GAIN_UNSET = -(2**31)
GAIN_DECAY = 4
SETTLED_BITS = 8
"""Errors below 2**8, in units of 2**-15, teach nothing."""


@dataclass(frozen=True, eq=False)
class ScaledError:
    """`dL/dy = values * 2**-exponent * C`, values int64 within +-127."""

    values: IntArray
    exponent: int


def saturate(values: IntArray) -> IntArray:
    """Limits errors to 8 bits, symmetric."""
    return np.clip(values, -MAX_ERROR, MAX_ERROR)


def softmax_cross_entropy(logits: IntArray, label: int, table: IntArray) -> ScaledError | None:
    """Returns the error at the logits, or None where nothing is left to learn.

    Args:
        logits: int64 (classes,), the int8 outputs.
        label: The true class.
        table: From `constants.exp_table()`.
    """
    distance = int(logits.max()) - logits
    exps = np.where(distance < table.size, table[np.minimum(distance, table.size - 1)], 0)
    total = int(exps.sum())
    gradient = (exps * EXP_TABLE_ONE + total // 2) // total
    gradient[label] -= EXP_TABLE_ONE
    bits = int(np.abs(gradient).max()).bit_length()
    if bits <= SETTLED_BITS:
        return None
    values = saturate(round_shift(gradient, bits - 7))
    outward = ((logits == ACTIVATION_MAX) & (values < 0)) | ((logits == ACTIVATION_MIN) & (values > 0))
    values[outward] = 0
    return ScaledError(values, 22 - bits) if values.any() else None


def channel_errors(error: IntArray, c: BackwardConstants) -> IntArray:
    """Returns errors (..., channels) multiplied by their channel's ratio, with guard bits."""
    if c.ratio is None:
        return error
    return round_shift(error * c.ratio, RATIO_BITS - c.guard_bits)


def scale_input_error(acc: IntArray, total_shift: int, gain: int) -> tuple[IntArray, int, int]:
    """Brings the sums of an input error to 8 bits.

    Args:
        acc: int64 sums.
        total_shift: Exponent at the loss minus exponent at the op's output.
        gain: The op's gain so far, or `GAIN_UNSET`.

    Returns:
        Errors within +-127, the shift that was applied, the new gain.
    """
    peak = int(np.abs(acc).max())
    if peak == 0:
        return acc, 0, gain
    seen = log2_q8(peak) + 256 * total_shift
    if gain == GAIN_UNSET:
        gain = seen
    shift = min(max(((gain - 256 * total_shift) >> 8) - 6, 0), 31)
    return saturate(round_shift(acc, shift)), shift, max(gain - GAIN_DECAY, seen)


def conv_2d_input(errors: IntArray, weights: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Returns the sums of the input error of CONV_2D.

    Args:
        errors: int64 (out_h, out_w, channels), from `channel_errors()`.
        weights: int64 (channels, filter_h, filter_w, input_channels).
        window: Filter, strides and padding.
        in_shape: (height, width, input_channels).

    Returns:
        int64 (height, width, input_channels).
    """
    out_h, out_w, _ = errors.shape
    high = max((out_h - 1) * window.stride_h + window.filter_h, in_shape[0] + window.pad_top)
    wide = max((out_w - 1) * window.stride_w + window.filter_w, in_shape[1] + window.pad_left)
    acc = np.zeros((high, wide, in_shape[2]), np.int64)
    # float64 products of integers are exact up to 2**53, far above any sum.
    spread = np.tensordot(errors.astype(np.float64), weights.astype(np.float64), axes=(2, 0)).astype(np.int64)
    for i in range(window.filter_h):
        for j in range(window.filter_w):
            rows = slice(i, i + (out_h - 1) * window.stride_h + 1, window.stride_h)
            columns = slice(j, j + (out_w - 1) * window.stride_w + 1, window.stride_w)
            acc[rows, columns] += spread[:, :, i, j]
    top, left = window.pad_top, window.pad_left
    return acc[top : top + in_shape[0], left : left + in_shape[1]]


def max_pool_2d(error: IntArray, windows: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Hands each error to the first largest element of its window.

    Args:
        error: int64 (out_h, out_w, channels).
        windows: int64 (out_h, out_w, filter_h, filter_w, channels) of the input, padding below every value.
        window: Filter, strides and padding.
        in_shape: (height, width, channels).
    """
    out_h, out_w, channels = error.shape
    first = windows.reshape(out_h, out_w, -1, channels).argmax(axis=2)
    rows = np.arange(out_h)[:, None, None] * window.stride_h - window.pad_top + first // window.filter_w
    columns = np.arange(out_w)[None, :, None] * window.stride_w - window.pad_left + first % window.filter_w
    every = np.arange(channels)
    result = np.zeros(in_shape, np.int64)
    if not window.overlaps:
        result[rows, columns, every] = error
        return result
    for y, x in np.ndindex(out_h, out_w):
        place = (rows[y, x], columns[y, x], every)
        result[place] = saturate(result[place] + error[y, x])
    return result


def average_pool_2d(error: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Hands each error (out_h, out_w, channels) to every element of its window; no window is padded."""
    out_h, out_w, _ = error.shape
    result = np.zeros(in_shape, np.int64)
    for y, x in np.ndindex(out_h, out_w):
        top, left = y * window.stride_h, x * window.stride_w
        place = (slice(top, top + window.filter_h), slice(left, left + window.filter_w))
        result[place] = saturate(result[place] + error[y, x])
    return result
