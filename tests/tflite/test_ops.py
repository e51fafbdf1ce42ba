"""Every op of the reference equals TFLite-Micro, over scales, zero points, shapes and all int8 values."""

import numpy as np
import pytest

from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.spec.graph import PAIR_KINDS, OpKind
from rct_tflite.tflite.oracle import layer_outputs
from rct_tflite.tflite.reader import read_graph
from tests.tflite.one_op import Quantised, gather, one_op

EVERY_VALUE = np.arange(-128, 128).astype(np.int8)
FIXED = {OpKind.LOGISTIC: (1 / 256, -128), OpKind.TANH: (1 / 128, 0), OpKind.SOFTMAX: (1 / 256, -128)}
SCALES = [*np.float32([1e-4, 0.004, 0.0157, 1 / 32, 0.047, 0.1, 0.32, 1.0, 2.9]), *np.geomspace(0.003, 0.5, 12)]
SAME, VALID = 0, 1


def check(model, inputs):
    graph = read_graph(model)
    reference = ReferenceNetwork(graph).layer_outputs(inputs)
    for mine, output in zip(reference, layer_outputs(model, inputs), strict=True):
        np.testing.assert_array_equal(mine, output.values[:, 0], err_msg=output.op.kind.name)


def values(shape, count=4, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape[1:]), np.int8)


@pytest.mark.parametrize("zero_point", [-128, -5, 0, 127])
@pytest.mark.parametrize(
    ("kind", "ratios", "attributes"),
    [
        (OpKind.RELU, (0.5, 1.0, 1.7), {}),
        (OpKind.RELU6, (1.0,), {}),
        (OpKind.LEAKY_RELU, (0.3, 1.0, 1.2), {"alpha": 0.3}),
        (OpKind.LEAKY_RELU, (1.0,), {"alpha": -0.25}),
        (OpKind.HARD_SWISH, (0.2, 0.9, 1.0), {}),
        (OpKind.LOGISTIC, (1.0,), {}),
        (OpKind.TANH, (1.0,), {}),
        (OpKind.QUANTIZE, (0.01, 0.5, 1.0, 3.3), {}),
    ],
)
def test_tables(kind, ratios, attributes, zero_point):
    for scale in SCALES:
        for ratio in ratios:
            shape, there = (1, 256), (np.float32(scale / ratio), zero_point)
            if kind is OpKind.RELU6:
                there = (scale, zero_point)
                if round(6 / scale) + zero_point > 127:
                    there = (scale, min(zero_point, 127))
            output = Quantised(shape, *FIXED.get(kind, there if kind is OpKind.RELU6 else (there[0], -zero_point // 2)))
            if kind is OpKind.HARD_SWISH and scale / 128 / float(output.scales[0]) >= 1:
                continue
            check(one_op(kind, [Quantised(shape, scale, zero_point)], output, **attributes), EVERY_VALUE[None])


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_softmax(beta):
    for scale in SCALES[1:]:
        for classes in (1, 2, 10, 300):
            model = one_op(
                OpKind.SOFTMAX,
                [Quantised((1, classes), scale, 3)],
                Quantised((1, classes), *FIXED[OpKind.SOFTMAX]),
                beta=beta,
            )
            check(model, np.concatenate([values((1, classes)), values((1, classes)) // 16]))
    model = one_op(OpKind.SOFTMAX, [Quantised((1, 3, 4, 5), 0.1)], Quantised((1, 3, 4, 5), 1 / 256, -128), beta=beta)
    check(model, values((1, 3, 4, 5)))


@pytest.mark.parametrize("activation", [0, 1, 3])
@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_pairs(kind, activation):
    shape = (1, 4, 3, 5)
    for seed, (one, other, result) in enumerate(
        [(0.1, 0.1, 0.2), (0.013, 0.4, 0.41), (0.5, 0.02, 0.3), (0.07, 0.06, 0.004)]
    ):
        random = np.random.default_rng(seed)
        points = random.integers(-128, 128, 3).tolist()
        output = Quantised(shape, result, points[2])
        first, second = Quantised(shape, one, points[0]), Quantised(shape, other, points[1])
        check(one_op(kind, [first, second], output, fusedActivationFunction=activation), values(shape, seed=seed))
        for part in ((1, 1, 1, 5), (5,), (1,), (3, 5), shape):
            constant = Quantised.constant(random.integers(-128, 128, part, np.int8), other, points[1])
            for operands in ([first, constant], [constant, first]):
                check(one_op(kind, operands, output, fusedActivationFunction=activation), values(shape, seed=seed))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 7), (24, 24)])
def test_mean(size, kept):
    for scales in ((0.1, 0.1), (0.1, 0.03), (0.02, 0.3)):
        shape = (1, *size, 6)
        output = Quantised((1, 1, 1, 6) if kept else (1, 6), scales[1], 17)
        axes = Quantised.constant(np.array([1, 2], np.int32))
        check(one_op(OpKind.MEAN, [Quantised(shape, scales[0], -20), axes], output, keepDims=kept), values(shape))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation(axis):
    shape = [1, 3, 4, 2]
    out = list(shape)
    out[axis] *= 3
    part = Quantised(shape, 0.1, 4)
    check(one_op(OpKind.CONCATENATION, [part, part, part], Quantised(out, 0.1, 4), axis=axis), values(shape))


@pytest.mark.parametrize("cells", [[(0, 0), (1, 2), (0, 3), (2, 0)], [(0, 0), (4, 1)]])
def test_pad(cells):
    shape = (1, 3, 4, 2)[: len(cells)]
    out = [size + before + after for size, (before, after) in zip(shape, cells, strict=True)]
    constant = Quantised.constant(np.array(cells, np.int32))
    check(one_op(OpKind.PAD, [Quantised(shape, 0.1, -7), constant], Quantised(out, 0.1, -7)), values(shape))


def weighted(kind, shape, weights_shape, out_shape, seed, per_channel, bias=True, **attributes):
    """A model with weights over the whole of int8, -128 among them."""
    random, axis = np.random.default_rng(seed), 3 if kind is OpKind.DEPTHWISE_CONV_2D else 0
    channels = weights_shape[axis]
    scales = random.uniform(0.001, 0.01, channels if per_channel else 1)
    data = random.integers(-128, 128, weights_shape, np.int8)
    data.flat[0] = -128
    inputs = [
        Quantised(shape, 0.05, int(random.integers(-128, 128))),
        Quantised.constant(data, scales, axis=axis),
        Quantised.constant(random.integers(-3000, 3000, channels).astype(np.int32), 0.05 * scales) if bias else None,
    ]
    if not bias and kind is not OpKind.FULLY_CONNECTED:
        inputs.pop()
    if kind is OpKind.TRANSPOSE_CONV:
        inputs = [Quantised.constant(np.array(out_shape, np.int32)), inputs[1], inputs[0], *inputs[2:]]
    output = Quantised(out_shape, 0.2, int(random.integers(-128, 128)))
    return one_op(kind, inputs, output, **attributes)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_weighted(per_channel, bias, activation):
    act = {"fusedActivationFunction": activation}
    same = {**act, "strideH": 2, "strideW": 1, "padding": SAME}
    valid = {**same, "padding": VALID}
    dilation = {"dilationHFactor": 1, "dilationWFactor": 1}
    depthwise = {**dilation, "depthMultiplier": 1}
    rows = [
        (OpKind.FULLY_CONNECTED, (1, 7), (5, 7), (1, 5), act),
        (OpKind.CONV_2D, (1, 6, 5, 3), (4, 3, 2, 3), (1, 3, 5, 4), {**same, **dilation}),
        (OpKind.DEPTHWISE_CONV_2D, (1, 6, 5, 3), (1, 3, 2, 3), (1, 3, 5, 3), {**same, **depthwise}),
        (
            OpKind.DEPTHWISE_CONV_2D,
            (1, 6, 5, 2),
            (1, 3, 3, 6),
            (1, 2, 3, 6),
            {**valid, **depthwise, "depthMultiplier": 3},
        ),
        (OpKind.TRANSPOSE_CONV, (1, 3, 5, 3), (4, 3, 2, 3), (1, 6, 5, 4), same),
        (OpKind.TRANSPOSE_CONV, (1, 3, 4, 2), (3, 3, 2, 2), (1, 7, 5, 3), valid),
        (OpKind.TRANSPOSE_CONV, (1, 3, 4, 2), (3, 1, 1, 2), (1, 6, 4, 3), same),
    ]
    for seed, (kind, shape, weights, out, attributes) in enumerate(rows):
        check(weighted(kind, shape, weights, out, seed, per_channel, bias, **attributes), values(shape))


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
@pytest.mark.parametrize(("shape", "rows", "depth"), [((1,), 3, 5), ((1, 6), 300, 8), ((1, 4, 3), 70, 1)])
def test_gather(shape, rows, depth, zero_point):
    random = np.random.default_rng(rows)
    table = Quantised.constant(random.integers(-128, 128, (rows, depth), np.int8), 0.03, zero_point)
    ids = random.integers(0, rows, (5, *shape[1:])).astype(np.int32)
    ids.reshape(-1)[:2] = 0, rows - 1
    check(gather(table, shape), ids)
