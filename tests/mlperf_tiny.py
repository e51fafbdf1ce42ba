"""Networks of MLPerf Tiny's shapes with seeded random weights, as the converter lays them out: no TensorFlow."""

import numpy as np

from rct_tflite.spec.graph import Activation, Graph, OpKind
from rct_tflite.tflite.reader import read_graph
from tests.graphs import GraphBuilder
from tests.tflite.one_op import ModelBuilder, Quantised

SAME, VALID = 0, 1
LINEAR, RELU = 0, 1
INPUT_SCALE = 4 / 127  # standard deviation 1
UNIFORM_DEVIATION = 127 / 3**0.5  # of integers from -127 to 127


def anomaly_detection() -> Graph:
    """The autoencoder: 640-128-128-128-128-8-128-128-128-128-640."""
    builder = GraphBuilder((640,))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        builder.dense(units)
    return builder.dense(640, Activation.NONE).graph()


def keyword_spotting() -> Graph:
    """DS-CNN on 49 frames of 10 coefficients."""
    layers = _Layers((49, 10, 1))
    x = layers.conv(layers.source, 64, (10, 4), 2)
    for _ in range(4):
        x = layers.conv(layers.depthwise(x), 64, (1, 1))
    return layers.classify(layers.average_pool(x), 12)


def image_classification() -> Graph:
    """ResNet-8 on 32x32x3."""
    layers = _Layers((32, 32, 3))
    x = layers.conv(layers.source, 16, (3, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.conv(x, channels, (3, 3), stride)
        y = layers.conv(y, channels, (3, 3), activation=LINEAR)
        x = x if stride == 1 else layers.conv(x, channels, (1, 1), stride, LINEAR)
        x = layers.add(x, y)
    return layers.classify(layers.average_pool(x), 10)


def visual_wake_words() -> Graph:
    """MobileNetV1 0.25 on 96x96x3."""
    layers = _Layers((96, 96, 3))
    x = layers.conv(layers.source, 8, (3, 3), 2)
    rows = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
    for channels, stride in rows:
        x = layers.conv(layers.depthwise(x, stride), channels, (1, 1))
    return layers.classify(layers.mean(x), 2)


class _Layers:
    """Appends layers whose outputs keep the mean square of 1 that He's initialisation gives them."""

    def __init__(self, input_shape):
        self.random, self.builder, self.outputs = np.random.default_rng(3), ModelBuilder(), {}
        image = Quantised((1, *input_shape), INPUT_SCALE)
        self.source = self.builder.tensor(image)
        self.outputs[self.source] = image

    def conv(self, x, channels, kernel, stride=1, activation=RELU):
        weights = self._weights((channels, *kernel, self._shape(x)[3]), 0)
        return self._windowed(OpKind.CONV_2D, x, weights, channels, stride, activation)

    def depthwise(self, x, stride=1):
        channels = self._shape(x)[3]
        weights = self._weights((1, 3, 3, channels), 3)
        return self._windowed(OpKind.DEPTHWISE_CONV_2D, x, weights, channels, stride, RELU, depthMultiplier=1)

    def add(self, x, y):
        return self._op(OpKind.ADD, [x, y], self._like(self._shape(x), RELU, 1.5), fusedActivationFunction=RELU)

    def average_pool(self, x):
        _, height, width, channels = self._shape(x)
        size = {"filterHeight": height, "filterWidth": width, "strideH": height, "strideW": width}
        size |= {"padding": VALID, "fusedActivationFunction": LINEAR}
        pooled = self._op(OpKind.AVERAGE_POOL_2D, [x], self._as_wide(x, (1, 1, 1, channels)), **size)
        shape = Quantised.constant(np.array([1, channels], np.int32))
        return self._op(OpKind.RESHAPE, [pooled, shape], self._as_wide(x, (1, channels)))

    def mean(self, x):
        axes = Quantised.constant(np.array([1, 2], np.int32))
        return self._op(OpKind.MEAN, [x, axes], self._as_wide(x, (1, self._shape(x)[3])), keepDims=False)

    def classify(self, x, classes) -> Graph:
        weights, bias = self._weights((classes, self._shape(x)[1]), 0), self._bias(classes)
        output = self._like((1, classes), LINEAR)
        x = self._op(OpKind.FULLY_CONNECTED, [x, weights, bias], output, fusedActivationFunction=LINEAR)
        x = self._op(OpKind.SOFTMAX, [x], Quantised((1, classes), 1 / 256, -128), beta=1.0)
        return read_graph(self.builder.model(self.source, x))

    def _windowed(self, kind, x, weights, channels, stride, activation, **options):
        _, height, width, _ = self._shape(x)
        output = self._like((1, -(-height // stride), -(-width // stride), channels), activation)
        options |= {"padding": SAME, "strideH": stride, "strideW": stride, "fusedActivationFunction": activation}
        options |= {"dilationHFactor": 1, "dilationWFactor": 1}
        return self._op(kind, [x, weights, self._bias(channels)], output, **options)

    def _weights(self, shape, axis):
        fan_in = np.prod(shape) / shape[axis]
        scales = self.random.uniform(0.7, 1.3, shape[axis]) * np.sqrt(2 / fan_in) / UNIFORM_DEVIATION
        return Quantised.constant(self.random.integers(-127, 128, shape, np.int8), scales, axis=axis)

    def _bias(self, channels):
        return Quantised.constant(self.random.integers(-200, 200, channels).astype(np.int32))

    def _like(self, shape, activation, spread=1.0):
        scale = 2 * INPUT_SCALE * spread / (2 if activation == RELU else 1)
        return Quantised(shape, scale, -128 if activation == RELU else 0)

    def _op(self, kind, inputs, output, **attributes):
        number = self.builder.op(kind, inputs, output, **attributes)
        self.outputs[number] = output
        return number

    def _shape(self, x):
        return self.outputs[x].shape

    def _as_wide(self, x, shape):
        """A tensor with the range of another one."""
        return Quantised(shape, self.outputs[x].scales, self.outputs[x].zero_points[0])
