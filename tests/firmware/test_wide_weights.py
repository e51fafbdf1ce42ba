"""Weights of more than 8 bits: from a file onto the device, beside the options of a step, and back into the file."""

import numpy as np
import pytest

from rct_tflite.firmware.parameters import decode_resolutions, tuned_model
from rct_tflite.firmware.session import host_runner
from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation
from rct_tflite.spec.step_options import RatePoint, StepOptions
from rct_tflite.tflite.oracle import run_micro
from rct_tflite.tflite.reader import read_graph
from rct_tflite.tflite.rescale import rescale_weights, widen_weights, without_wide_weights
from tests.firmware.conftest import Case
from tests.firmware.test_adaptation import spread_model
from tests.graphs import GraphBuilder

WIDTHS = (12, 16)


def widened_file() -> bytes:
    model = spread_model(lowest=-127, told=False)
    names = [op.name for op in read_graph(model).ops if op.has_weights]
    return widen_weights(model, dict(zip(names, WIDTHS, strict=True)))


@pytest.mark.parametrize(("train", "adapts"), [("all", False), ("{0}:2,{1}:bias", False), ("{0},{1}:bias", True)])
def test_what_was_learnt_returns_into_the_file(train, adapts):
    model = widened_file()
    graph = read_graph(model)
    plan = select(graph, train.format(*(op.name for op in graph.ops)), learning_rate=0.02)
    if adapts:
        plan = adapt(graph, plan, AdaptationOptions("4:14", (graph.ops[0].name,), interval=5, t_min=30.0))
    trainer, random = ReferenceTrainer(graph, plan), np.random.default_rng(4)
    samples = random.integers(-128, 128, (20, *graph.tensors[graph.input].shape[1:]), np.int8)
    for sample in samples:
        trainer.step(sample, int(random.integers(graph.tensors[graph.output].size)))
    block = trainer.parameter_block()
    tuned = tuned_model(model, graph, plan_memory(graph, plan), block)
    assert tuned != model
    back = read_graph(tuned)
    assert [back.bits_of(op) for op in back.ops] == [8 if adapts else WIDTHS[0], WIDTHS[1]]
    for op in graph.ops:
        learnt = trainer.network.weights[op.name] if plan.learns_weights(op.name) else graph.full_rows(op)
        np.testing.assert_array_equal(back.full_rows(op), learnt)
    if not adapts:  # it goes on where the device stopped
        assert ReferenceTrainer(back, plan).parameter_block() == block
    expected = trainer.network.run(samples)
    np.testing.assert_array_equal(ReferenceNetwork(back).run(samples), expected)
    np.testing.assert_array_equal(run_micro(tuned, samples).reshape(expected.shape), expected)


def test_wider_weights_are_worth_the_same():
    """A file of others gets metadata, and its ops keep their names; what inference reads can be had without."""
    before, model = spread_model(lowest=-127, told=False), widened_file()
    graph, after = read_graph(before), read_graph(model)
    samples = np.random.default_rng(5).integers(-128, 128, (9, *graph.tensors[graph.input].shape[1:])).astype(np.int8)
    np.testing.assert_array_equal(ReferenceNetwork(after).run(samples), ReferenceNetwork(graph).run(samples))
    assert [op.name for op in after.ops] == [op.name for op in graph.ops]
    for op, bits in zip(graph.ops, WIDTHS, strict=True):
        np.testing.assert_array_equal(after.full_rows(op), graph.full_rows(op) << (bits - 8))
    plain = read_graph(without_wide_weights(model))
    assert not plain.wide
    assert [plain.bits_of(op) for op in plain.ops] == [8, 8]
    np.testing.assert_array_equal(ReferenceNetwork(plain).run(samples), ReferenceNetwork(graph).run(samples))
    assert widen_weights(model, {}) == model == rescale_weights(model, {})


@pytest.mark.parametrize(
    ("train", "rounding", "error_bits", "adaptation"),
    [
        ("all", "truncate", 8, None),
        ("layer0:3,layer2,layer3:2", "stochastic", 16, AdaptationOptions("4:16", interval=5, t_min=0.05)),
    ],
)
def test_options_of_a_step(tmp_path, train, rounding, error_bits, adaptation):
    """All of them at once; where widths follow the training, some cross 8 bits."""
    builder = GraphBuilder((5, 5, 2)).conv(4, bits=12, per_channel=True).reshape(100).dense(6, bits=9)
    graph = builder.dense(3, Activation.NONE, bits=16).graph(rounding=rounding)
    options = StepOptions((256, 40, 1000), (RatePoint(0, 60000), RatePoint(9, 99999)), 0.9, accumulate=3, momentum=200)
    case = Case(tmp_path, graph, train, steps=100, options=options, error_bits=error_bits, adaptation=adaptation)
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt
    if adaptation is not None:
        widths = [width.bits for width in decode_resolutions(graph, case.memory, case.learnt).values()]
        assert min(widths) <= 8 < max(widths)
