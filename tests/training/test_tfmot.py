import os

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.tf_keras_models import tf_keras, tfmot, to_tf_keras
from rct_tflite.training.tfmot_bridge import quantization_aware
from tests.training.conftest import chain, compiled, small_model

import keras  # isort: skip

L = keras.layers


def branches():
    inputs = keras.Input((6, 6, 2))
    first = L.Conv2D(4, 3, padding="same", use_bias=False, name="first")(inputs)
    first = L.ReLU(max_value=6.0, name="relu")(L.BatchNormalization(name="norm")(first))
    second = L.BatchNormalization(name="norm2")(L.Conv2D(4, 3, padding="same", name="second")(first))
    joined = L.ReLU(name="joined")(L.Add(name="add")([first, second]))
    return keras.Model(inputs, L.Dense(3, name="dense")(L.GlobalAveragePooling2D(name="pool")(joined)), name="branches")


def text():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32", name="words"),
            L.Embedding(300, 4, name="embedding"),
            L.Conv1D(6, 3, activation="relu", name="conv"),
            L.GlobalMaxPooling1D(name="pool"),
            L.Dense(3, name="dense"),
        ]
    )


def shared_and_nested():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="tanh", name="shared")], name="inner")
    inputs = keras.Input((4,))
    return keras.Model(inputs, L.Concatenate(name="both")([inner(inner(inputs)), inputs]))


def words():
    return np.random.default_rng(0).integers(0, 300, (32, 5)).astype(np.int32)


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (small_model, floats(4, 6, 6, 2)),
        (branches, floats(4, 6, 6, 2)),
        (text, words()),
        (shared_and_nested, floats(4, 4)),
        (
            lambda: chain(L.DepthwiseConv2D(3), L.Conv2DTranspose(2, 3), L.AveragePooling2D(2), L.Flatten()),
            floats(4, 6, 6, 2),
        ),
        (lambda: chain(L.SeparableConv2D(3, 3), L.LayerNormalization(), shape=(6, 6, 2)), floats(4, 6, 6, 2)),
        (lambda: chain(L.LSTM(3, return_sequences=True), L.GRU(2), shape=(5, 2)), floats(4, 5, 2)),
    ],
)
def test_tf_keras_computes_what_keras_3_does(model, x):
    model = model()
    rebuilt = to_tf_keras(model)
    np.testing.assert_allclose(rebuilt.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert rebuilt.count_params() == model.count_params()


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (L.Dense(3, kernel_regularizer="l2", name="heavy"), "'heavy'.*kernel_regularizer"),
        (L.Dense(3, activation="relu6", name="clipped"), "'clipped'.*relu6"),
        (L.GaussianNoise(0.1, name="noise"), "'noise'.*GaussianNoise"),
    ],
)
def test_a_layer_without_counterpart_is_named(layer, named):
    with pytest.raises(UnsupportedLayerError, match=named):
        to_tf_keras(chain(layer))


def test_importing_tfmot_leaves_the_process_as_it_was(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    tfmot()
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert keras.__version__.startswith("3.")


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"rct-tflite\[qat\]"):
        quantization_aware(small_model())


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        (small_model, ()),
        (branches, ()),
        (text, ("embedding (Embedding)", "conv (Conv1D)")),
        (lambda: chain(L.Flatten(), L.LayerNormalization(name="norm"), L.Dense(3)), ("norm (LayerNormalization)",)),
    ],
)
def test_what_tfmot_cannot_quantise_is_said_and_the_rest_is_quantised(model, left_out):
    aware = quantization_aware(model())
    assert aware.unquantized == left_out
    assert any("kernel_min" in variable.name for variable in aware.model.variables)


def trained(model, x):
    keras.utils.set_random_seed(0)
    aware = quantization_aware(model).model
    api = tf_keras()
    aware.compile(api.optimizers.SGD(0.05), api.losses.SparseCategoricalCrossentropy(from_logits=True))
    aware.fit(x, np.arange(len(x)) % 3, epochs=3, batch_size=8, verbose=0)
    return aware


@pytest.mark.parametrize("model", [small_model, branches])
def test_a_trained_model_is_taken_over(model, tmp_path):
    x = floats(48, 6, 6, 2)
    aware = trained(model(), x)
    path = tmp_path / "qat.h5"
    aware.save(path)
    expected = aware.predict(x, verbose=0)
    for source in (aware, path):
        taken = rct.from_tfmot(source)
        ranges = [layer for layer in taken.layers if isinstance(layer, ActivationRange)]
        assert all(int(layer.observed) for layer in ranges)
        unit = float(ranges[-1].maximum - ranges[-1].minimum) / 255.0
        assert np.abs(taken.predict(x, verbose=0) - expected).max() <= 1.01 * unit
        for weight in taken.integer_weights:
            kernel = next(v for v in aware.variables if v.name.startswith(f"{weight.label}/kernel")).numpy()
            assert int(weight.bits) == 8
            scale = np.abs(kernel).max(tuple(range(kernel.ndim - 1)) if kernel.ndim == 4 else None) / 127.0
            np.testing.assert_allclose(weight.scale.numpy(), np.broadcast_to(scale, weight.scale.shape), rtol=0.05)
            rounded = np.clip(np.rint(kernel / weight.scale.numpy()), -127, 127)  # tfmot's range is one step old
            assert (weight.integers.numpy() == rounded).all()
    before = [weight.integers.numpy().copy() for weight in taken.integer_weights]
    compiled(taken).fit(x, np.arange(len(x)) % 3, verbose=0)
    assert any((b != weight.integers.numpy()).any() for b, weight in zip(before, taken.integer_weights, strict=True))


def test_the_recipe_of_a_model_that_is_taken_over_rules_rounding_and_limits():
    x = floats(16, 6, 6, 2)
    taken = rct.from_tfmot(trained(small_model(), x), rct.Recipe(bits=4, max_bits=12, rounding="truncate"))
    weight = taken.integer_weights[0]
    assert (int(weight.bits), weight.recipe.max_bits, str(weight.recipe.rounding)) == (8, 12, "truncate")


def test_what_cannot_be_taken_over_is_refused(tmp_path):
    (tmp_path / "damaged.h5").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"damaged\.h5"):
        rct.from_tfmot(tmp_path / "damaged.h5")
    with pytest.raises(ModelFileError, match=r"rct\.quantize"):
        rct.from_tfmot(small_model())
    with pytest.raises(ModelFileError, match="never trained"):
        rct.from_tfmot(quantization_aware(small_model()).model)
