"""Kernels with errors of 16 bits equal the reference, byte for byte, and no sum passes 32 bits."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.reference.backward import MAX_SUM, backward_constants
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.quantization import AffineQuantization, Rounding
from rct_tflite.spec.training_plan import TrainingPlan
from tests.graphs import GraphBuilder, change_tensor
from tests.runtime.test_kernels import CONV, DENSE, EXPONENTS, check_backward, conv_graph, dense_graph, some_errors

TOP = 2**15 - 1


def wide_trainer(graph, rounding=Rounding.STOCHASTIC):
    return ReferenceTrainer(graph, TrainingPlan((graph.ops[0].name,), 0.05, rounding, error_bits=16))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize(
    ("graph_of", "row"), [*((dense_graph, r) for r in DENSE), *((conv_graph, r) for r in CONV[1:])]
)
def test_weighted_ops(runtime, graph_of, row, bits, per_channel):
    graph = graph_of(row, bits, per_channel)
    for rounding in Rounding:
        errors = [values * 257 + 40 for values in some_errors(graph, bits, EXPONENTS)]
        check_backward(runtime, wide_trainer(graph, rounding), errors, [e + 8 for e in EXPONENTS])


def largest_sum(graph):
    """Of an input error, where errors and weights are as large as they can be."""
    (op,) = graph.ops
    c = backward_constants(graph, wide_trainer(graph).plan)[op.name]
    channels, depth = graph.row_shape(op)
    terms = channels * depth // graph.tensors[op.inputs[0]].shape[-1]
    ratio = 2**14 if c.ratio is None else int(c.ratio.max())
    shift = (0 if c.ratio is None else 14 - c.guard_bits) + c.dropped_bits
    factor = TOP * (1 if c.ratio is None else ratio)
    return ((factor + (1 << shift >> 1)) >> shift) * 128 * terms


@pytest.mark.parametrize("zero_point", [-128, 127])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("units", [1, 255, 257, 4000])
def test_many_terms_overflow_nowhere(runtime, units, per_channel, zero_point):
    graph = dense_graph((4, units), 8, per_channel, q=AffineQuantization(0.01, zero_point))
    graph = change_tensor(graph, 1, data=np.full_like(graph.tensors[1].data, -128))
    assert largest_sum(graph) <= MAX_SUM
    assert units == 1 or 4 * largest_sum(graph) > MAX_SUM  # no more is dropped than must be
    errors = [np.full(units, e) for e in (-TOP, TOP, TOP)]
    for rounding in Rounding:
        check_backward(runtime, wide_trainer(graph, rounding), errors, (-30, 11, 90))


@pytest.mark.parametrize("size", [1, 12, 181])
def test_many_positions_overflow_nowhere(runtime, size):
    builder = GraphBuilder((size, size, 1), 2, AffineQuantization(0.01, -128))
    graph = builder.conv(1, (1, 1)).graph()
    graph = change_tensor(graph, 1, data=np.full_like(graph.tensors[1].data, -128))
    errors = [np.full((size, size, 1), e) for e in (TOP, -TOP, 1)]
    for rounding in Rounding:
        check_backward(runtime, wide_trainer(graph, rounding), errors, (-30, 20, 90))


def test_sums_that_could_overflow_are_refused():
    graph = GraphBuilder((182, 182, 1)).conv(1, (1, 1)).graph()
    plan = TrainingPlan((graph.ops[0].name,), 0.05, Rounding.STOCHASTIC)
    with pytest.raises(UnsupportedLayerError, match="too large to train with 32-bit sums.*Pool before it"):
        backward_constants(graph, dataclasses.replace(plan, error_bits=16))
