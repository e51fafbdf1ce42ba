"""The forward pass (ARITHMETIC.md 1): what TFLite-Micro computes, in NumPy, for many samples at once."""

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.constants import ForwardConstants, Window
from rct_tflite.reference.rounding import requantize

IntArray = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]


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
