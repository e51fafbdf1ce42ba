"""Errors that ops without weights hand on with the exponent that they have (ARITHMETIC.md 3)."""

import numpy as np
import numpy.typing as npt

from rct_tflite.reference import gradients
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.rounding import round_shift
from rct_tflite.reference.tables import slope_bits, slope_table
from rct_tflite.spec.graph import ConcatenationOptions, Op, OpKind, PadOptions, TableOptions
from rct_tflite.spec.quantization import ACTIVATION_MIN

Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.int64]


def moved_error(
    network: ReferenceNetwork, op: Op, position: int, value: Int8Array, error: IntArray, error_bits: int
) -> IntArray:
    """Returns the error at an input of an op whose errors keep their exponent.

    Args:
        network: The op's.
        op: An op without weights that joins no two tensors.
        position: Of the input.
        value: The input, without batch.
        error: At the op's output, masked.
        error_bits: Bit-width of the errors.
    """
    graph, options = network.graph, op.options
    if isinstance(options, ConcatenationOptions):
        before = sum(graph.tensors[index].shape[options.axis] for index in op.inputs[:position])
        return error.take(range(before, before + value.shape[options.axis - 1]), axis=options.axis - 1)
    if isinstance(options, PadOptions):
        kept = zip(options.cells[1:], value.shape, strict=True)
        return error[tuple(slice(before, before + size) for (before, _), size in kept)]
    if isinstance(options, TableOptions):
        bits = slope_bits(error_bits)
        table, _ = slope_table(op.kind, options.alpha, graph.tensors[op.inputs[0]], bits)
        return round_shift(error * table[value.astype(np.int64) - ACTIVATION_MIN], bits)
    if op.kind is OpKind.MEAN:
        return np.broadcast_to(error.reshape(1, 1, -1), value.shape)
    return pool_error(network, op, value, error, error_bits)


def pool_error(network: ReferenceNetwork, op: Op, value: Int8Array, error: IntArray, error_bits: int) -> IntArray:
    """Returns the error at the input `value` (without batch) of RESHAPE and of pooling; else as `moved_error()`."""
    if op.kind is OpKind.RESHAPE:
        return error.reshape(value.shape)
    window = network.constants[op.name].window
    assert window is not None
    if op.kind is OpKind.AVERAGE_POOL_2D:
        return gradients.average_pool_2d(error, window, value.shape, error_bits)
    windows = network.windows(op, value[None], fill=-129)[0]
    return gradients.max_pool_2d(error, windows, window, value.shape, error_bits)
