"""Graphs with branches: integer weight gradients against TensorFlow's automatic ones of the dequantised network."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.planning.selection import select
from rct_tflite.reference import gradients
from rct_tflite.reference.backward import Merge, backward_steps
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.spec.graph import Activation, OpKind, SoftmaxOptions
from rct_tflite.spec.training_plan import Loss
from rct_tflite.tflite.reader import read_graph
from tests.float_network import real
from tests.graphs import GraphBuilder
from tests.keras_networks import BRANCHES, converted
from tests.reference.test_gradients import RecordingTrainer, cosine, quantise

FUNCTIONS = {
    OpKind.RELU: tf.nn.relu,
    OpKind.RELU6: tf.nn.relu6,
    OpKind.TANH: tf.tanh,
    OpKind.LOGISTIC: tf.sigmoid,
    OpKind.HARD_SWISH: lambda x: x * tf.nn.relu6(x + 3) / 6,
    OpKind.QUANTIZE: tf.identity,
    OpKind.SOFTMAX: tf.identity,  # the loss takes logits
    OpKind.ADD: tf.add,
    OpKind.SUB: tf.subtract,
    OpKind.MUL: tf.multiply,
    OpKind.MAX_POOL_2D: lambda x, **options: tf.nn.max_pool2d(x, **options),
    OpKind.AVERAGE_POOL_2D: lambda x, **options: tf.nn.avg_pool2d(x, **options),
}


def run_weighted(graph, op, x, weights):
    o = op.options
    if op.kind is OpKind.FULLY_CONNECTED:
        return tf.linalg.matvec(weights, tf.reshape(x, (1, -1)))
    strides = (1, o.stride_h, o.stride_w, 1)
    if op.kind is OpKind.CONV_2D:
        return tf.nn.conv2d(x, tf.transpose(weights, (1, 2, 3, 0)), strides, o.padding.name)
    if op.kind is OpKind.TRANSPOSE_CONV:
        kernel, shape = tf.transpose(weights, (1, 2, 0, 3)), graph.tensors[op.output].shape
        return tf.nn.conv2d_transpose(x, kernel, shape, strides, o.padding.name)
    kernel = tf.reshape(weights, (*weights.shape[1:3], x.shape[3], -1))
    return tf.nn.depthwise_conv2d(x, kernel, strides, o.padding.name)


def run(graph, op, operands, weights, bias):
    o, x = op.options, operands[0]
    if op.has_weights:
        return run_weighted(graph, op, x, weights) + bias
    match op.kind:
        case OpKind.RESHAPE:
            return tf.reshape(x, graph.tensors[op.output].shape)
        case OpKind.CONCATENATION:
            return tf.concat(operands, o.axis)
        case OpKind.PAD:
            return tf.pad(x, o.cells)
        case OpKind.MEAN:
            return tf.reshape(tf.reduce_mean(x, (1, 2)), graph.tensors[op.output].shape)
        case OpKind.LEAKY_RELU:
            return tf.nn.leaky_relu(x, o.alpha)
        case OpKind.MAX_POOL_2D | OpKind.AVERAGE_POOL_2D:
            window = {"ksize": (o.filter_h, o.filter_w), "strides": (o.stride_h, o.stride_w)}
            return FUNCTIONS[op.kind](x, **window, padding=o.padding.name)
    return FUNCTIONS[op.kind](*operands)


def float_gradients(graph, network, values, label):
    """Gradients of the weights and biases at the activations that the integers have."""
    parameters = {}
    for op in graph.ops:
        if op.has_weights:
            weights, bias = (graph.tensors[i] for i in op.inputs[1:])
            integers = graph.weights_of_rows(op, network.weights[op.name])
            q = weights.quantization
            shape = [1] * integers.ndim
            shape[q.axis if q.scales.size > 1 else 0] = q.scales.size
            kernel = integers * q.scales.astype(float).reshape(shape)
            parameters[op.name] = tf.Variable(kernel), tf.Variable(real(bias, network.biases[op.name]))
    with tf.GradientTape() as tape:
        floats = {graph.input: tf.constant(real(graph.tensors[graph.input], values[graph.input]))}
        for op in graph.ops:
            operands = op.inputs[:1] if op.has_weights else op.inputs
            inputs = [
                floats[i] if i in floats else tf.constant(real(graph.tensors[i], graph.tensors[i].data))
                for i in operands
            ]
            y = run(graph, op, inputs, *parameters.get(op.name, (None, None)))
            activation = getattr(op.options, "activation", Activation.NONE)
            y = {Activation.RELU: tf.nn.relu, Activation.RELU6: tf.nn.relu6}.get(activation, tf.identity)(y)
            seen = real(graph.tensors[op.output], values[op.output])
            if activation is not Activation.NONE:  # a value that the integers round to the bound has no slope
                y = tf.where(seen > 0, y, tf.stop_gradient(y))
            floats[op.output] = (
                y if op.output == graph.output and op.kind is OpKind.SOFTMAX else y + tf.stop_gradient(seen - y)
            )
        logits = tf.reshape(floats[loss_tensor(graph, Loss.SOFTMAX_CROSS_ENTROPY)], (1, -1))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([label], logits)
    return dict(zip(parameters, tape.gradient(loss, list(parameters.values())), strict=True))


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
