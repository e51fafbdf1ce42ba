"""Any `.tflite` enters by the reader: ours, a plain Keras one, or an error that says why not."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from rct_tflite.errors import ModelFileError, RCTError, UnsupportedLayerError
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.spec.graph import Activation, OpKind
from rct_tflite.tflite.flatfile import load_model, pack_model
from rct_tflite.tflite.oracle import layer_outputs
from rct_tflite.tflite.patch import find_weights, replace_weights
from rct_tflite.tflite.reader import read_graph, unique_identifiers
from tests.tflite.networks import exported
from tests.tflite.one_op import ModelBuilder, Quantised, gather, ids, one_op


def quantise(*layers, batch=1, integer=True):
    """A plain Keras model through TFLiteConverter's post-training quantisation; nothing of ours."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input(batch_shape=(batch, 8, 8, 1)), *layers])
    lite = tf.lite.TFLiteConverter.from_keras_model(model)
    if integer:
        samples = np.random.default_rng(0).normal(size=(20, 1, 8, 8, 1)).astype(np.float32)
        lite.optimizations = [tf.lite.Optimize.DEFAULT]
        lite.representative_dataset = lambda: ([sample] for sample in samples)
        lite.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        lite.inference_input_type = lite.inference_output_type = tf.int8
    return lite.convert()


@pytest.fixture(scope="module")
def plain():
    return quantise(
        keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(3, 2, strides=2, use_bias=False, name="second"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, activation="relu"),
        keras.layers.Dense(2, use_bias=False),
    )


def test_plain_keras_file_is_read_and_runs(plain, tmp_path):
    path = tmp_path / "plain.tflite"
    path.write_bytes(plain)
    graph = read_graph(path)
    kinds = [OpKind.CONV_2D, OpKind.MAX_POOL_2D, OpKind.CONV_2D, OpKind.RESHAPE, *[OpKind.FULLY_CONNECTED] * 2]
    assert [op.kind for op in graph.ops] == kinds
    assert graph.name == "plain"
    assert graph.training.layers == ()
    assert all(op.name.isidentifier() for op in graph.ops)
    assert len({op.name for op in graph.ops}) == len(graph.ops)
    assert graph.ops[0].options.activation is Activation.RELU
    bias = graph.tensors[graph.ops[-1].inputs[2]]  # the file holds none
    assert (bias.shape, bias.dtype, bias.data.any()) == ((2,), np.int32, np.False_)
    inputs = np.random.default_rng(1).integers(-128, 128, (40, 8, 8, 1), np.int8)
    for mine, output in zip(ReferenceNetwork(graph).layer_outputs(inputs), layer_outputs(plain, inputs), strict=True):
        np.testing.assert_array_equal(mine, output.values[:, 0])


def test_new_weights_where_biases_are_absent_or_shared():
    # The converter gives both convolutions one bias of zeros, and the dense layers none.
    model = quantise(
        keras.layers.Conv2D(4, 3, use_bias=False, activation="relu"),
        keras.layers.Conv2D(4, 3, use_bias=False),
        keras.layers.Flatten(),
        keras.layers.Dense(4, use_bias=False),
        keras.layers.Dense(2, use_bias=False),
    )
    spans = [place.bias for place in find_weights(model)]
    assert spans[0] == spans[1]
    assert spans[2:] == [None, None]
    graph, random = read_graph(model), np.random.default_rng(3)
    new = {}
    for op in graph.ops[:-1]:  # the last layer stays
        if op.has_weights:
            weights, bias = (graph.tensors[index].shape for index in op.inputs[1:])
            new[op.name] = random.integers(-127, 128, weights, np.int8), random.integers(-500, 500, bias, np.int32)
    patched = replace_weights(model, new)
    after = read_graph(patched)
    for op in after.ops:
        for index, expected in zip(op.inputs[1:], new.get(op.name, ()), strict=False):
            np.testing.assert_array_equal(after.tensors[index].data, expected)
    assert find_weights(patched)[-1].bias is None
    inputs = random.integers(-128, 128, (20, 8, 8, 1), np.int8)
    reference = ReferenceNetwork(after).layer_outputs(inputs)
    for mine, output in zip(reference, layer_outputs(patched, inputs), strict=True):
        np.testing.assert_array_equal(mine, output.values[:, 0])


def test_every_unsupported_op_is_named():
    model = quantise(
        keras.layers.UpSampling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="elu"),
    )
    with pytest.raises(UnsupportedLayerError, match=r"TILE \(tensor .*; ELU \(tensor") as raised:
        read_graph(model)
    assert all(kind.name in str(raised.value) for kind in OpKind)


def test_a_free_batch_is_explained():
    model = quantise(keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2), batch=None)
    with pytest.raises(UnsupportedLayerError, match=r"SHAPE .*Export with a fixed batch"):
        read_graph(model)


def test_a_float_model_is_refused():
    with pytest.raises(UnsupportedLayerError, match="CONV_2D on FLOAT32 "):
        read_graph(quantise(keras.layers.Conv2D(2, 3), integer=False))


def edited(change):
    model = load_model(exported())
    change(model, model.subgraphs[0])
    return pack_model(model)


def set_attribute(index, name, value):
    def change(model, subgraph):
        setattr(subgraph.operators[index].builtinOptions, name, value)

    return change


def set_tensor(index, name, value):
    def change(model, subgraph):
        setattr(subgraph.tensors[index], name, value)

    return change


def set_quantization(index, name, value):
    dtype = {"scale": np.float32, "zeroPoint": np.int64}[name]

    def change(model, subgraph):
        setattr(subgraph.tensors[index].quantization, name, np.array(value, dtype))

    return change


def set_inputs(index, inputs):
    def change(model, subgraph):
        subgraph.operators[index].inputs = inputs

    return change


# Tensors of the network: 0 input, 1 weights, 2 bias, 3 conv, 4 pool, 5 weights, 6 bias, 7 conv, 8 pool, 9 shape,
# 10 reshape, 11 weights, 12 bias, 13 dense, 14 weights, 15 bias, 16 output.
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_attribute(0, "dilationHFactor", 2), UnsupportedLayerError, "dilation 2x1"),
        (set_attribute(0, "fusedActivationFunction", 2), UnsupportedLayerError, "fused activation 2"),
        (set_attribute(0, "padding", 2), ModelFileError, "unknown padding"),
        (set_attribute(1, "strideW", 0), ModelFileError, "out of range"),
        (set_attribute(1, "filterWidth", 4), ModelFileError, "does not follow"),
        (set_attribute(5, "weightsFormat", 1), UnsupportedLayerError, "shuffled weights"),
        (set_tensor(0, "shape", [2, 10, 9, 2]), UnsupportedLayerError, "batch 1"),
        (set_tensor(0, "shape", [1, 10, -9, 2]), ModelFileError, "impossible shape"),
        (set_tensor(1, "buffer", 0), UnsupportedLayerError, "computed at run time"),
        (set_tensor(1, "buffer", 99), ModelFileError, "no buffer 99"),
        (set_tensor(1, "shape", [4, 3, 3, 1]), ModelFileError, "wrong length"),
        (set_tensor(1, "type", 17), UnsupportedLayerError, "CONV_2D on INT4 'conv_2d_0/weights'"),
        (set_tensor(2, "type", 4), UnsupportedLayerError, "CONV_2D on INT64"),
        (set_tensor(16, "type", 0), UnsupportedLayerError, "not quantised to int8"),
        (set_tensor(3, "name", "conv_2d_2"), ModelFileError, "must differ"),
        (set_tensor(7, "name", "other"), ModelFileError, "names layers that the file does not hold"),
        (set_tensor(16, "shape", [1, 4]), ModelFileError, "does not follow"),
        (set_quantization(1, "zeroPoint", [0, 1, 0, 0]), UnsupportedLayerError, "symmetric"),
        (set_quantization(1, "scale", [1.0, 1.0]), ModelFileError, "damaged scales"),
        (set_quantization(3, "scale", [-1.0]), ModelFileError, "damaged scales"),
        (set_quantization(3, "zeroPoint", [128]), ModelFileError, "out of int8"),
        (set_quantization(4, "scale", [1.0]), UnsupportedLayerError, "keep its input's scale"),
        (set_inputs(0, [0]), ModelFileError, "wrong number of tensors"),
        (set_inputs(1, [0]), ModelFileError, "does not follow"),
        (set_inputs(1, [16]), UnsupportedLayerError, "which no op before it writes"),
        (set_inputs(1, [77]), ModelFileError, "no tensor 77"),
        (lambda model, subgraph: setattr(subgraph, "outputs", [3]), UnsupportedLayerError, "does not write the output"),
        (lambda model, subgraph: setattr(subgraph, "inputs", [0, 3]), UnsupportedLayerError, "one input"),
        (lambda model, subgraph: setattr(subgraph, "operators", []), ModelFileError, "no ops"),
        (lambda model, subgraph: model.subgraphs.append(subgraph), UnsupportedLayerError, "one subgraph"),
        (lambda model, subgraph: setattr(model, "version", 2), ModelFileError, "version of the .tflite schema"),
    ],
)
def test_contradictions_are_named(change, error, message):
    with pytest.raises(error, match=message):
        read_graph(edited(change))


def test_an_op_that_leads_nowhere_is_named():
    builder, vector = ModelBuilder(), Quantised((1, 4), 0.1)
    source = builder.tensor(vector)
    unread = builder.op(OpKind.RELU, [source], vector)
    model = builder.model(source, builder.op(OpKind.RELU, [source], vector))
    with pytest.raises(UnsupportedLayerError, match=rf"Received: \['t{unread}'\], which is never read"):
        read_graph(model)


def kept(shape, scale=0.1):
    return Quantised(shape, scale, 3)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "attributes", "error", "message"),
    [
        (
            OpKind.ADD,
            [kept((1, 4, 4, 2)), Quantised.constant(np.ones((4, 4, 1), np.int8))],
            kept((1, 4, 4, 2)),
            {},
            ModelFileError,
            "fit together",
        ),
        (
            OpKind.CONCATENATION,
            [kept((1, 4)), kept((1, 4))],
            kept((2, 4)),
            {"axis": 0},
            UnsupportedLayerError,
            "batch 1",
        ),
        (
            OpKind.CONCATENATION,
            [kept((1, 4)), kept((1, 4), 0.2)],
            kept((1, 8)),
            {"axis": 1},
            UnsupportedLayerError,
            "keep",
        ),
        (OpKind.SOFTMAX, [kept((1, 4))], kept((1, 4)), {"beta": 1.0}, UnsupportedLayerError, "scale 0.00390625"),
        (
            OpKind.MEAN,
            [kept((1, 4, 4, 2)), Quantised.constant(np.array([3], np.int32))],
            kept((1, 4, 4)),
            {},
            UnsupportedLayerError,
            "over height and width",
        ),
        (
            OpKind.PAD,
            [kept((1, 4)), Quantised.constant(np.array([[0, 0], [-1, 2]], np.int32))],
            kept((1, 5)),
            {},
            ModelFileError,
            "impossible padding",
        ),
    ],
)
def test_ops_that_do_not_fit_are_explained(kind, inputs, output, attributes, error, message):
    with pytest.raises(error, match=message):
        read_graph(one_op(kind, inputs, output, **attributes))


TABLE = Quantised.constant(np.arange(-6, 6).astype(np.int8).reshape(4, 3), 0.1, 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (gather(TABLE, (1, 3), axis=1), "GATHER with axis 1 and 0 batch dimensions"),
        (gather(TABLE, (1, 3), batchDims=1), "GATHER with axis 0 and 1 batch dimensions"),
        (gather(TABLE, (2, 3)), "batch 1"),
        (gather(Quantised.constant(np.zeros((2, 2, 3), np.int8), 0.1), (1, 3)), "must have 2 dimensions"),
        (gather(Quantised.constant(np.zeros((4, 3), np.int32)), (1, 3)), "GATHER on INT32 't"),
        (one_op(OpKind.RELU, [ids((1, 4))], kept((1, 4))), "RELU on INT32"),
        (
            one_op(
                OpKind.GATHER,
                [kept((1, 3)), Quantised.constant(np.zeros((1, 2), np.int32))],
                kept((1, 2, 3)),
                axis=0,
                batchDims=0,
            ),
            "reads ids that are computed or constant",
        ),
    ],
)
def test_other_gathers_are_refused(model, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        read_graph(model)


def test_an_unchanged_copy_is_equal():
    assert edited(lambda model, subgraph: None) == exported()


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 8, b"\x08\0\0\0TFL3", b"\xff" * 4 + b"TFL3" + b"\xff" * 64])
def test_other_files_are_refused(data):
    with pytest.raises(ModelFileError):
        read_graph(data)


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(ModelFileError, match="Cannot read the model file"):
        read_graph(tmp_path / "nothing.tflite")


def is_read(data):
    """Whether a file gives a graph; an error of ours is the only other way out."""
    with contextlib.suppress(RCTError):
        return bool(read_graph(data).ops)
    return False


def test_truncated_files_give_errors():
    whole = exported()
    for length in range(0, len(whole) - 16, 7):
        assert not is_read(whole[:length]) or length > len(whole) // 2


def test_flipped_bytes_give_a_graph_or_an_error():
    rng = np.random.default_rng(12)
    results = set()
    for _ in range(500):
        data = bytearray(exported())
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        results.add(is_read(bytes(data)))
    assert results == {True, False}


def test_names_become_identifiers():
    assert unique_identifiers(["a;b", "a b", "", "7", "a_b_1"]) == ["a_b", "a_b_1", "op", "op_7", "a_b_1_1"]
