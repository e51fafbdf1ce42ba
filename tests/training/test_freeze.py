import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.export.tflite_export import export_tflite
from rct_tflite.spec.graph import Activation, OpKind, Padding, TrainingMetadata
from rct_tflite.spec.quantization import narrowed, top
from rct_tflite.tflite.reader import read_graph
from rct_tflite.training.freeze import freeze
from tests.training.conftest import chain, compiled, small_model

import keras  # isort: skip
import tensorflow as tf  # isort: skip

L = keras.layers


def rounded(values, q):
    return (np.clip(np.rint(values / q.scale) + q.zero_point, -128, 127) - q.zero_point) * q.scale


def windows(x, options, size, fill):
    """(batch, rows, columns, channels, kernel_h, kernel_w)."""
    strides = (options.stride_h, options.stride_w)
    pads = [(0, 0), (0, 0)]
    if options.padding is Padding.SAME:
        for axis in (0, 1):
            total = max(
                (-(-x.shape[axis + 1] // strides[axis]) - 1) * strides[axis] + size[axis] - x.shape[axis + 1], 0
            )
            pads[axis] = (total // 2, total - total // 2)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, size, (1, 2))[:, :: strides[0], :: strides[1]]


def run(layer, x):
    """One layer of a frozen network in float64: the meaning that the exporter relies on."""
    if layer.kind is OpKind.RESHAPE:
        return x.reshape(len(x), *layer.output_shape)
    if layer.weights is None:
        options = layer.options
        patches = windows(x, options, (options.filter_h, options.filter_w), np.nan)
        return np.nanmax(patches, (-2, -1)) if layer.kind is OpKind.MAX_POOL_2D else np.nanmean(patches, (-2, -1))
    q = layer.weights.integers
    weights = q * layer.weights.scales.reshape(-1, *[1] * (q.ndim - 1))
    if layer.kind is OpKind.CONV_2D:
        y = np.einsum("brcihw,ohwi->brco", windows(x, layer.options, weights.shape[1:3], 0.0), weights)
    else:
        y = x @ weights.T
    limits = {Activation.NONE: (-np.inf, np.inf), Activation.RELU: (0, np.inf), Activation.RELU6: (0, 6)}
    return rounded(np.clip(y + layer.weights.bias, *limits[layer.options.activation]), layer.output)


def evaluate(network, x):
    x = rounded(x.astype(np.float64), network.input)
    for layer in network.layers:
        x = run(layer, x)
        assert x.shape[1:] == layer.output_shape
    return x


def another_model():
    keras.utils.set_random_seed(1)
    return chain(
        L.Conv2D(6, (3, 2), strides=2, padding="same", name="conv"),
        L.BatchNormalization(momentum=0.8, scale=False),
        L.ReLU(max_value=6.0),
        L.AveragePooling2D((2, 1), padding="same", name="average"),
        L.Dropout(0.2),
        L.Reshape((-1,), name="reshape"),
        L.Dense(7, activation="relu", name="hidden"),
        L.Dense(5, use_bias=False, name="mixed"),
        L.BatchNormalization(momentum=0.8),
        L.Activation("relu"),
        L.Dense(3, name="logits"),
    )


def fitted(model, samples, recipe=None, epochs=3):
    model = compiled(rct.quantize(model, recipe))
    model.fit(*samples, epochs=epochs, batch_size=16, verbose=0)
    return model


def observed(model, samples, recipe=None):
    """A quantised model that has seen data, but has not learned."""
    model = rct.quantize(model, recipe)
    for _ in range(3):
        model(samples[0], training=True)
    return model


@pytest.mark.parametrize("build", [small_model, another_model])
@pytest.mark.parametrize("recipe", [rct.Recipe(bits=6), rct.Recipe(bits=8, max_bits=12, per_channel=True)], ids=str)
def test_the_frozen_network_computes_what_keras_predicts(samples, build, recipe):
    model = fitted(build(), samples, recipe)
    for layer in model.layers:  # signs and sizes that a short training does not reach
        if isinstance(layer, L.BatchNormalization) and layer.scale:
            layer.gamma.assign(np.resize([1.2, -0.7, 0.0, 1e-9, 0.4], layer.gamma.shape))
    network = freeze(model)
    expected, got = model.predict(samples[0], verbose=0), evaluate(network, samples[0])
    assert np.ptp(expected) > 10 * network.layers[-1].output.scale
    steps = np.abs(got - expected) / network.layers[-1].output.scale
    assert steps.max() < 2.0
    assert steps.mean() < 0.5


def test_the_integers_are_those_that_were_trained(samples):
    model = observed(small_model(), samples)
    norm = model.get_layer("norm")
    norm.gamma.assign([1.0, -2.0, 0.5, -0.1, 0.0])
    network = freeze(model)
    assert [layer.name for layer in network.layers] == ["conv1", "pool", "conv2", "flatten", "dense"]
    conv1, pool, conv2, flatten, dense = network.layers
    trained = model.get_layer("conv1").integer_weights[0].integers.numpy()
    assert np.array_equal(conv1.weights.integers[:4], np.moveaxis(trained * np.array([1, -1, 1, -1, 0]), -1, 0)[:4])
    assert not conv1.weights.integers[4].any()
    gain = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    expected = float(model.get_layer("conv1").integer_weights[0].scale) * np.abs(gain)
    assert np.allclose(conv1.weights.scales[:4], expected[:4], rtol=2**-12)
    assert 0.0 < conv1.weights.scales[4] < 1e-3 * expected.max()
    assert np.allclose(conv1.weights.bias, norm.beta.numpy() - norm.moving_mean.numpy() * gain, atol=1e-6)
    for name, layer in (("conv2", conv2), ("dense", dense)):
        source = model.get_layer(name)
        assert np.array_equal(layer.weights.integers, np.moveaxis(source.integer_weights[0].integers.numpy(), -1, 0))
        assert np.array_equal(layer.weights.bias, source.bias.numpy())
        assert layer.weights.scales.shape == (1,)
        assert layer.weights.bits == 6
    assert (conv1.output.zero_point, conv2.output.zero_point) == (-128, -128)  # after a ReLU
    assert pool.output == conv1.output
    assert flatten.output == conv2.output
    assert (network.input_shape, network.rounding, network.name) == ((6, 6, 2), "stochastic", "chain")
    assert all(np.frexp(scale)[0] * 2**12 % 1 == 0 for scale in conv1.weights.scales)


@pytest.mark.parametrize("gamma", [0.0, 1e-30])
def test_a_layer_that_is_switched_off_has_usable_scales(samples, gamma):
    model = observed(small_model(), samples)
    model.get_layer("norm").gamma.assign([gamma] * 5)
    weights = freeze(model).layers[0].weights
    assert np.abs(weights.integers).max() <= top(6)
    bias = weights.bias / weights.scales
    assert np.isfinite(bias).all() or gamma


def test_frozen_layers_are_marked(samples):
    source = small_model()
    source.get_layer("conv1").trainable = False
    flags = [layer.weights.trainable for layer in freeze(observed(source, samples)).layers if layer.weights]
    assert flags == [False, True, True]


def test_wide_layers_ship_at_both_widths(samples):
    """The file's int8 tensor holds them rounded, its metadata as they are."""
    model = observed(small_model(), samples, rct.Recipe(bits=8, max_bits=16))
    narrow = freeze(model).layers[2].weights
    assert narrow.wide is None
    weight = model.get_layer("conv2").integer_weights[0]
    weight.set_bits(12)
    weight.integers.assign_add(3 * tf.ones_like(weight.integers))
    network = freeze(model)
    wide = network.layers[2].weights
    assert np.array_equal(wide.wide, np.moveaxis(weight.integers.numpy(), -1, 0))
    assert np.array_equal(wide.integers, narrowed(wide.wide, 12))
    assert np.array_equal(wide.scales, narrow.scales)
    graph = read_graph(export_tflite(network, TrainingMetadata()))
    assert [graph.bits_of(op) for op in graph.ops if op.has_weights] == [8, 12, 8]
    assert np.array_equal(graph.wide["conv2"], wide.wide)


def test_untrained_and_foreign_models_are_refused():
    with pytest.raises(QuantizationError, match=r"'input_range'.*at least one batch"):
        freeze(rct.quantize(small_model()))
    with pytest.raises(UnsupportedLayerError, match="Sequential"):
        freeze(small_model())


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ([rct.layers.Dense(3, name="bare")], "no quantisation"),
        ([rct.layers.ActivationRange(), rct.layers.Dense(3, name="bare")], "'bare'"),
        ([rct.layers.ActivationRange(), L.Softmax(name="soft")], "'soft'"),
        ([rct.layers.ActivationRange(), L.Dense(3, name="float")], "'float'"),
        ([rct.layers.ActivationRange(), L.Flatten(), rct.layers.ActivationRange(name="stray")], "'stray'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_hand_built_models_are_refused(layers, word):
    inputs = outputs = keras.Input((4,))
    for layer in layers:
        outputs = layer(outputs)
    model = rct.RCTModel(inputs, outputs)
    for layer in model.layers:
        if isinstance(layer, rct.layers.ActivationRange):
            layer.maximum.assign(1.0)
    with pytest.raises(UnsupportedLayerError, match=word):
        freeze(model)
