"""The backward pass of single ops (ARITHMETIC.md 3 and 4), for one sample."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.backward import RATIO_BITS, BackwardConstants, Merge, largest_error
from rct_tflite.reference.constants import EXP_TABLE_ONE, Window
from rct_tflite.reference.kernels import patches, scatter
from rct_tflite.reference.losses import LossConstants
from rct_tflite.reference.rounding import log2_q8, round_away, round_shift
from rct_tflite.spec.graph import Inputs
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.training_plan import Loss

IntArray = npt.NDArray[np.int64]
GAIN_UNSET = -(2**31)
GAIN_DECAY = 4
MERGE_BITS = 6
"""Bits below the coarser of two errors that their sum keeps."""
SMALLEST_PEAK, LARGEST_PEAK = 16, 127
"""Where the largest error, in 8 bits, may lie: beyond, its gain is left alone and the exponent is exact."""
GRADIENT_SUM_BITS = 22
"""Bits of the sum of a channel's errors: times an input of 8 bits it fits 30."""
SETTLED_BITS = 8
"""Errors below 2**8, in units of 2**-15, teach nothing."""


@dataclass(frozen=True, eq=False)
class ScaledError:
    """`dL/dy = values * 2**-exponent * C`, values int64 within +-127, or +-32767 with errors of 16 bits."""

    values: IntArray
    exponent: int


def saturate(values: IntArray, error_bits: int = 8) -> IntArray:
    """Limits errors to their bit-width, symmetric."""
    return np.clip(values, -largest_error(error_bits), largest_error(error_bits))


def softmax_cross_entropy(logits: IntArray, label: int, table: IntArray, error_bits: int = 8) -> ScaledError | None:
    """Returns the error at the logits, or None where nothing is left to learn.

    Args:
        logits: int64 (classes,), the int8 outputs.
        label: The true class.
        table: From `constants.exp_table()`.
        error_bits: Bit-width of the error.
    """
    distance = int(logits.max()) - logits
    exps = np.where(distance < table.size, table[np.minimum(distance, table.size - 1)], 0)
    total = int(exps.sum())
    gradient = (exps * EXP_TABLE_ONE + total // 2) // total
    gradient[label] -= EXP_TABLE_ONE
    return _probability_error(logits, gradient, error_bits)


def loss_error(
    loss: Loss, outputs: IntArray, label: int | IntArray, c: LossConstants, error_bits: int = 8
) -> ScaledError | None:
    """Returns the error at the tensor that the loss reads, or None where nothing is left to learn.

    Args:
        loss: The loss.
        outputs: int64 (n,), the int8 values of that tensor.
        label: The true class, or int64 (n,): a target for each output, in the output's int8 format. Sigmoid
            cross-entropy takes a probability of 0 as -128, of 1 as 127.
        c: From `loss_constants()`.
        error_bits: Bit-width of the error.
    """
    if loss is Loss.SOFTMAX_CROSS_ENTROPY:
        assert isinstance(label, int)
        return softmax_cross_entropy(outputs, label, c.table, error_bits)
    target = np.asarray(label, np.int64)
    if loss is Loss.SIGMOID_CROSS_ENTROPY:
        span = ACTIVATION_MAX - ACTIVATION_MIN
        wanted = ((target - ACTIVATION_MIN) * EXP_TABLE_ONE + span // 2) // span
        return _probability_error(outputs, c.table[outputs - ACTIVATION_MIN] - wanted, error_bits)
    difference = np.clip(outputs - target, -c.limit, c.limit)
    bits = int(np.abs(difference).max()).bit_length()
    return _scaled(difference, bits, error_bits, error_bits - 1 - bits) if bits else None


def _probability_error(logits: IntArray, gradient: IntArray, error_bits: int) -> ScaledError | None:
    """Returns the error where probabilities in 2**-15 are off by `gradient`."""
    bits = int(np.abs(gradient).max()).bit_length()
    if bits <= SETTLED_BITS:
        return None
    error = _scaled(gradient, bits, error_bits, 14 + error_bits - bits)
    values = error.values
    outward = ((logits == ACTIVATION_MAX) & (values < 0)) | ((logits == ACTIVATION_MIN) & (values > 0))
    values[outward] = 0
    return error if values.any() else None


def _scaled(gradient: IntArray, bits: int, error_bits: int, exponent: int) -> ScaledError:
    return ScaledError(saturate(round_shift(gradient, bits - (error_bits - 1)), error_bits), exponent)


def channel_errors(error: IntArray, c: BackwardConstants) -> IntArray:
    """Returns errors (..., channels) multiplied by their channel's ratio, with guard bits or without dropped ones."""
    if c.ratio is None:
        return round_shift(error, c.dropped_bits)
    return round_shift(error * c.ratio, RATIO_BITS - c.guard_bits + c.dropped_bits)


def gradient_shifts(errors: IntArray) -> IntArray:
    """Returns the bits that errors of 16 bits lose before they are multiplied with inputs, per channel.

    Args:
        errors: int64 (positions, channels).
    """
    sums = np.abs(errors).sum(axis=0)
    shifts: IntArray = np.maximum(np.frexp(sums.astype(np.float64))[1] - GRADIENT_SUM_BITS, 0).astype(np.int64)
    return shifts


def scale_input_error(acc: IntArray, total_shift: int, gain: int, error_bits: int = 8) -> tuple[IntArray, int, int]:
    """Brings the sums of an input error to the width of errors.

    Args:
        acc: int64 sums.
        total_shift: Exponent at the loss minus exponent at the op's output.
        gain: The op's gain so far, or `GAIN_UNSET`.
        error_bits: Bit-width of the errors.

    Returns:
        Errors within their bit-width, the shift that was applied, the new gain.
    """
    shift, gain = _next_shift(acc, total_shift, gain, error_bits)
    return saturate(round_shift(acc, shift), error_bits), shift, gain


def _next_shift(acc: IntArray, total_shift: int, gain: int, error_bits: int) -> tuple[int, int]:
    """Returns the shift for sums, and the new gain; arguments as of `scale_input_error()`."""
    peak = int(np.abs(acc).max())
    if peak == 0:
        return 0, gain
    seen = log2_q8(peak) + 256 * total_shift
    if gain == GAIN_UNSET:
        gain = seen
    shift = _shift(gain, total_shift, error_bits)
    if not SMALLEST_PEAK <= peak >> (shift + error_bits - 8) <= LARGEST_PEAK:
        shift = _shift(seen, total_shift, error_bits)
    return shift, max(gain - GAIN_DECAY, seen)


def _shift(gain: int, total_shift: int, error_bits: int) -> int:
    return min(max(((gain - 256 * total_shift) >> 8) - (error_bits - 2), 0), 31)


def depthwise_input(errors: IntArray, weights: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Returns the sums of the input error of DEPTHWISE_CONV_2D.

    Args:
        errors: int64 (out_h, out_w, channels), from `channel_errors()`.
        weights: int64 (channels, filter_h * filter_w).
        window: Filter, strides and padding.
        in_shape: (height, width, input_channels).
    """
    spread = errors[:, :, None, :] * weights.T
    shape = (*errors.shape[:2], window.filter_h, window.filter_w, in_shape[2], -1)
    return scatter(spread.reshape(shape).sum(axis=-1), window, in_shape)


def transpose_conv_input(errors: IntArray, weights: IntArray, window: Window, in_shape: tuple[int, ...]) -> IntArray:
    """Returns the sums of the input error of TRANSPOSE_CONV.

    Args:
        errors: int64 (out_h, out_w, channels), from `channel_errors()`.
        weights: int64 (channels, filter_h, filter_w, input_channels).
        window: Filter, strides and padding, over the output.
        in_shape: (height, width, input_channels).
    """
    seen = patches(errors[None], window, in_shape[0], in_shape[1], fill=0)[0]
    return np.tensordot(seen.astype(np.float64), weights.astype(np.float64), ((2, 3, 4), (1, 2, 0))).astype(np.int64)


def transpose_conv_weights(errors: IntArray, centred: IntArray, window: Window) -> IntArray:
    """Returns the gradients (channels, filter_h * filter_w * input_channels) of TRANSPOSE_CONV's weights.

    Args:
        errors: int64 (out_h, out_w, channels).
        centred: int64 (height, width, input_channels), the input without its zero point.
        window: Filter, strides and padding, over the output.
    """
    seen = patches(errors[None], window, centred.shape[0], centred.shape[1], fill=0)[0]
    gradient = np.tensordot(seen.astype(np.float64), centred.astype(np.float64), ((0, 1), (0, 1)))
    return gradient.transpose(2, 0, 1, 3).reshape(errors.shape[2], -1).astype(np.int64)


def table(ids: Inputs, error: IntArray, rows: int) -> IntArray:
    """Returns the gradient (rows, depth) of a table: to each row that was read the sum of the errors where it was.

    Args:
        ids: Integers of any shape.
        error: int64 (*shape of ids, depth).
        rows: Of the table.
    """
    gradient = np.zeros((rows, error.shape[-1]), np.int64)
    np.add.at(gradient, ids.reshape(-1), error.reshape(-1, error.shape[-1]))
    return gradient


def max_pool_2d(
    error: IntArray, windows: IntArray, window: Window, in_shape: tuple[int, ...], error_bits: int = 8
) -> IntArray:
    """Hands each error to the first largest element of its window.

    Args:
        error: int64 (out_h, out_w, channels).
        windows: int64 (out_h, out_w, filter_h, filter_w, channels) of the input, padding below every value.
        window: Filter, strides and padding.
        in_shape: (height, width, channels).
        error_bits: Bit-width of the errors.
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
        result[place] = saturate(result[place] + error[y, x], error_bits)
    return result


def average_pool_2d(error: IntArray, window: Window, in_shape: tuple[int, ...], error_bits: int = 8) -> IntArray:
    """Hands each error (out_h, out_w, channels) to every element of its window; no window is padded."""
    out_h, out_w, _ = error.shape
    result = np.zeros(in_shape, np.int64)
    for y, x in np.ndindex(out_h, out_w):
        top, left = y * window.stride_h, x * window.stride_w
        place = (slice(top, top + window.filter_h), slice(left, left + window.filter_w))
        result[place] = saturate(result[place] + error[y, x], error_bits)
    return result


def merge(
    there: ScaledError, arriving: ScaledError, m: Merge, loss_exponent: int, gain: int, error_bits: int = 8
) -> tuple[ScaledError, int]:
    """Adds the error that arrives at a tensor to the one that is there.

    Args:
        there: Error so far.
        arriving: Error of the same shape.
        m: How they are brought to one constant.
        loss_exponent: Exponent at the loss of this sample.
        gain: Of this sum so far, or `GAIN_UNSET`.
        error_bits: Bit-width of the errors.

    Returns:
        The sum and the new gain.
    """
    errors = (there, arriving)
    exponents = [error.exponent - e for error, e in zip(errors, m.exponents, strict=True)]
    coarsest = min(exponents)
    shifts = [min(exponent - coarsest + RATIO_BITS - MERGE_BITS, 31) for exponent in exponents]
    one, other = (round_shift(e.values * r, s) for e, r, s in zip(errors, m.ratios, shifts, strict=True))
    exponent = coarsest + MERGE_BITS
    shift, gain = _next_shift(one + other, loss_exponent - exponent, gain, error_bits)
    values = saturate(round_away(one + other, shift), error_bits)
    return ScaledError(values, exponent - shift), gain
