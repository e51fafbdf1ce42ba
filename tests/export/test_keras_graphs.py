"""Keras models with branches: exported, run as TFLite-Micro and as Keras do, and learn on the device."""

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.firmware.session import host_runner
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import OpKind
from rct_tflite.spec.quantization import top
from rct_tflite.tflite.oracle import layer_outputs
from rct_tflite.training.freeze import freeze
from tests.export.keras_graphs import GRAPHS, exported, observed
from tests.firmware.conftest import Case
from tests.keras_networks import conv, dense

import keras  # isort: skip

L = keras.layers
EVERY_GRAPH = pytest.mark.parametrize("name", GRAPHS)


@EVERY_GRAPH
def test_every_layer_equals_tflite_micro(name):
    export = exported(name)
    ours = ReferenceNetwork(export.graph).layer_outputs(export.inputs[:6])
    for output, values in zip(layer_outputs(export.tflite, export.inputs[:6]), ours, strict=True):
        np.testing.assert_array_equal(output.values.reshape(values.shape), values, err_msg=output.op.name)
        assert len(np.unique(values)) > 2, output.op.name


@EVERY_GRAPH
def test_it_computes_what_keras_predicts(name):
    """To the roundings of each layer, that are not Keras's."""
    export = exported(name)
    grid = export.network.layers[-1].output
    expected = export.model.predict(export.samples, verbose=0) / grid.scale
    got = ReferenceNetwork(export.graph).run(export.inputs).astype(float) - grid.zero_point
    assert np.ptp(expected) > 100
    assert np.abs(got - expected).mean() < 2.5
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.99


@EVERY_GRAPH
def test_the_integers_are_those_of_keras(name):
    export = exported(name)
    trained = {weight.label: weight for weight in export.model.integer_weights}
    layers = {layer.name: layer.weights for layer in export.network.layers if layer.weights is not None}
    assert trained.keys() <= layers.keys()
    for label, weights in layers.items():
        if label not in trained:  # batch normalisation that stands alone
            assert not weights.trainable
            continue
        integers = trained[label].integers.numpy()
        assert sorted(np.abs(integers.ravel())) == sorted(np.abs(weights.integers.ravel()))
        assert (weights.bits, np.abs(integers).max() <= top(weights.bits)) == (int(trained[label].bits.numpy()), True)


def kinds_of(name):
    return [op.kind.name for op in exported(name).graph.ops]


def test_reshapes_and_quantise_stand_only_where_they_must():
    assert kinds_of("sequence").count("RESHAPE") == 2  # the input, and what GlobalMaxPooling1D gives
    assert kinds_of("sequence").count("QUANTIZE") == 1
    assert kinds_of("dense block").count("QUANTIZE") == 4
    assert kinds_of("resnet") == [
        "CONV_2D", "CONV_2D", "CONV_2D", "ADD", "CONV_2D", "CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED",
    ]  # fmt: skip


def test_the_host_learns_the_bytes_of_the_reference(tmp_path):
    case = Case(tmp_path, exported("mobilenet").graph, "all", steps=12)
    assert case.learnt != ReferenceTrainer(case.graph, case.plan).parameter_block()
    assert case.learn(host_runner(case.build("host").image)) == case.learnt


def image_model(*layers, shape=(6, 6, 2)):
    x = source = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(source, dense(3)(L.Flatten()(x)), name="model")


def test_a_frozen_layer_may_be_used_twice():
    twice, x = conv(2, 3), keras.Input((5, 5, 2))
    twice.trainable = False
    model, _ = observed(keras.Model(x, dense(2)(L.Flatten()(twice(twice(x))))))
    first, second = (layer for layer in freeze(model).layers if layer.kind is OpKind.CONV_2D)
    assert np.array_equal(first.weights.integers, second.weights.integers)
    assert (second.name, second.weights.trainable) == (f"{first.name}_1", False)


def several_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    return keras.Model([a, b], dense(2)(L.Add()([a, b])))


def shared():
    twice, x = L.Dense(4, name="twice"), keras.Input((4,))
    return keras.Model(x, dense(2)(twice(twice(x))))


def recurrent(layer):
    x = keras.Input((5, 3))
    return keras.Model(x, dense(2)(layer(x)))


def words_model(*tables):
    words = keras.Input((5,), dtype="int32")
    x = [L.GlobalAveragePooling1D()(table(words)) for table in tables]
    return keras.Model(words, dense(2)(x[0] if len(x) == 1 else L.Add()(x)))


def broadcast():
    x = keras.Input((4, 4, 3))
    mask = L.Conv2D(1, 1, activation="sigmoid")(x)
    return keras.Model(x, dense(2)(L.Flatten()(L.Multiply(name="mask")([x, mask]))))


REFUSED = {
    "inputs": (several_inputs, "2 inputs"),
    "shared": (shared, r"'twice' \(Dense\): it is used 2 times.*trainable=False"),
    "LSTM": (lambda: recurrent(L.LSTM(4, name="memory")), r"'memory' \(LSTM\).*Conv1D"),
    "GRU": (lambda: recurrent(L.GRU(4, name="memory")), r"'memory' \(GRU\).*Conv1D"),
    "norm": (lambda: image_model(conv(2, 1), L.LayerNormalization(name="norm")), r"'norm'.*BatchNormalization"),
    "broadcast": (broadcast, r"'mask' \(Multiply\).*repeat the other as a whole"),
    "dilation": (lambda: image_model(L.Conv2D(2, 3, dilation_rate=2, name="wide")), r"'wide'.*dilation_rate"),
    "activation": (lambda: image_model(L.Conv2D(2, 3, activation="gelu", name="soft")), r"'soft'.*but it is gelu"),
    "ReLU": (lambda: image_model(conv(2, 1), L.ReLU(max_value=1.0, name="short")), r"'short'.*max_value 1.0"),
    "mask": (lambda: words_model(L.Embedding(9, 3, mask_zero=True, name="table")), "'table'.*mask_zero must be False"),
    "rows": (lambda: words_model(L.Embedding(70000, 3, name="table")), "'table'.*input_dim must be at most 65535"),
    "two tables of one": (lambda: words_model(*[L.Embedding(9, 3, name="table")] * 2), "'table'.*used 2 times"),
    "softmax": (lambda: keras.Sequential([keras.Input((3,)), L.Dense(2, "softmax", name="end")]), "'end'.*logits"),
    "sigmoid": (lambda: keras.Sequential([keras.Input((3,)), L.Dense(1, "sigmoid", name="end")]), "'end'.*logits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_device_cannot_run_is_named(case):
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedLayerError, match=message):
        freeze(rct.quantize(make()))


def test_a_table_has_one_scale():
    model = rct.quantize(words_model(L.Embedding(9, 3, name="table")), recipe=rct.Recipe(per_channel=True))
    with pytest.raises(UnsupportedLayerError, match=r"'table'.*one scale.*Rule\('table', per_channel=False\)"):
        freeze(model)


def test_the_table_is_a_gather_and_nothing_stands_before_it():
    assert kinds_of("words")[:2] == ["GATHER", "GATHER"]
    tensors, ops = exported("words").graph.tensors, exported("words").graph.ops
    assert tensors[ops[0].inputs[0]].dtype == np.int32
    assert tensors[ops[0].output].scale == tensors[ops[0].inputs[1]].scale
    assert kinds_of("words").count("QUANTIZE") == 1  # of tanh, before the join
