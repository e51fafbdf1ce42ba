"""Every kernel equals the reference, byte for byte, inside its buffers and without undefined behaviour."""

import ctypes
import dataclasses

import numpy as np
import pytest

from rct_tflite.reference import gradients
from rct_tflite.reference.constants import exp_table
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.moved_errors import pool_error
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, Padding
from rct_tflite.spec.quantization import AffineQuantization, Rounding
from rct_tflite.spec.training_plan import TrainingPlan
from tests.graphs import GraphBuilder, change_tensor
from tests.runtime import tables
from tests.runtime.harness import DeviceOp, loss_table

NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
SAME, VALID = Padding.SAME, Padding.VALID
INPUT = AffineQuantization(0.01, 3)

DENSE = [(1, 1), (3, 7), (16, 33), (65, 10)]  # depth, units
CONV = [  # input, channels, kernel, stride, padding
    ((1, 1, 1), 1, (1, 1), 1, VALID),
    ((5, 7, 3), 4, (3, 3), 1, SAME),
    ((5, 7, 3), 4, (3, 3), 2, SAME),
    ((6, 4, 2), 5, (3, 2), (2, 1), VALID),
    ((4, 5, 5), 3, (1, 1), 2, SAME),
    ((3, 9, 2), 2, (2, 4), (1, 2), SAME),
    ((6, 6, 1), 8, (5, 5), 1, SAME),
    ((2, 3, 7), 6, (3, 3), 1, SAME),
    ((7, 2, 2), 3, (2, 1), (3, 2), VALID),  # the stride leaves pixels out
]
POOL = [  # input, size, stride, padding
    ((1, 1, 1), 1, 1, VALID),
    ((4, 6, 3), 2, 2, VALID),
    ((5, 7, 2), (2, 3), (2, 3), VALID),
    ((5, 7, 2), 3, 2, SAME),
    ((5, 7, 2), 3, 1, VALID),
    ((6, 5, 4), (3, 2), (1, 2), SAME),
    ((7, 7, 1), 7, 7, VALID),
]


def dense_graph(row, bits, per_channel, activation=RELU, q=INPUT):
    depth, units = row
    return GraphBuilder((depth,), 1, q).dense(units, activation, bits, per_channel).graph()


def conv_graph(row, bits, per_channel, activation=RELU, q=INPUT):
    shape, channels, *window = row
    builder = GraphBuilder(shape, 2, q)
    return builder.conv(channels, *window, activation, bits=bits, per_channel=per_channel).graph()


def pool_graph(kind, row, activation=NONE):
    shape, *window = row
    return getattr(GraphBuilder(shape, 3, INPUT), kind)(*window, activation).graph()


def trainer_of(graph, rounding=Rounding.STOCHASTIC, trained=True):
    """A trainer whose graph has one op; where that is frozen, its constants are those of a plan that trains it."""
    trainer = ReferenceTrainer(graph, TrainingPlan((graph.ops[0].name,), 0.05, rounding))
    if not trained:
        name = graph.ops[0].name
        trainer.constants[name] = dataclasses.replace(trainer.constants[name], weight_step=None, bias_step=None)
    return trainer


def check_forward(runtime, trainer, samples):
    op = trainer.network.graph.ops[0]
    for at_end in (True, False):
        for sample in samples:
            device = DeviceOp(runtime, trainer, op, at_end)
            expected = trainer.network.run(sample[None])[0]
            np.testing.assert_array_equal(device.forward(sample), expected)


def check_backward(runtime, trainer, errors, exponents, at_end=True, samples=None):
    """A few steps in a row: input error, exponent, gain, weights, biases and random state agree after each.

    What is learnt from is random, unless samples are given.
    """
    op = trainer.network.graph.ops[0]
    device = DeviceOp(runtime, trainer, op, at_end)
    used, random = runtime.memory.used, np.random.default_rng(5)
    for step, (values, exponent) in enumerate(zip(errors, exponents, strict=True)):
        runtime.memory.used = used
        sample = random.integers(-128, 128, device.source.shape[1:]).astype(np.int8)
        sample = sample if samples is None else samples[step]
        error = ScaledError(values.astype(np.int64), exponent)
        wants = step % 4 != 3
        passed, state = device.backward(sample, error, exponent + 2, trainer.random.state, wants)
        if wants:
            expected = trainer.input_error(op, sample.shape, error, exponent + 2)
            np.testing.assert_array_equal(passed.values, expected.values)
            assert passed.exponent == expected.exponent
            assert device.gain[0] == trainer.gains[op.name]
        if trainer.constants[op.name].weight_step is not None:
            trainer.learn(op, sample, error)
        np.testing.assert_array_equal(device.weights(), trainer.network.weights[op.name])
        np.testing.assert_array_equal(device.bias, trainer.network.biases[op.name])
        assert state == trainer.random.state


def some_errors(graph, seed, exponents):
    """Dense, sparse, none, small and extreme ones."""
    random = np.random.default_rng(seed)
    shape = graph.tensors[graph.output].shape[1:]
    for step, _ in enumerate(exponents):
        values = random.integers(-127, 128, shape)
        kind = step % 5
        if kind == 0:
            values *= random.random(shape[-1]) < 0.7
        elif kind == 1:
            values *= random.random(shape) < 0.2
        elif kind == 2:
            values *= 0
        elif kind == 3:
            values //= 40
        yield values


EXPONENTS = (0, 6, 12, 20, 9, -12, 40, 14, 10, 5)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("graph_of", "row"), [*((dense_graph, r) for r in DENSE), *((conv_graph, r) for r in CONV)])
def test_weighted_ops(runtime, graph_of, row, bits, per_channel):
    graph = graph_of(row, bits, per_channel)
    random = np.random.default_rng(4)
    check_forward(
        runtime, trainer_of(graph), random.integers(-128, 128, (3, *graph.tensors[0].shape[1:])).astype(np.int8)
    )
    for rounding in Rounding:
        errors = list(some_errors(graph, bits, EXPONENTS))
        check_backward(runtime, trainer_of(graph, rounding), errors, EXPONENTS, rounding is Rounding.STOCHASTIC)
    check_backward(runtime, trainer_of(graph, trained=False), errors[:3], EXPONENTS[:3])


@pytest.mark.parametrize("shift", [-31, -8, -1, 0, 1, 5, 30])
def test_requantisation_at_the_ends_of_32_bits(runtime, shift):
    graph = dense_graph((1, 5), 8, False, NONE)
    bias = np.array([-(2**31) + 32641, -(2**30), 0, 2**30, 2**31 - 32641], np.int32)
    trainer = trainer_of(change_tensor(graph, 2, data=bias))
    name = graph.ops[0].name
    for multiplier in (2**30, 2**31 - 1, 1518500250):
        constants = dataclasses.replace(
            trainer.network.constants[name], multiplier=np.array([multiplier]), shift=np.array([shift])
        )
        trainer.network.constants[name] = constants
        check_forward(runtime, trainer, np.array([[-128], [0], [127]], np.int8))


@pytest.mark.parametrize("depth", [1000, 32896])
def test_long_rows(runtime, depth):
    graph = dense_graph((depth, 2), 8, False)
    weights = np.full_like(graph.tensors[1].data, -128)
    trainer = trainer_of(change_tensor(graph, 1, data=weights))
    check_forward(runtime, trainer, np.full((1, depth), -128, np.int8))
    check_backward(runtime, trainer, [np.array([127, -127])] * 3, (4, 12, 30))


@pytest.mark.parametrize("activation", [NONE, RELU6])
@pytest.mark.parametrize("row", POOL)
@pytest.mark.parametrize("kind", ["max_pool", "average_pool"])
def test_pools(runtime, kind, row, activation):
    graph = pool_graph(kind, row, activation)
    trainer = ReferenceTrainer(graph, TrainingPlan((), 0.1, Rounding.TRUNCATE))
    random, op = np.random.default_rng(6), graph.ops[0]
    samples = random.integers(-128, 128, (4, *row[0])).astype(np.int8)
    samples[1] //= 64  # many equals
    samples[2:] = np.array([-128, 127], np.int8).reshape(2, 1, 1, 1)
    check_forward(runtime, trainer, samples)
    if kind == "average_pool" and row[3] is SAME:
        return  # trained through only where no window is padded
    for at_end in (True, False):
        for sample in samples:
            device = DeviceOp(runtime, trainer, op, at_end)
            error = random.integers(-127, 128, device.result.shape[1:]) * (random.random(device.result.shape[1:]) < 0.7)
            expected = pool_error(trainer.network, op, sample, error, trainer.plan.error_bits)
            np.testing.assert_array_equal(device.pool_backward(sample, error), expected)


@pytest.mark.parametrize("scale", [0.002, 0.05, 0.25, 3.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 300])
def test_softmax_cross_entropy(runtime, classes, scale):
    graph = change_tensor(dense_graph((1, classes), 8, False, NONE), 3, quantization=None)
    quantization = dataclasses.replace(graph.tensors[0].quantization, scales=np.array([scale], np.float32))
    logits_tensor = dataclasses.replace(graph.tensors[3], quantization=quantization)
    random, table = np.random.default_rng(8), exp_table(logits_tensor)
    ends = random.choice([-128, 127], (6, classes))
    for logits in np.concatenate([random.integers(-128, 128, (6, classes)), ends, np.full((1, classes), -128)]):
        label = int(random.integers(classes))
        runtime.memory.reset(at_end=bool(label % 2))
        loss, state = loss_table(runtime, logits_tensor), tables.Backward()
        place, garbage = runtime.memory.place, runtime.memory.garbage
        error = garbage(classes, np.int8)
        arguments = (place(logits.astype(np.int8)), ctypes.c_uint16(label), garbage(classes, np.int32), error)
        learns = runtime.call("rct_softmax_cross_entropy", loss, *arguments, state)
        expected = gradients.softmax_cross_entropy(logits, label, table)
        assert learns == (expected is not None)
        if learns:
            np.testing.assert_array_equal(error, expected.values)
            assert (state.exponent, state.loss_exponent) == (expected.exponent, expected.exponent)


def test_mask(runtime):
    runtime.memory.reset(at_end=True)
    output = runtime.memory.place(np.arange(-128, 128).astype(np.int8))
    for low, high in ((-129, 128), (-128, 128), (-129, 127), (-5, 60), (127, 128)):
        error = runtime.memory.place(np.full(256, 7, np.int8))
        bounds = (ctypes.c_int16(low), ctypes.c_int16(high))
        runtime.call("rct_mask", output, ctypes.c_int32(256), *bounds, error)
        np.testing.assert_array_equal(error, np.where((output > low) & (output < high), 7, 0))


@pytest.mark.parametrize("values", [[3], [-128, -128], [1, 5, 5, -7], list(range(-128, 127))])
def test_argmax_is_the_first_of_equals(runtime, values):
    runtime.memory.reset(at_end=True)
    array = runtime.memory.place(np.array(values, np.int8))
    assert runtime.call("rct_argmax", array, ctypes.c_uint16(len(values))) == int(np.argmax(values))


def test_gain_is_unset_until_an_error_comes(runtime):
    trainer = trainer_of(dense_graph((4, 3), 8, False))
    check_backward(runtime, trainer, [np.zeros(3), np.zeros(3)], (3, 5))
    assert trainer.gains[trainer.network.graph.ops[0].name] == GAIN_UNSET


def test_table_sizes(runtime):
    sizes = (ctypes.c_uint32 * len(tables.TABLES)).in_dll(runtime.library, "rct_table_sizes")
    assert list(sizes) == [ctypes.sizeof(table) for table in tables.TABLES]
