"""Seeded builders of small graphs, by hand: no TensorFlow, no file."""

import dataclasses

import numpy as np

from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    Graph,
    LayerTraining,
    Op,
    OpKind,
    OpOptions,
    Padding,
    Pool2DOptions,
    ReshapeOptions,
    Tensor,
    TensorQuantization,
    TrainingMetadata,
)
from rct_tflite.spec.quantization import (
    AffineQuantization,
    affine_from_range,
    low_bits,
    narrowed,
    round_scale,
    top,
)
from tests.float_network import FloatNetwork

UNIT_INPUT = affine_from_range(0.0, 1.0)


class GraphBuilder:
    """Appends ops one by one.

    Weights are He-uniform, quantised with head room; the range of each output is what a float run over random
    inputs shows.

    Args:
        input_shape: Without batch.
        seed: Of weights and calibration inputs.
        input_quantization: Of the first tensor.
        headroom: Of weights, times the largest initial one, and of outputs, times the range seen. What is to learn
            from scratch needs more of the latter.
    """

    def __init__(self, input_shape, seed=0, input_quantization=UNIT_INPUT, headroom=(2.0, 1.25)):
        self.random = np.random.default_rng(seed)
        self.weight_headroom, self.output_headroom = headroom
        self.tensors = [_activation_tensor("input", (1, *input_shape), input_quantization)]
        self.ops: list[Op] = []
        self.layers: list[LayerTraining] = []
        self.wide: dict[str, np.ndarray] = {}
        low, high = input_quantization.minimum, input_quantization.maximum
        self.samples = list(self.random.uniform(low, high, (16, *input_shape)))

    def dense(self, units, activation=Activation.RELU, bits=8, per_channel=False):
        depth = self.tensors[-1].size
        return self._weighted(
            OpKind.FULLY_CONNECTED, (units, depth), FullyConnectedOptions(activation), bits, per_channel, (units,)
        )

    def conv(self, channels, kernel=(3, 3), stride=1, padding=Padding.SAME, activation=Activation.RELU, **weights):
        options = Conv2DOptions(padding, *_pair(stride), activation)
        in_h, in_w, in_channels = self.tensors[-1].shape[1:]
        rows = _outputs(in_h, kernel[0], options.stride_h, padding)
        columns = _outputs(in_w, kernel[1], options.stride_w, padding)
        shape = (channels, *kernel, in_channels)
        bits, per_channel = weights.pop("bits", 8), weights.pop("per_channel", False)
        assert not weights
        return self._weighted(OpKind.CONV_2D, shape, options, bits, per_channel, (rows, columns, channels))

    def max_pool(self, size=2, stride=None, padding=Padding.VALID, activation=Activation.NONE):
        return self._pool(OpKind.MAX_POOL_2D, size, stride, padding, activation)

    def average_pool(self, size=2, stride=None, padding=Padding.VALID, activation=Activation.NONE):
        return self._pool(OpKind.AVERAGE_POOL_2D, size, stride, padding, activation)

    def reshape(self, *shape):
        return self._append(
            OpKind.RESHAPE, (len(self.tensors) - 1,), ReshapeOptions(), shape, _affine(self.tensors[-1])
        )

    def graph(self, learning_rate=0.05, rounding="stochastic", name="net"):
        metadata = TrainingMetadata(tuple(self.layers), learning_rate, rounding)
        tensors = tuple(self.tensors)
        return Graph(name, tensors, tuple(self.ops), 0, self.ops[-1].output, metadata, dict(self.wide))

    def _pool(self, kind, size, stride, padding, activation):
        size, stride = _pair(size), _pair(stride or size)
        in_h, in_w, channels = self.tensors[-1].shape[1:]
        options = Pool2DOptions(padding, *stride, *size, activation)
        shape = (_outputs(in_h, size[0], stride[0], padding), _outputs(in_w, size[1], stride[1], padding), channels)
        return self._append(kind, (len(self.tensors) - 1,), options, shape, _affine(self.tensors[-1]))

    def _weighted(self, kind, shape, options: OpOptions, bits, per_channel, out_shape):
        source = len(self.tensors) - 1
        fan_in = int(np.prod(shape[1:]))
        weights = self.random.uniform(-1, 1, shape) * np.sqrt(6.0 / fan_in)
        weights *= self.random.uniform(0.3, 1.0, (shape[0],) + (1,) * (len(shape) - 1)) if per_channel else 1.0
        axes = tuple(range(1, len(shape))) if per_channel else None
        largest = np.abs(weights).max(axis=axes, keepdims=True)
        scales = np.vectorize(round_scale)(largest * self.weight_headroom / top(bits))
        integers = np.clip(np.rint(weights / scales), -top(bits), top(bits)).astype(np.int16)
        name = f"layer{len(self.ops)}"
        if bits > 8:
            self.wide[name] = integers
        integers, scales = narrowed(integers, bits).astype(np.int8), scales * 2.0 ** low_bits(bits)
        bias_scales = self.tensors[source].scale * scales.reshape(-1)
        bias = np.rint(self.random.normal(0, 0.05, shape[0]) / bias_scales).astype(np.int32)
        self.tensors.append(_parameter(f"{name}/weights", integers, scales.reshape(-1)))
        self.tensors.append(_parameter(f"{name}/bias", bias, bias_scales))
        self.layers.append(LayerTraining(name, bits))
        inputs = (source, source + 1, source + 2)
        return self._append(kind, inputs, options, out_shape, None)

    def _append(self, kind, inputs, options, out_shape, quantization):
        """Appends op and output; measures the output's range where its quantisation is not given."""
        name = f"layer{len(self.ops)}"
        self.tensors.append(_activation_tensor(f"{name}/output", (1, *out_shape), quantization or UNIT_INPUT))
        self.ops.append(Op(kind, name, inputs, len(self.tensors) - 1, options))
        network = FloatNetwork(self.graph())
        self.samples = [network.run(self.ops[-1], sample) for sample in self.samples]
        if quantization is None:
            low, high = float(np.min(self.samples)), float(max(np.max(self.samples), 1e-3))
            quantization = affine_from_range(low * self.output_headroom, high * self.output_headroom)
            self.tensors[-1] = _activation_tensor(f"{name}/output", (1, *out_shape), quantization)
        return self


def change_tensor(graph: Graph, index: int, **fields) -> Graph:
    """A graph with fields of one tensor replaced."""
    tensors = list(graph.tensors)
    tensors[index] = dataclasses.replace(tensors[index], **fields)
    return dataclasses.replace(graph, tensors=tuple(tensors))


def widened(graph: Graph, bits: int) -> Graph:
    """A graph whose layers of 8 bits have more; the bits below are random."""
    random, low = np.random.default_rng(bits), low_bits(bits)
    wide = {}
    for op in graph.ops:
        if op.has_weights and graph.bits_of(op) == 8:
            seen = graph.tensors[op.inputs[1]].data.astype(np.int32)
            wide[op.name] = ((seen << low) + random.integers(-(1 << low >> 1), 1 << low >> 1, seen.shape)).astype(
                np.int16
            )
    layers = tuple(LayerTraining(name, bits) for name in wide)
    training = dataclasses.replace(graph.training, layers=layers)
    return dataclasses.replace(graph, training=training, wide=wide)


def renamed(graph: Graph, names) -> Graph:
    """A graph whose ops, their outputs and its metadata have other names."""
    ops = tuple(dataclasses.replace(op, name=name) for op, name in zip(graph.ops, names, strict=True))
    layers = tuple(
        dataclasses.replace(layer, name=name) for layer, name in zip(graph.training.layers, names, strict=True)
    )
    graph = dataclasses.replace(graph, ops=ops, training=dataclasses.replace(graph.training, layers=layers))
    for op in ops:
        graph = change_tensor(graph, op.output, name=op.name)
    return graph


def dense_digits(seed=0, bits=8) -> Graph:
    """64 -> dense 32 -> RELU -> dense 10."""
    return (
        GraphBuilder((64,), seed, headroom=(2.0, 4.0))
        .dense(32, bits=bits)
        .dense(10, Activation.NONE, bits=bits)
        .graph()
    )


def conv_digits(seed=0, bits=8, per_channel=False) -> Graph:
    """8x8 -> conv 3x3x8 -> max pool -> conv 3x3x16 -> max pool -> dense 10."""
    quantised = {"bits": bits, "per_channel": per_channel}
    builder = (
        GraphBuilder((8, 8, 1), seed, headroom=(2.0, 4.0))
        .conv(8, **quantised)
        .max_pool()
        .conv(16, **quantised)
        .max_pool()
    )
    return builder.reshape(64).dense(10, Activation.NONE, **quantised).graph()


def _pair(value) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _outputs(size, filter_size, stride, padding) -> int:
    return -(-size // stride) if padding is Padding.SAME else -(-(size - filter_size + 1) // stride)


def _affine(tensor: Tensor) -> AffineQuantization:
    return AffineQuantization(tensor.scale, tensor.zero_point)


def _activation_tensor(name, shape, q: AffineQuantization) -> Tensor:
    quantization = TensorQuantization(np.array([q.scale], np.float32), np.array([q.zero_point], np.int64))
    return Tensor(name, tuple(shape), np.dtype(np.int8), quantization, None)


def _parameter(name, integers, scales) -> Tensor:
    quantization = TensorQuantization(scales.astype(np.float32), np.zeros(scales.size, np.int64))
    return Tensor(name, integers.shape, integers.dtype, quantization, integers)
