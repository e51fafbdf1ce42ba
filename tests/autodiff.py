"""The gradients of a graph as TensorFlow differentiates it: an oracle for the integer ones."""

import numpy as np
import tensorflow as tf

from rct_tflite.reference.losses import loss_tensor
from rct_tflite.spec.graph import Activation, OpKind
from rct_tflite.spec.training_plan import Loss
from tests.float_network import real

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
    if op.kind is OpKind.GATHER:
        return tf.gather(weights, x)
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


def float_gradients(graph, network, values, label, loss=Loss.SOFTMAX_CROSS_ENTROPY):
    """Gradients (weights, bias) of each op with weights, at the activations and weights that the integers have.

    As of a fake-quantised network: every output is rounded, and its rounding has slope 1. A table has no bias.

    Args:
        graph: The network.
        network: Its integers.
        values: From `network.values()`, for one sample.
        label: The true class, or a target for each output in the output's int8 format.
        loss: That the gradients are of.
    """
    parameters = {}
    for op in graph.ops:
        if op.has_weights:
            weights, *biases = (graph.tensors[i] for i in op.inputs[1:])
            integers = graph.weights_of_rows(op, network.weights[op.name])
            q = weights.quantization
            shape = [1] * integers.ndim
            shape[q.axis if q.scales.size > 1 else 0] = q.scales.size
            kernel = integers * q.scales.astype(float).reshape(shape)
            bias = [tf.Variable(real(bias, network.biases[op.name])) for bias in biases]
            parameters[op.name] = tf.Variable(kernel), *bias
    with tf.GradientTape() as tape:
        source = values[graph.input]
        floats = {graph.input: tf.constant(source if graph.takes_ids else real(graph.tensors[graph.input], source))}
        for op in graph.ops:
            operands = op.inputs[:1] if op.has_weights else op.inputs
            inputs = [
                floats[i] if i in floats else tf.constant(real(graph.tensors[i], graph.tensors[i].data))
                for i in operands
            ]
            y = run(graph, op, inputs, *(*parameters.get(op.name, ()), None, None)[:2])
            activation = getattr(op.options, "activation", Activation.NONE)
            y = {Activation.RELU: tf.nn.relu, Activation.RELU6: tf.nn.relu6}.get(activation, tf.identity)(y)
            seen = real(graph.tensors[op.output], values[op.output])
            if activation is not Activation.NONE:  # a value that the integers round to the bound has no slope
                y = tf.where(seen > 0, y, tf.stop_gradient(y))
            floats[op.output] = (
                y if op.output == graph.output and op.kind is OpKind.SOFTMAX else y + tf.stop_gradient(seen - y)
            )
        read = loss_tensor(graph, loss)
        outputs = tf.reshape(floats[read], (-1,))
    error = _error_at(loss, outputs, graph.tensors[read], values[read].reshape(-1), label)
    gradients = [(tf.convert_to_tensor(w), *bias) for w, *bias in tape.gradient(outputs, [*parameters.values()], error)]
    return dict(zip(parameters, gradients, strict=True))


def _error_at(loss, outputs, tensor, integers, label):
    """The slope of a loss as Keras defines it, at the outputs (n,) that it reads."""
    if loss is Loss.SOFTMAX_CROSS_ENTROPY:
        error = tf.nn.softmax(outputs) - tf.one_hot(label, integers.size, dtype=outputs.dtype)
        outward = ((integers == 127) & (error < 0)) | ((integers == -128) & (error > 0))
        return tf.where(outward, tf.zeros_like(error), error)  # a logit at the end of int8 cannot move further out
    assert loss is Loss.MEAN_SQUARED_ERROR
    return 2 * (outputs - real(tensor, np.asarray(label))) / integers.size
