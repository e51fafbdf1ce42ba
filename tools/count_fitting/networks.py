"""Seeded small networks to count instructions of: random shapes, widths, updates, and every op that the model knows."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rct_tflite.planning.selection import select, trainable
from rct_tflite.spec.graph import Graph, LayerTraining, OpKind, TrainingMetadata
from rct_tflite.spec.quantization import top
from rct_tflite.spec.training_plan import TrainingPlan
from rct_tflite.tflite.reader import read_graph
from tests.tflite.one_op import ModelBuilder, Quantised

SEED = 11
INPUT_SCALE = 4 / 127
UNIFORM_DEVIATION = 127 / 3**0.5  # of integers from -127 to 127
SAME, VALID = 0, 1
LINEAR, RELU, RELU6 = 0, 1, 3
PACKED = (2, 3, 4, 4, 5, 6, 6, 7)
NO_DILATION = {"dilationHFactor": 1, "dilationWFactor": 1}


@dataclass(frozen=True, eq=False)
class Workload:
    """A network and what learns of it."""

    name: str
    graph: Graph
    plan: TrainingPlan


def workloads() -> Iterator[Workload]:
    """Yields the networks of the fit, always the same."""
    for number in range(36):
        yield _workload(f"dense{number}", _dense, number)
    for number in range(28):
        yield _workload(f"conv{number}", _convolutional, number)
    for number in range(24):
        yield _workload(f"separable{number}", _separable, number)
    for number in range(24):
        yield _workload(f"mixed{number}", _mixed, number)


def _workload(name, make, number) -> Workload:
    random = np.random.default_rng([SEED, number, *map(ord, make.__name__)])
    graph = make(_Layers(random), random)
    rounding = "truncate" if random.random() < 0.15 else "stochastic"
    metadata = dataclasses.replace(
        graph.training, rounding=rounding, learning_rate=float(2.0 ** random.uniform(-8, -4))
    )
    graph = dataclasses.replace(graph, training=metadata)
    loss = str(random.choice(["softmax_cross_entropy"] * 4 + ["mean_squared_error", "sigmoid_cross_entropy"]))
    if graph.ops[-1].kind is OpKind.SOFTMAX:
        loss = "softmax_cross_entropy"
    plan = select(graph, _train(graph, random, number), loss=loss)
    return Workload(name, graph, dataclasses.replace(plan, error_bits=16 if number % 4 == 3 else 8))


def _train(graph, random, number) -> str:
    names = list(trainable(graph))
    if number % 3 == 0 or len(names) == 1:
        return "all"
    if number % 3 == 1:
        return str(random.choice(["bias", f"last:{random.integers(1, len(names) + 1)}"]))
    kinds = [random.choice(["", ":bias", f":{random.uniform(0.1, 0.9):.2f}"]) for _ in names]
    return ",".join(f"{name}{kind}" for name, kind in zip(names, kinds, strict=True))


def _dense(layers, random) -> Graph:
    x = layers.input((int(random.integers(12, 500)),))
    for _ in range(random.integers(1, 4)):
        x = layers.dense(x, int(2 ** random.uniform(3, 7.4)), int(random.choice([RELU, RELU, RELU6, LINEAR])))
        if random.random() < 0.2:
            x = layers.table(x, OpKind.TANH)
    return layers.end(x, random)


def _convolutional(layers, random) -> Graph:
    side, channels = int(random.integers(6, 17)), int(random.choice([1, 2, 3, 4, 8]))
    x = layers.input((side, int(random.integers(6, 17)), channels))
    for _ in range(random.integers(1, 4)):
        kernel = tuple(int(k) for k in random.integers(1, 5, 2))
        padding = SAME if min(layers.shape(x)[1:3]) <= 5 else int(random.choice([SAME, VALID]))
        channels = int(2 ** random.uniform(2, 4.6))
        activation = int(random.choice([RELU, RELU, RELU6, LINEAR]))
        x = layers.conv(x, channels, kernel, int(random.choice([1, 1, 2])), padding, activation)
        if min(layers.shape(x)[1:3]) >= 4 and random.random() < 0.6:
            kind = OpKind.MAX_POOL_2D if random.random() < 0.7 else OpKind.AVERAGE_POOL_2D
            x = layers.pool(x, kind, int(random.integers(2, 4)))
    return layers.end(layers.flatten(x) if random.random() < 0.6 else layers.mean(x), random)


def _separable(layers, random) -> Graph:
    side = int(random.integers(6, 15))
    x = layers.input((side, side, int(random.choice([2, 3, 4, 8]))))
    if random.random() < 0.5:
        x = layers.conv(x, int(random.choice([8, 12, 16])), (3, 3), 1, SAME, RELU)
    for _ in range(random.integers(1, 4)):
        multiplier = 2 if random.random() < 0.2 else 1
        kernel = int(random.choice([2, 3, 3, 5]))
        x = layers.depthwise(x, (kernel, kernel), int(random.choice([1, 1, 2])), multiplier)
        x = layers.conv(x, int(2 ** random.uniform(2.5, 5.4)), (1, 1), 1, VALID, int(random.choice([RELU, LINEAR])))
    return layers.end(layers.mean(x), random)


def _mixed(layers, random) -> Graph:
    side = int(random.integers(4, 8))
    x = layers.input((side, int(random.integers(4, 8)), int(random.choice([2, 3, 5]))))
    x = layers.conv(x, int(random.integers(3, 13)), (3, 3), 1, SAME, LINEAR)
    tables = [OpKind.LEAKY_RELU, OpKind.HARD_SWISH, OpKind.TANH, OpKind.RELU, OpKind.LOGISTIC]
    x = layers.table(x, tables[random.integers(len(tables))])
    if random.random() < 0.5:
        x = layers.pad(x, random)
    y = layers.conv(x, layers.shape(x)[3], (1, 1), 1, VALID, RELU)
    x = layers.pair(x, y, (OpKind.ADD, OpKind.MUL, OpKind.SUB)[random.integers(3)])
    if random.random() < 0.5:
        x = layers.concatenate(x, layers.table(x, OpKind.RELU))
    size = tuple(int(k) for k in random.integers(2, 5, 2))
    x = layers.transpose_conv(x, int(random.integers(2, 9)), size, int(random.choice([1, 2, 2])))
    x = layers.pool(x, OpKind.AVERAGE_POOL_2D, 2) if random.random() < 0.7 else layers.table(x, OpKind.LEAKY_RELU)
    return layers.end(layers.mean(x), random)


class _Layers:
    """Appends layers whose outputs keep the mean square of 1 that He's initialisation gives them."""

    def __init__(self, random):
        self.random, self.builder, self.outputs, self.bits = random, ModelBuilder(), {}, []
        self.source = None
        self.width = 8 if random.random() < 0.6 else None
        """Of all weights; None: each layer has its own."""

    def input(self, shape):
        image = Quantised((1, *shape), INPUT_SCALE, int(self.random.choice([0, -128])))
        self.source = self.builder.tensor(image)
        self.outputs[self.source] = image
        return self.source

    def shape(self, x):
        return self.outputs[x].shape

    def dense(self, x, units, activation):
        weights, bias = self._weights((units, self.shape(x)[1]), 0), self._bias(units)
        output = self._like((1, units), activation)
        return self._op(OpKind.FULLY_CONNECTED, [x, weights, bias], output, fusedActivationFunction=activation)

    def conv(self, x, channels, kernel, stride, padding, activation):
        weights = self._weights((channels, *kernel, self.shape(x)[3]), 0)
        return self._windowed(OpKind.CONV_2D, x, weights, channels, (kernel, stride, padding), activation)

    def depthwise(self, x, kernel, stride, multiplier):
        channels = self.shape(x)[3] * multiplier
        weights = self._weights((1, *kernel, channels), 3)
        how = (kernel, stride, SAME)
        return self._windowed(OpKind.DEPTHWISE_CONV_2D, x, weights, channels, how, RELU, depthMultiplier=multiplier)

    def transpose_conv(self, x, channels, kernel, stride):
        _, height, width, depth = self.shape(x)
        shape = (1, height * stride, width * stride, channels)
        sizes = Quantised.constant(np.array(shape, np.int32))
        options = {"padding": SAME, "strideH": stride, "strideW": stride}
        weights = self._weights((channels, *kernel, depth), 0)
        return self._op(OpKind.TRANSPOSE_CONV, [sizes, weights, x], self._like(shape, LINEAR), **options)

    def pool(self, x, kind, size):
        _, height, width, channels = self.shape(x)
        size = min(size, height, width)
        options = {"filterHeight": size, "filterWidth": size, "strideH": size, "strideW": size}
        options |= {"padding": VALID, "fusedActivationFunction": LINEAR}
        return self._op(kind, [x], self._as_wide(x, (1, height // size, width // size, channels)), **options)

    def table(self, x, kind):
        if kind in (OpKind.TANH, OpKind.LOGISTIC):
            scale, zero_point = (1 / 128, 0) if kind is OpKind.TANH else (1 / 256, -128)
            return self._op(kind, [x], Quantised(self.shape(x), scale, zero_point))
        activation = RELU if kind is OpKind.RELU else LINEAR
        attributes = {"alpha": 0.1} if kind is OpKind.LEAKY_RELU else {}
        return self._op(kind, [x], self._like(self.shape(x), activation), **attributes)

    def pair(self, x, y, kind):
        attributes = {"fusedActivationFunction": int(self.random.choice([LINEAR, RELU]))}
        return self._op(kind, [x, y], self._like(self.shape(x), attributes["fusedActivationFunction"]), **attributes)

    def pad(self, x, random):
        cells = np.zeros((4, 2), np.int32)
        cells[1:3] = random.integers(0, 3, (2, 2))
        shape = tuple(int(s + a + b) for s, (a, b) in zip(self.shape(x), cells, strict=True))
        return self._op(OpKind.PAD, [x, Quantised.constant(cells)], self._as_wide(x, shape))

    def concatenate(self, x, y):
        first = self.shape(x)
        output = self._as_wide(x, (*first[:3], first[3] + self.shape(y)[3]))
        y = self._op(OpKind.QUANTIZE, [y], self._as_wide(x, self.shape(y)))
        return self._op(OpKind.CONCATENATION, [x, y], output, axis=3, fusedActivationFunction=LINEAR)

    def mean(self, x):
        axes = Quantised.constant(np.array([1, 2], np.int32))
        return self._op(OpKind.MEAN, [x, axes], self._as_wide(x, (1, self.shape(x)[3])), keepDims=False)

    def flatten(self, x):
        count = int(np.prod(self.shape(x)))
        shape = Quantised.constant(np.array([1, count], np.int32))
        return self._op(OpKind.RESHAPE, [x, shape], self._as_wide(x, (1, count)))

    def end(self, x, random) -> Graph:
        classes = int(random.choice([2, 4, 6, 10, 12, 20, 40]))
        x = self.dense(x, classes, LINEAR)
        if random.random() < 0.3:
            x = self._op(OpKind.SOFTMAX, [x], Quantised((1, classes), 1 / 256, -128), beta=1.0)
        graph = read_graph(self.builder.model(self.source, x))
        names = [op.name for op in graph.ops if op.has_weights]
        layers = tuple(LayerTraining(name, bits) for name, bits in zip(names, self.bits, strict=True))
        return dataclasses.replace(graph, training=TrainingMetadata(layers))

    def _windowed(self, kind, x, weights, channels, how, activation, **options):
        kernel, stride, padding = how
        sizes = self.shape(x)[1:3]
        places = [
            -(-size // stride) if padding == SAME else -(-(size - cells + 1) // stride)
            for size, cells in zip(sizes, kernel, strict=True)
        ]
        options |= {"padding": padding, "strideH": stride, "strideW": stride, "fusedActivationFunction": activation}
        output = self._like((1, *places, channels), activation)
        return self._op(kind, [x, weights, self._bias(channels)], output, **options, **NO_DILATION)

    def _weights(self, shape, axis):
        bits = self.width or int(self.random.choice([8, *PACKED]))
        self.bits.append(bits)
        fan_in = np.prod(shape) / shape[axis]
        scales = self.random.uniform(0.7, 1.3, shape[axis]) * np.sqrt(2 / fan_in) / UNIFORM_DEVIATION
        if self.random.random() < 0.3:
            scales = scales[:1]
        scales = scales * 127 / top(bits)
        return Quantised.constant(
            self.random.integers(-top(bits), top(bits) + 1, shape).astype(np.int8), scales, axis=axis
        )

    def _bias(self, channels):
        return Quantised.constant(self.random.integers(-200, 200, channels).astype(np.int32))

    def _op(self, kind, inputs, output, **attributes):
        number = self.builder.op(kind, inputs, output, **attributes)
        self.outputs[number] = output
        return number

    def _as_wide(self, x, shape):
        """A tensor with the range of another one."""
        return Quantised(shape, self.outputs[x].scales, self.outputs[x].zero_points[0])

    def _like(self, shape, activation):
        """Where the range has head room, more of what is small becomes 0."""
        room = 2 ** self.random.uniform(0.0, 1.5)
        scale = 2 * INPUT_SCALE * room / (1 if activation == LINEAR else 2)
        return Quantised(shape, scale, 0 if activation == LINEAR else -128)
