"""At the ends of every range no sum wraps: C, where undefined behaviour ends the process, equals the reference."""

import ctypes
import dataclasses
import itertools

import numpy as np
import pytest

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.reference import gradients
from rct_tflite.reference.backward import Merge, backward_constants, backward_steps, largest_error
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, LayerTraining, OpKind, TrainingMetadata
from rct_tflite.spec.quantization import Rounding, top
from rct_tflite.spec.training_plan import TrainingPlan
from rct_tflite.tflite.reader import read_graph
from tests.runtime import tables
from tests.runtime.harness import address
from tests.runtime.test_kernels import check_backward, check_forward
from tests.tflite.one_op import ModelBuilder, Quantised, one_op

SAME = {"padding": 0}
STRIDES = {"strideH": 1, "strideW": 2}
DILATION = {"dilationHFactor": 1, "dilationWFactor": 1}
IMAGE, WIDE = (1, 5, 4, 2), (1, 5, 8, 3)
WEIGHTED = {  # shapes of input, weights and output, axis of the channels, attributes
    OpKind.FULLY_CONNECTED: ((1, 40), (3, 40), (1, 3), 0, {}),
    OpKind.CONV_2D: (IMAGE, (3, 3, 3, 2), (1, 5, 2, 3), 0, {**SAME, **STRIDES, **DILATION}),
    OpKind.DEPTHWISE_CONV_2D: (IMAGE, (1, 3, 3, 4), (1, 5, 2, 4), 3, {**SAME, **STRIDES, **DILATION}),
    OpKind.TRANSPOSE_CONV: (IMAGE, (3, 3, 3, 2), WIDE, 0, {**SAME, **STRIDES}),
}


def weighted_graph(kind, weights, bias, output_scale, zero_point, activation, bits):
    """One op whose input and output have their zero point at one end, and whose channels have scales of their own."""
    shape, _, out_shape, axis, attributes = WEIGHTED[kind]
    scales = 0.01 / np.arange(1, weights.shape[axis] + 1)
    inputs = [
        Quantised(shape, 0.01, zero_point),
        Quantised.constant(weights, scales, axis=axis),
        Quantised.constant(bias.astype(np.int32), 0.01 * scales),
    ]
    if kind is OpKind.TRANSPOSE_CONV:
        inputs = [Quantised.constant(np.array(out_shape, np.int32)), inputs[1], inputs[0], inputs[2]]
    output = Quantised(out_shape, output_scale, -1 - zero_point)
    graph = read_graph(one_op(kind, inputs, output, fusedActivationFunction=activation.value, **attributes))
    layers = (LayerTraining(graph.ops[0].name, bits),)
    return dataclasses.replace(graph, training=TrainingMetadata(layers))


def extreme_graphs(kind, zero_point, activation, bits):
    """Weights of every sign and all the same, beside the largest biases; sums that are shifted far to the left."""
    _, shape, _, axis, _ = WEIGHTED[kind]
    low, high = -top(bits) - 1, top(bits)
    weights = np.random.default_rng(7).choice([low, high], shape).astype(np.int8)
    plain = weighted_graph(kind, weights, np.zeros(shape[axis]), 1.0, zero_point, activation, bits)
    (op,) = plain.ops
    limit = backward_constants(plain, TrainingPlan((op.name,), 0.05, Rounding.TRUNCATE))[op.name].bias_limit
    signs = np.resize([1, -1], shape[axis])
    same = np.full_like(weights, low)
    for values, bias, scale in ((weights, limit, 1600.0), (same, limit, 0.01), (weights, 0, 1e-7)):
        for sign in (1, -1):
            yield weighted_graph(kind, values, sign * signs * bias, scale, zero_point, activation, bits)


@pytest.mark.parametrize("error_bits", [8, 16])
@pytest.mark.parametrize("zero_point", [-128, 127])
@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda kind: kind.name)
def test_weighted_ops(runtime, kind, zero_point, error_bits):
    largest = largest_error(error_bits)
    for bits, activation in ((8, Activation.NONE), (3, Activation.RELU6)):
        for graph in extreme_graphs(kind, zero_point, activation, bits):
            shape, out_shape = (graph.tensors[index].shape[1:] for index in (graph.input, graph.output))
            samples = [np.full(shape, value, np.int8) for value in (-128, 127, -1 - zero_point, -128)]
            errors = [np.full(out_shape, error) for error in (-largest, largest, largest, -largest)]
            for rounding in Rounding:
                plan = TrainingPlan((graph.ops[0].name,), 0.05, rounding, error_bits=error_bits)
                trainer = ReferenceTrainer(graph, plan)
                check_forward(runtime, trainer, samples[:2])
                check_backward(runtime, trainer, errors, (-40, 3, 10, 80), samples=samples)
                check_forward(runtime, trainer, samples[:2])  # with biases that were driven to their limit


# ---- ops that join two tensors ----

PAIRS = [OpKind.ADD, OpKind.SUB, OpKind.MUL]
FULL = 2.0**-23 * (1 + 2.0**-23)  # brings the sum of two operands of scale 1 to the very end of 32 bits
PAIR_SCALES = [(1.0, 1.0, 1.0), (1.0, 1.0, FULL), (1e-9, 1.0, 0.004), (300.0, 0.01, 1e-4), (1e-3, 1e-3, 1e4)]


def ends(count, seed):
    return np.random.default_rng(seed).choice([-128, 127], count).astype(np.int8)


def requant(constants, index=0):
    return int(constants.multiplier[index]), int(constants.shift[index])


def pair_table(graph, op, constants):
    """The table of ADD, SUB or MUL."""
    operands = []
    for position, index in enumerate(op.inputs):
        tensor = graph.tensors[index]
        scaling = (0, 0) if op.kind is OpKind.MUL else requant(constants, position)
        operands.append(tables.Operand(tensor.size, tensor.zero_point, *scaling))
    result = graph.tensors[op.output]
    scaling, bounds = requant(constants, -1), (constants.act_min, constants.act_max)
    return tables.Pair(*operands, op.kind is OpKind.SUB, result.size, *scaling, result.zero_point, *bounds)


@pytest.mark.parametrize("zero_points", list(itertools.product([-128, 127], repeat=3)), ids=str)
@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.name)
def test_pairs_forward(runtime, kind, zero_points):
    checked = 0
    for scales, activation in itertools.product(PAIR_SCALES, (Activation.NONE, Activation.RELU)):
        one, constant, result = (
            Quantised(shape, scale, zero_point)
            for shape, scale, zero_point in zip(((1, 6, 4), (4,), (1, 6, 4)), scales, zero_points, strict=True)
        )
        constant.data = ends(4, 3)
        model = one_op(kind, [one, constant], result, fusedActivationFunction=activation.value)
        graph = read_graph(model)
        (op,) = graph.ops
        network, sample = ReferenceNetwork(graph), ends(24, 4).reshape(6, 4)
        runtime.memory.reset(at_end=True)
        output, kernel = runtime.memory.garbage(24, np.int8), "rct_multiply" if kind is OpKind.MUL else "rct_add"
        table = pair_table(graph, op, network.constants[op.name])
        runtime.call(kernel, table, *map(runtime.memory.place, (sample, constant.data)), output)
        np.testing.assert_array_equal(output, network.run(sample[None]).reshape(-1))
        checked += 1
    assert checked == 2 * len(PAIR_SCALES)


@pytest.mark.parametrize("zero_points", list(itertools.product([-128, 127], repeat=2)), ids=str)
@pytest.mark.parametrize("size", [1, 362])
def test_mean_forward(runtime, size, zero_points):
    for scale in (1e-3, 1.0, 2.0**23 * (1 - 2.0**-20)):
        source, result = (
            Quantised((1, size, size, 1), scale, zero_points[0]),
            Quantised((1, 1), 1.0, zero_points[1]),
        )
        graph = read_graph(one_op(OpKind.MEAN, [source, Quantised.constant(np.array([1, 2], np.int32))], result))
        network = ReferenceNetwork(graph)
        constants = network.constants[graph.ops[0].name]
        for value in (-128, 127):
            sample = np.full(source.shape[1:], value, np.int8)
            runtime.memory.reset(at_end=True)
            output = runtime.memory.garbage(1, np.int8)
            table = tables.Mean(size**2, 1, zero_points[0], *requant(constants), zero_points[1])
            runtime.call("rct_mean", table, runtime.memory.place(sample), output)
            np.testing.assert_array_equal(output, network.run(sample[None]).reshape(-1))


def test_a_mean_that_could_overflow_is_refused():
    axes = Quantised.constant(np.array([1, 2], np.int32))
    graph = read_graph(one_op(OpKind.MEAN, [Quantised((1, 2902, 2902, 1)), axes], Quantised((1, 1))))
    with pytest.raises(UnsupportedLayerError, match=r"could overflow 32 bits.*at most 8421504 .*Received: 8421604"):
        ReferenceNetwork(graph)


class DevicePair:
    """The backward pass of ADD, SUB and MUL to one operand on the C side, with a gain of its own."""

    def __init__(self, runtime, trainer, op, passage):
        self.runtime, self.bits = runtime, trainer.plan.error_bits
        graph, other = trainer.network.graph, op.inputs[1 - passage.position]
        self.operand, multiplies = graph.tensors[passage.tensor], op.kind is OpKind.MUL
        runtime.memory.reset(at_end=True)
        self.gain = runtime.memory.place(np.array([GAIN_UNSET], np.int32))
        self.table = tables.PairGrad(
            graph.tensors[op.output].size,
            self.operand.size,
            graph.tensors[other].size if multiplies else 0,
            graph.tensors[other].zero_point if multiplies else 0,
            op.kind is OpKind.SUB and passage.position == 1,
            address(self.gain),
            address(runtime.memory.garbage(self.operand.size, np.int32)),
            passage.dropped_bits,
        )
        self.used = runtime.memory.used

    def backward(self, other, error, loss_exponent):
        """Input error with its exponent."""
        memory, (dtype, ending) = self.runtime.memory, {8: (np.int8, ""), 16: (np.int16, "_16")}[self.bits]
        memory.used = self.used
        state = tables.Backward(error.exponent, loss_exponent, 0)
        arrays = [None if other is None else memory.place(other), memory.place(error.values.astype(dtype))]
        result = memory.garbage(self.operand.size, dtype)
        self.runtime.call(f"rct_pair_grad{ending}", self.table, *arrays, state, result)
        return ScaledError(result, state.exponent)


def pair_model(kind, operand, constant, zero_points, first):
    """A dense layer of `operand` units, and a pair op that joins them with a constant."""
    builder, one = ModelBuilder(), {"fusedActivationFunction": 0}
    source = builder.tensor(Quantised((1, 2), 1.0))
    weights = Quantised.constant(np.ones((operand, 2), np.int8))
    learnt = builder.op(OpKind.FULLY_CONNECTED, [source, weights], Quantised((1, operand), 1.0, zero_points[0]), **one)
    shape = (1, operand) if constant == operand else (1, constant // operand, operand)
    other = Quantised.constant(ends(constant, 5).reshape(shape), 1.0, zero_points[1])
    inputs = [learnt, other] if first else [other, learnt]
    return read_graph(builder.model(source, builder.op(kind, inputs, Quantised(shape, 1.0), **one)))


# Repetitions up to where 8 bits are refused; 16 bits drop one to eight of theirs.
@pytest.mark.parametrize("error_bits", [8, 16])
@pytest.mark.parametrize("zero_points", [(-128, 127), (127, -128)], ids=str)
@pytest.mark.parametrize(("operand", "constant"), [(5, 5), (3, 12), (1, 258), (1, 33154)])
@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.name)
def test_pairs_backward(runtime, kind, operand, constant, zero_points, error_bits):
    largest, rescaled = largest_error(error_bits), 0
    for first in (True, False):
        graph = pair_model(kind, operand, constant, zero_points, first)
        dense, op = graph.ops
        trainer = ReferenceTrainer(graph, TrainingPlan((dense.name,), 0.05, Rounding.TRUNCATE, error_bits=error_bits))
        (passage,) = backward_steps(graph, trainer.plan)[0].passages
        if not passage.rescales:
            continue
        rescaled += 1
        device, factor = DevicePair(runtime, trainer, op, passage), graph.tensors[op.inputs[first]].data
        shape = graph.tensors[op.output].shape[1:]
        signs = np.where(factor.reshape(shape) > 0, 1, -1)  # with MUL all products have one sign
        values = {dense.output: np.zeros(graph.tensors[dense.output].shape[1:], np.int8)}
        for pattern, exponent in ((1, 9), (-1, -40), (signs, 90), (-signs, 9), (0, 4)):
            error = ScaledError(np.full(shape, largest, np.int64) * pattern, exponent)
            expected = trainer.pair_error(op, passage, values, error, 12)
            found = device.backward(factor if kind is OpKind.MUL else None, error, 12)
            np.testing.assert_array_equal(found.values, expected.values.reshape(-1))
            assert found.exponent == expected.exponent
            assert device.gain[0] == trainer.gains[f"{op.name}: input {passage.position}"]
    assert rescaled == (2 if kind is OpKind.MUL or operand < constant else 0)


@pytest.mark.parametrize("error_bits", [8, 16])
def test_negation(runtime, error_bits):
    largest, dtype = largest_error(error_bits), {8: np.int8, 16: np.int16}[error_bits]
    runtime.memory.reset(at_end=True)
    error = runtime.memory.place(np.array([-largest, 0, largest], dtype))
    name = "rct_negate_errors" + ("_16" if error_bits > 8 else "")
    runtime.call(name, error, ctypes.c_int32(3), error)
    assert error.tolist() == [largest, 0, -largest]


# ---- the sum of two errors ----

MERGES = [((2**14, 2**14), (0, 0)), ((2**13, 2**14), (-32, 33)), ((2**14, 2**13 + 1), (33, -32))]


@pytest.mark.parametrize("error_bits", [8, 16])
@pytest.mark.parametrize(("ratios", "powers"), MERGES)
def test_merged_errors(runtime, ratios, powers, error_bits):
    largest, (dtype, ending) = largest_error(error_bits), {8: (np.int8, ""), 16: (np.int16, "_16")}[error_bits]
    edges = np.array([-largest, 1 - largest, -1, 0, 1, largest - 1, largest])
    merge, gain = Merge(ratios, powers), GAIN_UNSET
    for exponents, loss_exponent in itertools.product(((0, 0), (-70, 90), (90, -70), (6, -3), (0, 31)), (0, 22, -60)):
        grids = np.meshgrid(edges, edges) if exponents != (0, 31) else (edges[-1:], -edges[-1:])  # all is 0 in the end
        errors = [ScaledError(grid.reshape(-1), e) for grid, e in zip(grids, exponents, strict=True)]
        runtime.memory.reset(at_end=True)
        places = [runtime.memory.place(error.values.astype(dtype)) for error in errors]
        seen = runtime.memory.place(np.array([gain], np.int32))
        table = tables.Merge((ctypes.c_int16 * 2)(*ratios), (ctypes.c_int16 * 2)(*powers), address(seen))
        there, state = ctypes.c_int32(exponents[0]), tables.Backward(exponents[1], loss_exponent, 0)
        arguments = (places[1], ctypes.c_int32(errors[0].values.size), state, places[0])
        runtime.call(f"rct_merge_errors{ending}", table, *arguments, ctypes.byref(there))
        expected, gain = gradients.merge(*errors, merge, loss_exponent, gain, error_bits)
        np.testing.assert_array_equal(places[0], expected.values)
        assert (there.value, seen[0]) == (expected.exponent, gain)
