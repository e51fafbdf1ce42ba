"""Seeded random networks, as the Keras side would give them."""

import dataclasses
from dataclasses import dataclass
from functools import cache

import numpy as np

from rct_tflite.export.tflite_export import export_tflite
from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    OpKind,
    OpOptions,
    Padding,
    Pool2DOptions,
    ReshapeOptions,
    TrainingMetadata,
)
from rct_tflite.spec.network import TrainedLayer, TrainedNetwork, TrainedWeights
from rct_tflite.spec.quantization import AffineQuantization, round_scale, top

SAME, VALID = Padding.SAME, Padding.VALID
NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6


@dataclass
class Stack:
    """Grows a network layer by layer; shapes follow from the layers."""

    seed: int
    shape: tuple[int, ...]
    bits: int = 8
    per_channel: bool = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.input_shape, self.layers = self.shape, []
        self.input = self.quantization = AffineQuantization(round_scale(self.rng.uniform(0.01, 0.1)), 7)

    def conv(self, channels, extent, stride=1, padding=SAME, activation=RELU, zero_point=-128):
        options = Conv2DOptions(padding, stride, stride, activation)
        sides = self._sides((extent, extent), stride, padding)
        weights = self._weights((channels, extent, extent, self.shape[2]))
        return self._add(OpKind.CONV_2D, options, (*sides, channels), weights, zero_point)

    def pool(self, kind, extent=2, stride=2, padding=VALID):
        options = Pool2DOptions(padding, stride, stride, extent, extent, NONE)
        return self._add(kind, options, (*self._sides((extent, extent), stride, padding), self.shape[2]))

    def flatten(self):
        return self._add(OpKind.RESHAPE, ReshapeOptions(), (int(np.prod(self.shape)),))

    def dense(self, units, activation=NONE, zero_point=0):
        weights = self._weights((units, self.shape[0]))
        return self._add(OpKind.FULLY_CONNECTED, FullyConnectedOptions(activation), (units,), weights, zero_point)

    def network(self, name="net"):
        return TrainedNetwork(name, self.input_shape, self.input, tuple(self.layers), "stochastic")

    def _sides(self, extents, stride, padding):
        spans = [s if padding is SAME else s - e + 1 for s, e in zip(self.shape[:2], extents, strict=True)]
        return tuple(-(-span // stride) for span in spans)

    def _weights(self, shape):
        limit = top(self.bits)
        integers = self.rng.integers(-limit, limit + 1, shape).astype(np.int8)
        spread = 1.0 / (limit * np.sqrt(np.prod(shape[1:])))
        count = shape[0] if self.per_channel else 1
        scales = np.array([round_scale(s) for s in self.rng.uniform(0.5, 3.0, count) * spread])
        return TrainedWeights(integers, scales, self.rng.normal(0.0, 0.3, shape[0]), self.bits)

    def _add(self, kind, options: OpOptions, shape, weights=None, zero_point=0):
        if weights is not None:
            self.quantization = AffineQuantization(round_scale(self.rng.uniform(0.01, 0.08)), zero_point)
        name = f"{kind.name.lower()}_{len(self.layers)}"
        self.layers.append(TrainedLayer(name, kind, options, shape, self.quantization, weights))
        self.shape = shape
        return self


TRAINING = TrainingMetadata(learning_rate=0.05, labels=("no", "yes", "perhaps"), input_scale=1 / 255)


def small_cnn(seed=0, bits=8, per_channel=False):
    """conv -> max pool -> conv -> average pool -> flatten -> dense -> dense."""
    stack = Stack(seed, (10, 9, 2), bits, per_channel).conv(4, 3).pool(OpKind.MAX_POOL_2D)
    stack.conv(6, 2, 2, VALID, NONE, -20).pool(OpKind.AVERAGE_POOL_2D, 2, 1).flatten()
    return stack.dense(10, RELU, -128).dense(3, NONE, 12).network()


def strided_cnn():
    """Strides, paddings, activations and zero points that `small_cnn()` has not."""
    stack = Stack(7, (13, 11, 3), 5, True).conv(4, 3, 2, VALID, RELU6, 20).conv(5, 1, 1, SAME, NONE, 127)
    stack.pool(OpKind.MAX_POOL_2D, 3, 2, SAME).conv(3, 2, 1, SAME, RELU, -60).pool(OpKind.AVERAGE_POOL_2D, 2, 2, SAME)
    return stack.flatten().dense(4, RELU6, -5).dense(2, NONE, -128).network()


def merged_by_the_converter():
    """Zero biases, equal constants and a reshape that changes nothing: the converter drops or merges them all."""
    stack = Stack(3, (4, 4, 2), 8).conv(3, 4, 1, VALID, RELU, -128).flatten().dense(3).dense(3).dense(3)
    for index in (2, 3):
        weights = stack.layers[index].weights
        zeros = np.zeros_like(weights.integers)
        new = dataclasses.replace(weights, integers=zeros, bias=np.zeros(3))
        stack.layers[index] = dataclasses.replace(stack.layers[index], weights=new)
    return stack.network()


def large_dense():
    """More weights than the converter folds when they are computed from integers; narrow scales."""
    return Stack(5, (300,), 4, True).dense(200, RELU, -128).dense(10).network()


def convolution_only():
    """Ends in an image; one scale."""
    return Stack(11, (6, 6, 1), 3).conv(2, 3, 1, SAME, NONE, 0).network()


def random_network(seed):
    """One to six layers of any kind, shape and zero point, in any order that fits."""
    rng = np.random.default_rng(seed)
    bits, per_channel = int(rng.integers(2, 9)), bool(rng.integers(0, 2))
    stack = Stack(seed, tuple(rng.integers(3, (14, 14, 4)).tolist()), bits, per_channel)
    for _ in range(rng.integers(1, 6)):
        activation, zero_point = [NONE, RELU, RELU6][rng.integers(0, 3)], int(rng.integers(-128, 128))
        if len(stack.shape) == 1:
            stack.dense(int(rng.integers(1, 20)), activation, zero_point)
            continue
        side, padding = min(stack.shape[:2]), [SAME, VALID][rng.integers(0, 2)]
        extent, stride = int(rng.integers(1, min(side, 4) + 1)), int(rng.integers(1, 3))
        match rng.integers(0, 5):
            case 0 | 1:
                stack.conv(int(rng.integers(1, 7)), extent, stride, padding, activation, zero_point)
            case 2:
                stack.pool(OpKind.MAX_POOL_2D, extent, stride, padding)
            case 3:
                stack.pool(OpKind.AVERAGE_POOL_2D, extent, stride, padding)
            case _:
                stack.flatten()
    if len(stack.shape) == 3:
        stack.flatten()
    return stack.dense(3, NONE, 5).network()


NETWORKS = {
    **{f"{bits} bits": (small_cnn, bits, bits, bits % 2 == 0) for bits in range(2, 9)},
    "one scale": (small_cnn, 20, 8, False),
    "per channel": (small_cnn, 21, 8, True),
    "strides": (strided_cnn,),
    "merged": (merged_by_the_converter,),
    "large": (large_dense,),
    "convolution": (convolution_only,),
    **{f"random {seed}": (random_network, seed) for seed in range(12)},
}


@cache
def network_of(case):
    make, *arguments = NETWORKS[case]
    return make(*arguments)


@cache
def exported(case="per channel"):
    """The `.tflite` of a network, converted once."""
    return export_tflite(network_of(case), TRAINING)


def random_inputs(network, count, seed=0):
    """int8 (count, *input shape) over the full range."""
    return np.random.default_rng(seed).integers(-128, 128, (count, *network.input_shape), np.int8)
