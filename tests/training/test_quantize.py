import subprocess
import sys

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import UnsupportedLayerError
from tests.training.conftest import chain, compiled, small_model

import keras  # isort: skip

L = keras.layers
FLAT = (8,)


def test_names_weights_and_outputs_stay(samples):
    source = small_model()
    model = rct.quantize(source, rct.Recipe(bits=8, headroom=1.0))
    assert [layer.name for layer in model.layers] == [
        "input", "input_range", "conv1", "norm", "relu", "conv1_range", "pool", "conv2", "conv2_range", "flatten",
        "dense", "dense_range",
    ]  # fmt: skip
    assert model.name == source.name
    expected = source.predict(samples[0], verbose=0)
    assert np.abs(model.predict(samples[0], verbose=0) - expected).max() < 0.05 * np.abs(expected).max()


def test_functional_and_pretrained_models_are_taken_over(samples):
    inputs = keras.Input((6, 6, 2), name="image")
    x = L.Conv2D(3, 3, strides=2, padding="same", name="c")(inputs)
    x = L.Activation("relu", name="a")(x)
    x = L.AveragePooling2D(2, padding="same")(x)
    x = L.Dropout(0.5)(x)
    x = L.Reshape((-1,))(x)
    x = L.Dense(8, name="d1")(x)
    x = L.BatchNormalization(name="n")(x)
    x = L.ReLU(max_value=6.0)(x)
    source = keras.Model(inputs, L.Dense(3, name="d2")(x))
    source(inputs)  # called again: the layers have a second use, outside of this network
    source.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    source.fit(*samples, epochs=2, verbose=0)
    before = [weight.copy() for weight in source.get_weights()]
    model = rct.quantize(source, rct.Recipe(bits=8, headroom=1.0))
    expected = source.predict(samples[0], verbose=0)
    assert np.abs(model.predict(samples[0], verbose=0) - expected).max() < 0.05 * np.abs(expected).max()
    compiled(model).fit(*samples, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, source.get_weights(), strict=True))


def branching():
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(2, 3, padding="same")(inputs)
    return keras.Model(inputs, L.Add(name="join")([x, inputs]))


def twice():
    inputs, layer = keras.Input(FLAT), L.Dense(8, name="shared")
    return keras.Model(inputs, layer(layer(inputs)))


class OwnDense(L.Dense):
    pass


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: chain(L.Dense(3, activation="softmax", name="head"), shape=FLAT),
         ["'head' (Dense)", "remove the softmax", "from_logits=True"]),
        (lambda: chain(L.Dense(3), L.Softmax(name="soft"), shape=FLAT), ["'soft' (Softmax)", "from_logits=True"]),
        (lambda: chain(L.Dense(3), L.Activation("softmax"), shape=FLAT), ["(Activation)", "from_logits=True"]),
        (lambda: chain(L.DepthwiseConv2D(3, name="depth"), L.Flatten(), L.Dense(3)),
         ["'depth' (DepthwiseConv2D)", "this class is not supported", "AveragePooling2D"]),
        (lambda: chain(L.Embedding(9, 4, name="e"), L.GlobalAveragePooling1D(name="g"), shape=FLAT),
         ["'e' (Embedding)", "'g' (GlobalAveragePooling1D)"]),
        (lambda: chain(L.Dense(3, activation="tanh", name="t"), shape=FLAT), ["'t' (Dense)", "it is tanh"]),
        (lambda: chain(L.Dense(3), L.ReLU(negative_slope=0.1), shape=FLAT), ["(ReLU)", "no slope"]),
        (lambda: chain(L.Conv2D(3, 3, dilation_rate=2)), ["dilation_rate and groups must be 1"]),
        (lambda: chain(L.Conv2D(4, 3, groups=2)), ["groups must be 1"]),
        (lambda: chain(L.Dense(3)), ["one axis beside the batch", "Flatten"]),
        (lambda: chain(L.Dense(3, kernel_regularizer="l2"), shape=FLAT), ["kernel_regularizer"]),
        (lambda: chain(L.Dense(3, kernel_constraint="max_norm"), shape=FLAT), ["kernel_constraint"]),
        (lambda: chain(L.Dense(3, activation="relu"), L.BatchNormalization(name="late"), shape=FLAT),
         ["'late' (BatchNormalization)", "directly follow a Conv2D or Dense without activation"]),
        (lambda: chain(L.BatchNormalization(name="first"), L.Dense(3), shape=FLAT), ["'first' (BatchNormalization)"]),
        (lambda: chain(L.Conv2D(3, 3), L.MaxPooling2D(), L.ReLU(name="late")), ["'late' (ReLU)", "fused"]),
        (lambda: chain(L.Conv2D(3, 3), L.BatchNormalization(axis=1)), ["axis must be the last one"]),
        (lambda: chain(L.Dense(3, dtype="float16"), shape=FLAT), ["dtype must be float32"]),
        (lambda: chain(L.Conv2D(3, 3), shape=(None, None, 2)), ["every dimension but the batch must be known"]),
        (lambda: chain(OwnDense(3, name="own"), shape=FLAT), ["'own' (OwnDense)"]),
        (lambda: chain(chain(L.Dense(3), shape=FLAT), shape=FLAT), ["'chain' (Sequential)"]),
        (lambda: chain(L.Flatten()), ["nothing to quantise"]),
        (branching, ["not a chain", "'join' (Add) with 2 inputs"]),
        (twice, ["not a chain", "'shared' (Dense)"]),
        (lambda: keras.Sequential([L.Dense(3)]), ["keras.Input"]),
        (lambda: rct.quantize(chain(L.Dense(3), shape=FLAT)), ["quantised already"]),
        (lambda: "model.keras", ["not a Keras model"]),
    ],
)  # fmt: skip
def test_what_cannot_be_quantised_is_named(model, words):
    with pytest.raises(UnsupportedLayerError) as caught:
        rct.quantize(model())
    assert [word for word in words if word not in str(caught.value)] == []


def test_hand_built_models(samples):
    inputs = keras.Input((6, 6, 2))
    x = rct.layers.ActivationRange()(inputs)
    x = rct.layers.Conv2D(4, (3, 2), activation="relu6", recipe=rct.Recipe(bits=7))(x)
    x = rct.layers.ActivationRange()(x)
    x = rct.layers.Dense(3, use_bias=False)(L.Flatten()(x))
    model = compiled(rct.RCTModel(inputs, rct.layers.ActivationRange()(x), seed=1))
    history = model.fit(*samples, epochs=8, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert [int(layer.bits) for layer in model.integer_weights] == [7, 6]


def test_the_package_imports_without_keras():
    code = (
        "import sys, rct_tflite; rct_tflite.Recipe(bits=6); dir(rct_tflite); "
        "assert not {'keras', 'tensorflow', 'rct_tflite.training'} & set(sys.modules); "
        "import rct_tflite as rct; assert rct.layers.Dense and rct.optimizers.SGD and 'keras' in sys.modules; "
        "assert all(hasattr(rct, name) for name in rct.__all__) and not hasattr(rct, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
