"""Graphs with branches: integer weight gradients against TensorFlow's automatic ones of the dequantised network."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.planning.selection import select
from rct_tflite.reference import gradients
from rct_tflite.reference.backward import Merge, backward_steps
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.spec.graph import Activation, OpKind, SoftmaxOptions
from rct_tflite.spec.training_plan import Loss
from rct_tflite.tflite.reader import read_graph
from tests.autodiff import float_gradients
from tests.graphs import GraphBuilder
from tests.keras_networks import BRANCHES, converted
from tests.reference.test_gradients import RecordingTrainer, cosine, quantise


@pytest.mark.parametrize("name", BRANCHES)
def test_integer_gradients_point_along_the_float_ones(name):
    """Over a handful of samples, as the network was calibrated."""
    graph = read_graph(converted(BRANCHES[name]))
    trainer = RecordingTrainer(graph, dataclasses.replace(select(graph, "all"), learning_rate=0.05))
    random, found, expected = np.random.default_rng(1), {}, {}
    samples = [quantise(graph, x) for x in random.normal(size=(30, *graph.tensors[0].shape[1:]))]
    logits = trainer.network.values(np.stack(samples))[loss_tensor(graph, Loss.SOFTMAX_CROSS_ENTROPY)].reshape(30, -1)
    inside = [x for x, row in zip(samples, logits, strict=True) if row.min() > -128 and row.max() < 127]  # errors go on
    for sample in inside[:8]:
        values = trainer.network.values(sample[None])
        label = int(random.integers(logits.shape[1]))
        trainer.gains.clear()  # an error larger than any before would saturate once
        trainer.step(sample, label)
        for layer, (weights, _) in float_gradients(graph, trainer.network, values, label).items():
            op = next(op for op in graph.ops if op.name == layer)
            wanted = np.moveaxis(weights, -1, 0) if op.kind is OpKind.DEPTHWISE_CONV_2D else weights.numpy()
            expected.setdefault(layer, []).append(wanted.ravel())
            found.setdefault(layer, []).append(trainer.seen[layer][0].ravel())
    assert len(inside) >= 8
    assert list(found) == [op.name for op in graph.ops if op.has_weights]
    for layer, rows in found.items():
        got, wanted = np.concatenate(rows), np.concatenate(expected[layer])
        assert cosine(got, wanted) > 0.99, layer
        assert 0.93 < np.linalg.norm(got) / np.linalg.norm(wanted) < 1.07, layer


def test_what_arrives_is_added_at_the_coarser_step():
    there, arriving = ScaledError(np.array([100, -3, 0, 127]), 10), ScaledError(np.array([64, 64, -64, 127]), 13)
    # 100 * 2**-10 * 1 + 64 * 2**-13 * 1.5 * 2**2: the second constant's power of two brings its exponent to 11.
    merge = Merge((round(2**14 / 1.5), 2**14), (0, 2))
    result, gain = gradients.merge(there, arriving, merge, 20, GAIN_UNSET)
    expected = there.values * 2.0**-10 + arriving.values * 2.0**-13 * 6
    got = result.values * 2.0**-result.exponent * 1.5
    assert np.abs(got - expected).max() <= 2.0**-result.exponent * 1.5
    assert 64 <= np.abs(result.values).max() <= 127
    again, _ = gradients.merge(there, arriving, merge, 20, gain)
    assert (again.values.tolist(), again.exponent) == (result.values.tolist(), result.exponent)


def test_a_sum_has_no_side():
    """Halves are common: rounded up, they would move all positions the same way."""
    there = ScaledError(np.arange(-127, 128), 10)
    arriving = ScaledError(np.where(there.values % 4, 0, there.values), 10)
    merge = Merge((2**14, 2**14), (0, 0))
    mirrored = (ScaledError(-error.values, error.exponent) for error in (there, arriving))
    results = [gradients.merge(*both, merge, 20, GAIN_UNSET)[0] for both in ((there, arriving), mirrored)]
    assert results[0].values.tolist() == (-results[1].values).tolist()
    assert results[0].values.any()


def test_an_op_without_gradient_is_named_with_what_lies_below():
    graph = GraphBuilder((6,)).dense(5).dense(4, Activation.NONE).dense(3).graph()
    middle = dataclasses.replace(
        graph.ops[1], kind=OpKind.SOFTMAX, options=SoftmaxOptions(1.0), inputs=graph.ops[1].inputs[:1]
    )
    graph = dataclasses.replace(graph, ops=(graph.ops[0], middle, graph.ops[2]))
    plan = select(graph, "all")
    with pytest.raises(UnsupportedLayerError, match=r"layer 'layer0': layer 'layer1' \(SOFTMAX\) above it"):
        backward_steps(graph, dataclasses.replace(plan, trained=("layer0", "layer2")))
    assert [step.op.name for step in backward_steps(graph, dataclasses.replace(plan, trained=("layer2",)))] == [
        "layer2"
    ]


@pytest.mark.parametrize("trained", ["last:1", "last:2", "all"])
def test_the_backward_pass_stops_at_the_deepest_trained_op_of_each_path(trained):
    graph = read_graph(converted(BRANCHES["residual"]))
    plan = select(graph, trained)
    steps = backward_steps(graph, plan)
    names = [step.op.name for step in steps]
    assert names == [op.name for op in reversed(graph.ops) if op.name in names]
    below = {op.output for op in graph.ops if op.name in plan.trained}
    for op in graph.ops:
        below |= {op.output} if below & set(op.inputs) else set()
    for step in steps:
        assert [passage.tensor for passage in step.passages] == [index for index in step.op.inputs if index in below]
