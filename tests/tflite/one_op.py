"""`.tflite` files of one op each, or a few, written straight into the schema: any scales, shapes and constants."""

import dataclasses

import numpy as np

from rct_tflite.spec.graph import LayerTraining, OpKind, TrainingMetadata
from rct_tflite.spec.quantization import top
from rct_tflite.tflite.flatfile import pack_model, schema
from rct_tflite.tflite.reader import read_graph

OPTIONS = {
    OpKind.ADD: "Add",
    OpKind.SUB: "Sub",
    OpKind.MUL: "Mul",
    OpKind.CONCATENATION: "Concatenation",
    OpKind.CONV_2D: "Conv2D",
    OpKind.DEPTHWISE_CONV_2D: "DepthwiseConv2D",
    OpKind.TRANSPOSE_CONV: "TransposeConv",
    OpKind.FULLY_CONNECTED: "FullyConnected",
    OpKind.GATHER: "Gather",
    OpKind.MEAN: "Reducer",
    OpKind.SOFTMAX: "Softmax",
    OpKind.LEAKY_RELU: "LeakyRelu",
    OpKind.MAX_POOL_2D: "Pool2D",
    OpKind.AVERAGE_POOL_2D: "Pool2D",
}
INT8, INT32 = 9, 2


class Quantised:
    """A tensor: computed where `data` is None; one scale, or one per slice along `axis`."""

    def __init__(self, shape, scale=1.0, zero_point=0, data=None, axis=0, kind=INT8):
        self.shape, self.data, self.axis = tuple(shape), data, axis
        self.kind = kind if data is None or data.dtype == np.int8 else INT32
        self.scales = np.atleast_1d(np.asarray(scale, np.float32))
        self.zero_points = np.full(self.scales.size, zero_point, np.int64)

    @classmethod
    def constant(cls, data, scale=1.0, zero_point=0, axis=0):
        return cls(data.shape, scale, zero_point, data, axis)


class ModelBuilder:
    """Writes ops one after the other; tensors are numbered as they come."""

    def __init__(self):
        self.tensors, self.buffers, self.codes, self.operators = [], [schema().BufferT()], [], []

    def tensor(self, tensor: Quantised) -> int:
        fb, buffer = schema(), 0
        if tensor.data is not None:
            self.buffers.append(fb.BufferT(data=np.frombuffer(tensor.data.tobytes(), np.uint8)))
            buffer = len(self.buffers) - 1
        quantization = fb.QuantizationParametersT(
            scale=tensor.scales, zeroPoint=tensor.zero_points, quantizedDimension=tensor.axis
        )
        name = f"t{len(self.tensors)}"
        self.tensors.append(
            fb.TensorT(
                shape=list(tensor.shape),
                type=tensor.kind,
                buffer=buffer,
                name=name,
                quantization=quantization,
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def op(self, kind: OpKind, inputs, output: Quantised, **attributes) -> int:
        fb = schema()
        numbers = [i if isinstance(i, int) else self.tensor(i) for i in inputs]
        result = self.tensor(output)
        options = OPTIONS.get(kind)
        operator = fb.OperatorT(opcodeIndex=len(self.codes), inputs=numbers, outputs=[result])
        if options is not None:
            operator.builtinOptions = getattr(fb, f"{options}OptionsT")(**attributes)
            operator.builtinOptionsType = getattr(fb.BuiltinOptions, f"{options}Options")
        code = min(kind.value, 127)
        self.codes.append(fb.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=kind.value, version=1))
        self.operators.append(operator)
        return result

    def model(self, source: int, output: int) -> bytes:
        fb = schema()
        subgraph = fb.SubGraphT(
            tensors=self.tensors, inputs=[source], outputs=[output], operators=self.operators, name="main"
        )
        return pack_model(
            fb.ModelT(version=3, operatorCodes=self.codes, subgraphs=[subgraph], buffers=self.buffers, description="")
        )


def ids(shape) -> Quantised:
    """The input of a network that picks rows of a table."""
    return Quantised(shape, kind=INT32)


def gather(table: Quantised, shape, **attributes) -> bytes:
    """A model of one GATHER, which picks a row for each id of an input of `shape`."""
    builder = ModelBuilder()
    source = builder.tensor(ids(shape))
    output = Quantised((*shape, table.shape[-1]), table.scales, table.zero_points[0])
    attributes = {"axis": 0, "batchDims": 0, **attributes}
    return builder.model(source, builder.op(OpKind.GATHER, [table, source], output, **attributes))


def words(bits=8, rows=11, length=7):
    """A graph of `words_model()` with its bit-width."""
    graph = read_graph(words_model(bits, rows, length))
    layers = tuple(LayerTraining(op.name, bits) for op in graph.ops if op.has_weights)
    return dataclasses.replace(graph, training=TrainingMetadata(layers))


def words_model(bits=8, rows=11, length=7) -> bytes:
    """A table, a convolution over what it says of each word, the largest over time, a dense layer.

    The words of a sample repeat.
    """
    random, builder = np.random.default_rng(bits), ModelBuilder()

    def weights(shape):
        limit = top(bits)
        scale = 1.5 / (limit * np.sqrt(np.prod(shape[1:])))
        return Quantised.constant(random.integers(-limit, limit + 1, shape).astype(np.int8), scale)

    source, table = builder.tensor(ids((1, length))), weights((rows, 5))
    x = builder.op(OpKind.GATHER, [table, source], Quantised((1, length, 5), table.scales), axis=0, batchDims=0)
    image = Quantised.constant(np.array((1, 1, length, 5), np.int32))
    x = builder.op(OpKind.RESHAPE, [x, image], Quantised((1, 1, length, 5), table.scales))
    convolution = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": 1}
    x = builder.op(OpKind.CONV_2D, [x, weights((6, 1, 3, 5))], Quantised((1, 1, length, 6), 0.02, -90), **convolution)
    window = {"strideH": 1, "strideW": length, "filterHeight": 1, "filterWidth": length, "padding": 1}
    x = builder.op(OpKind.MAX_POOL_2D, [x], Quantised((1, 1, 1, 6), 0.02, -90), **window)
    x = builder.op(OpKind.RESHAPE, [x, Quantised.constant(np.array((1, 6), np.int32))], Quantised((1, 6), 0.02, -90))
    x = builder.op(OpKind.FULLY_CONNECTED, [x, weights((4, 6))], Quantised((1, 4), 0.05), fusedActivationFunction=0)
    return builder.model(source, x)


def one_op(kind: OpKind, inputs, output: Quantised, **attributes) -> bytes:
    """A model whose first input is the network's; further computed inputs come from it through QUANTIZE."""
    builder, numbers, source = ModelBuilder(), [], None
    for tensor in inputs:
        if tensor is None:
            numbers.append(-1)
        elif tensor.data is None and source is not None:
            numbers.append(builder.op(OpKind.QUANTIZE, [source], tensor))
        else:
            numbers.append(builder.tensor(tensor))
            source = numbers[-1] if tensor.data is None else source
    return builder.model(source, builder.op(kind, numbers, output, **attributes))


def branched():
    """Tensors with two and three readers, ops that can work in place and ops that cannot."""
    random, image = np.random.default_rng(0), (1, 6, 6, 4)
    builder = ModelBuilder()

    def conv(source):
        weights = Quantised.constant(random.integers(-127, 128, (4, 3, 3, 4), np.int8), 0.01)
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": 1}
        return builder.op(OpKind.CONV_2D, [source, weights], Quantised(image, 0.1), **options)

    source = builder.tensor(Quantised(image, 0.1))
    first = conv(source)
    second = builder.op(OpKind.TANH, [conv(first)], Quantised(image, 1 / 128))
    third = builder.op(OpKind.ADD, [first, second], Quantised(image, 0.1))
    fourth = builder.op(OpKind.MUL, [third, third], Quantised(image, 0.1))
    joined = builder.op(OpKind.CONCATENATION, [third, fourth, first], Quantised((1, 6, 6, 12), 0.1), axis=3)
    return read_graph(builder.model(source, builder.op(OpKind.RELU, [joined], Quantised((1, 6, 6, 12), 0.1))))


def separable(bits=8):
    """A depthwise and a transposed convolution, padding, a difference, a mean, and activations of their own."""
    random, builder = np.random.default_rng(bits), ModelBuilder()
    same, valid, relu = {"padding": 0}, {"padding": 1}, {"fusedActivationFunction": 1}
    dilation = {"dilationHFactor": 1, "dilationWFactor": 1}

    def weights(shape, axis=0):
        limit = top(bits)
        scales = random.uniform(0.5, 1.0, shape[axis]) / (limit * np.sqrt(np.prod(shape) / shape[axis]))
        return Quantised.constant(random.integers(-limit, limit + 1, shape).astype(np.int8), 2 * scales, axis=axis)

    source = builder.tensor(Quantised((1, 7, 5, 3), 0.02))
    depthwise = {**same, **relu, **dilation, "strideH": 2, "strideW": 1, "depthMultiplier": 2}
    wide = Quantised((1, 4, 5, 6), 0.03, -100)
    x = builder.op(OpKind.DEPTHWISE_CONV_2D, [source, weights((1, 3, 3, 6), 3)], wide, **depthwise)
    x = builder.op(OpKind.LEAKY_RELU, [x], Quantised(wide.shape, 0.03, -90), alpha=0.2)
    pointwise = {**valid, **dilation, "strideH": 1, "strideW": 1, "fusedActivationFunction": 0}
    x = builder.op(OpKind.CONV_2D, [x, weights((4, 1, 1, 6))], Quantised((1, 4, 5, 4), 0.03), **pointwise)
    cells = Quantised.constant(np.array([(0, 0), (0, 1), (1, 0), (0, 0)], np.int32))
    x = builder.op(OpKind.PAD, [x, cells], Quantised((1, 5, 6, 4), 0.03))
    shape = Quantised.constant(np.array((1, 10, 12, 3), np.int32))
    up = {**same, "strideH": 2, "strideW": 2}
    x = builder.op(OpKind.TRANSPOSE_CONV, [shape, weights((3, 3, 2, 4)), x], Quantised((1, 10, 12, 3), 0.03), **up)
    y = builder.op(OpKind.HARD_SWISH, [x], Quantised((1, 10, 12, 3), 0.03))
    x = builder.op(OpKind.SUB, [x, y], Quantised((1, 10, 12, 3), 0.03), fusedActivationFunction=0)
    x = builder.op(OpKind.MEAN, [x, Quantised.constant(np.array([1, 2], np.int32))], Quantised((1, 3), 0.01))
    dense = {"fusedActivationFunction": 0}
    x = builder.op(OpKind.FULLY_CONNECTED, [x, weights((4, 3))], Quantised((1, 4), 0.02), **dense)
    x = builder.op(OpKind.SOFTMAX, [x], Quantised((1, 4), 1 / 256, -128), beta=1.0)
    graph = read_graph(builder.model(source, x))
    layers = tuple(LayerTraining(op.name, bits) for op in graph.ops if op.has_weights)
    return dataclasses.replace(graph, training=TrainingMetadata(layers))
