"""Kernels on weights of 9 to 16 bits equal the reference, also where weights and steps are as large as they can be."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.reference.rounding import MAX_SHIFT
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.quantization import Rounding, top
from rct_tflite.spec.training_plan import TrainingPlan
from tests.runtime.harness import Runtime, build_library
from tests.runtime.test_kernels import (
    CONV,
    DENSE,
    EXPONENTS,
    check_backward,
    check_forward,
    conv_graph,
    dense_graph,
    some_errors,
)

WIDTHS = range(9, 17)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Runtime:
    return Runtime(build_library(tmp_path_factory.mktemp("runtime"), wide=True))


def trainer_of(graph, rounding=Rounding.STOCHASTIC, error_bits=8):
    return ReferenceTrainer(graph, TrainingPlan((graph.ops[0].name,), 0.05, rounding, error_bits=error_bits))


@pytest.mark.parametrize("bits", [*WIDTHS, 5, 8])  # narrow layers beside wide ones
@pytest.mark.parametrize(
    ("graph_of", "row"), [*((dense_graph, r) for r in DENSE), *((conv_graph, r) for r in CONV[1:5])]
)
def test_weighted_ops(runtime, graph_of, row, bits):
    graph = graph_of(row, bits, per_channel=bits % 2 == 0)
    samples = np.random.default_rng(bits).integers(-128, 128, (2, *graph.tensors[0].shape[1:])).astype(np.int8)
    check_forward(runtime, trainer_of(graph), samples)
    for rounding in Rounding:
        check_backward(runtime, trainer_of(graph, rounding), some_errors(graph, bits, EXPONENTS), EXPONENTS, False)
        errors = [values * 257 + 40 for values in some_errors(graph, bits, EXPONENTS)]
        check_backward(runtime, trainer_of(graph, rounding, 16), errors, [e + 8 for e in EXPONENTS])


@pytest.mark.parametrize("error_bits", [8, 16])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("graph_of", [lambda: dense_graph((8, 3), 16, False), lambda: conv_graph(CONV[1], 16, False)])
def test_the_largest_weights_and_steps(runtime, graph_of, sign, error_bits):
    """Undefined behaviour traps: no sum and no difference passes 32 bits, from one end of the range to the other."""
    graph = graph_of()
    name = graph.ops[0].name
    ends = np.full_like(graph.wide[name], sign * top(16))
    ends.reshape(-1)[::3] = -(2**15)  # what a doubled -128 of a file of others comes to
    graph = dataclasses.replace(graph, wide={name: ends})
    largest = (1 << (error_bits - 1)) - 1
    shape = graph.tensors[graph.output].shape[1:]
    errors = [np.full(shape, side * largest) for side in (1, -1, 1, -1)]
    for rounding in Rounding:
        trainer = trainer_of(graph, rounding, error_bits)
        shift = int(trainer.constants[name].weight_step.shift.max())
        for exponent in (-120, 9 - shift, MAX_SHIFT - shift, 120):  # multipliers from the largest to the smallest
            check_backward(runtime, trainer, errors, [exponent] * len(errors))
