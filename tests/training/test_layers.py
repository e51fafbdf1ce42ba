"""Each layer against the Keras layer of its name: same outputs, same gradients, no floats of a weight's shape."""

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.spec.quantization import top
from rct_tflite.training.quantized_layer import labelled_weights

import keras  # isort: skip
import tensorflow as tf  # isort: skip

L = keras.layers

LAYERS = [
    ("Dense", {"units": 3, "activation": "tanh"}, (4, 5)),
    ("Dense", {"units": 4, "use_bias": False}, (6,)),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, (7, 3)),
    ("Conv1D", {"filters": 4, "kernel_size": 3, "strides": 2, "groups": 2}, (7, 4)),
    ("Conv2D", {"filters": 4, "kernel_size": (3, 2), "padding": "same", "dilation_rate": 2}, (6, 5, 3)),
    ("Conv2D", {"filters": 6, "kernel_size": 2, "strides": 2, "activation": "relu6"}, (6, 6, 2)),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}, (5, 5, 3)),
    ("SeparableConv1D", {"filters": 4, "kernel_size": 3, "depth_multiplier": 2}, (7, 3)),
    ("SeparableConv2D", {"filters": 4, "kernel_size": 3, "activation": "gelu"}, (6, 6, 3)),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, (4, 4, 5)),
    ("Embedding", {"input_dim": 11, "output_dim": 4}, None),
    ("LSTM", {"units": 4, "return_sequences": True, "go_backwards": True}, (5, 3)),
    ("LSTM", {"units": 3, "unroll": True, "implementation": 1, "unit_forget_bias": False}, (4, 3)),
    ("GRU", {"units": 4}, (5, 3)),
    ("GRU", {"units": 3, "reset_after": False, "return_sequences": True, "use_bias": False}, (4, 3)),
]  # fmt: skip
IDS = [f"{name}-{'-'.join(options)}" for name, options, _ in LAYERS]


def inputs_of(shape, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 11, (8, 6)) if shape is None else random.normal(size=(8, *shape)).astype(np.float32)


def pair(name, options, shape, **recipe):
    """A float layer, and the layer with integers that stand for the same weights."""
    keras.utils.set_random_seed(3)
    x = inputs_of(shape)
    recipe = rct.Recipe(**{"bits": 8, "headroom": 1.0, **recipe})
    ours, theirs = getattr(rct.layers, name)(recipe=recipe, **options), getattr(L, name)(**options)
    for layer in (ours, theirs):
        layer(x)
    for variable in theirs.trainable_variables:
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=5))
    own = {weight.name: weight for weight in ours.integer_weights}
    floats = {v.name: v for v in ours.trainable_variables}
    for variable in theirs.trainable_variables:
        if variable.name in own:
            own[variable.name].assign(variable.numpy())
            variable.assign(own[variable.name].dequantised())
        else:
            floats[variable.name].assign(variable)
    return ours, theirs, x


@pytest.mark.parametrize(("name", "options", "shape"), LAYERS, ids=IDS)
def test_outputs_are_those_of_keras(name, options, shape):
    ours, theirs, x = pair(name, options, shape)
    assert np.allclose(ours(x), theirs(x), atol=1e-6)
    assert ours.compute_output_shape(x.shape) == theirs.compute_output_shape(x.shape)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("name", "options", "shape"), LAYERS, ids=IDS)
def test_a_step_is_the_gradient_of_keras_in_integers(monkeypatch, name, options, shape, per_channel):
    # Keras has no int8 grid between the parts of a separable convolution.
    monkeypatch.setattr(rct.layers.ActivationRange, "call", lambda self, inputs, training=False: inputs)
    ours, theirs, x = pair(name, options, shape, rounding="truncate", per_channel=per_channel)
    target = keras.random.normal(theirs(x).shape, seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.mean_squared_error(target, theirs(x)))
    gradients = dict(zip([v.name for v in theirs.trainable_variables],
                         tape.gradient(loss, theirs.trainable_variables), strict=True))  # fmt: skip
    before = {weight.name: weight.integers.numpy().astype(np.int64) for weight in ours.integer_weights}
    inputs = keras.Input(x.shape[1:])
    model = rct.RCTModel(inputs, ours(inputs))
    model.compile(rct.optimizers.SGD(4.0), "mse", run_eagerly=True)
    model.train_on_batch(x, target)
    assert len(before) == len(ours.integer_weights) > 0
    for weight in ours.integer_weights:
        gradient = tf.convert_to_tensor(gradients[weight.name]).numpy()
        steps = np.trunc(4.0 * gradient.astype(np.float64) / weight.scale.numpy())
        expected = np.clip(before[weight.name] - steps, -top(8), top(8))
        off = np.abs(weight.integers.numpy() - expected)
        assert off.max() <= 1  # a step that is a whole number but for the last bit of a sum
        assert np.mean(off) < 0.01
        assert not np.array_equal(weight.integers.numpy(), before[weight.name])


def test_a_separable_layer_rounds_between_its_parts():
    ours, theirs, x = pair("SeparableConv2D", {"filters": 4, "kernel_size": 3}, (6, 6, 3))
    ours(x, training=True)
    step = (ours.between.maximum - ours.between.minimum).numpy() / 255
    off = np.abs(ours(x) - theirs(x))
    limit = 0.51 * step * np.abs(ours.pointwise_kernel).sum(axis=(0, 1, 2)).max()
    assert 0.1 * limit < off.max() <= limit


@pytest.mark.parametrize(("name", "options", "shape"), LAYERS, ids=IDS)
def test_no_float_of_a_weights_shape_and_the_same_after_loading(name, options, shape, tmp_path):
    x = inputs_of(shape)
    inputs = keras.Input(x.shape[1:])
    layer = getattr(rct.layers, name)(name="own", recipe=rct.Recipe(bits=5, per_channel=False), **options)
    model = rct.RCTModel(inputs, layer(inputs))
    model.compile(rct.optimizers.SGD(0.5, momentum=0.5), "mse", run_eagerly=True)
    model.train_on_batch(x, np.zeros(layer.compute_output_shape(x.shape), np.float32))
    shapes = [weight.weight_shape.shape for weight in layer.integer_weights]
    held = [v for v in (*model.variables, *model.optimizer.variables) if tuple(v.shape) in shapes]
    assert len(held) == 2 * len(shapes)  # the integers and their momentum
    assert {v.dtype for v in held} == {"int8"}
    model.save(tmp_path / "model.keras")
    loaded = rct.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("own").get_config() == layer.get_config()
    assert np.array_equal(loaded(x), model(x))
    labels = ["own"] if len(shapes) == 1 else [f"own/{weight.name}" for weight in layer.integer_weights]
    assert [weight.label for weight in loaded.integer_weights] == labels
    model.train_on_batch(x, np.ones(layer.compute_output_shape(x.shape), np.float32))
    loaded.train_on_batch(x, np.ones(layer.compute_output_shape(x.shape), np.float32))
    for left, right in zip(model.integer_weights, loaded.integer_weights, strict=True):
        assert np.array_equal(left.integers.numpy(), right.integers.numpy())


@pytest.mark.parametrize("wrap", [L.Bidirectional, lambda layer: L.TimeDistributed(layer, name="each")])
def test_wrappers(wrap, tmp_path):
    ours = rct.layers.LSTM(3, name="lstm") if wrap is L.Bidirectional else rct.layers.Dense(3)
    x = inputs_of((5, 4))
    inputs = keras.Input((5, 4))
    model = rct.RCTModel(inputs, L.Flatten()(wrap(ours)(inputs)))
    labels = [weight.label for weight in model.integer_weights]
    if wrap is L.Bidirectional:
        assert [label.split("/", 1)[1] for label in labels] == [
            f"{way}_lstm/{kernel}" for way in ("forward", "backward") for kernel in ("kernel", "recurrent_kernel")
        ]
    else:
        assert labels == ["each"]
    model.compile(rct.optimizers.SGD(1.0), "mse", run_eagerly=True)
    before = [weight.integers.numpy() for weight in model.integer_weights]
    model.train_on_batch(x, np.ones((8, model.output_shape[1])))
    assert all((w.integers.numpy() != old).any() for w, old in zip(model.integer_weights, before, strict=True))
    model.save(tmp_path / "model.keras")
    assert np.array_equal(rct.load_model(tmp_path / "model.keras")(x), model(x))


def test_masks_reach_recurrent_layers():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = rct.layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = rct.RCTModel(inputs, rct.layers.GRU(3)(rct.layers.ActivationRange()(x)))
    words = np.array([[3, 4, 5, 0, 0, 0], [3, 4, 5, 7, 7, 7]])
    states = keras.Model(inputs, model.layers[-1].output)(words)
    recurrent = model.layers[-1]
    table = model.integer_weights[0].dequantised().numpy()
    assert np.allclose(states[0], recurrent(table[[[3, 4, 5]]])[0], atol=1e-6)
    assert np.allclose(states[1], recurrent(table[words[1:]])[0], atol=1e-6)


def test_regularizers_act_on_the_integers():
    layer = rct.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1.0), recipe=rct.Recipe(bits=8, headroom=1.0))
    inputs = keras.Input((4,))
    model = rct.RCTModel(inputs, layer(inputs))
    model.compile(rct.optimizers.SGD(0.125), loss=lambda y, y_pred: 0.0 * y_pred, run_eagerly=True)
    (weight,) = model.integer_weights
    before = np.abs(weight.integers.numpy().astype(int)).sum()
    assert float(model.losses[0]) == pytest.approx(float(np.sum(weight.dequantised().numpy() ** 2)), rel=1e-6)
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    after = np.abs(weight.integers.numpy().astype(int)).sum()
    assert after == pytest.approx(0.75 * before, rel=0.05)  # q - lr * 2 * q


def test_pretrained_embeddings():
    table = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    layer = rct.layers.Embedding(7, 3, weights=[table], recipe=rct.Recipe(bits=8, headroom=1.0))
    assert np.abs(layer(np.arange(7)).numpy() - table).max() <= 1.001 * layer.integer_weights[0].scale.numpy()


def built(layer):
    layer(np.ones((1, 2), np.float32))
    return layer


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: rct.layers.Dense(3, kernel_constraint="max_norm"), "kernel_constraint"),
        (lambda: rct.layers.LSTM(3, recurrent_constraint="max_norm"), "recurrent_constraint"),
        (lambda: rct.layers.Conv2D(3, 3, lora_rank=2), "LoRA"),
        (lambda: rct.layers.Dense(3, dtype="float16"), "float32"),
        (lambda: built(rct.layers.Dense(3)).quantize("int8"), "quantised already"),
        (lambda: rct.layers.Dense(3).enable_lora(2), "LoRA"),
    ],
)
def test_settings_without_meaning_for_integers_are_refused(make, word):
    with pytest.raises(UnsupportedLayerError, match=word):
        make()


def test_labels_are_unique():
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, rct.layers.Dense(4, name="fc")(inner_inputs), name="inner")
    inputs = keras.Input((4,))
    model = rct.RCTModel(inputs, rct.layers.Dense(2, name="fc")(inner(inner(inputs))))
    assert [label for label, _ in labelled_weights(model.layers)] == ["inner/fc", "fc"]
    assert len({weight.stream for weight in model.integer_weights}) == 2
