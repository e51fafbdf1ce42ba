import re
import subprocess
import sys

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import RecipeError, UnsupportedLayerError
from tests.training.conftest import chain, compiled, integers, same, small_model

import keras  # isort: skip
import tensorflow as tf  # isort: skip

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


def residual():
    """Two inputs, a branch, a shared layer and two outputs."""
    keras.utils.set_random_seed(2)
    image, extra = keras.Input((6, 6, 2), name="image"), keras.Input((4,), name="extra")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(image)
    x = L.ReLU(name="stem_relu")(L.BatchNormalization(name="stem_norm")(x))
    y = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    y = L.BatchNormalization(name="late_norm")(L.Conv2D(4, 1, name="pointwise")(y))
    x = L.ReLU(name="add_relu")(L.Add(name="add")([x, y]))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    shared = L.Dense(4, name="shared")
    x = L.Concatenate(name="join")([shared(x), L.LeakyReLU(name="leaky")(shared(extra))])
    return keras.Model(
        {"image": image, "extra": extra},
        {"kind": L.Dense(3, activation="softmax", name="kind")(x), "size": L.Dense(1, name="size")(x)},
        name="residual",
    )


def nested():
    keras.utils.set_random_seed(3)
    encoder = keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(3, 3, activation="relu", name="conv"), L.Flatten(), L.Dense(5, name="code")],
        name="encoder",
    )
    left, right = keras.Input((6, 6, 2), name="left"), keras.Input((6, 6, 2), name="right")
    x = L.Multiply(name="both")([encoder(left), encoder(right)])
    return keras.Model([left, right], L.Activation("sigmoid", name="answer")(L.Dense(1, name="head")(x)))


def text():
    keras.utils.set_random_seed(4)
    words = keras.Input((4,), dtype="int32", name="words")
    x = L.Embedding(20, 6, mask_zero=True, name="embed")(words)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True, name="lstm"), name="both_ways")(x)
    x = L.TimeDistributed(L.Dense(5, activation="tanh"), name="each")(x)
    return keras.Model(words, L.Dense(2, name="head")(L.GRU(3, dropout=0.5, name="gru")(x)))


def sentences():
    keras.utils.set_random_seed(7)
    sentence = keras.Sequential(
        [keras.Input((4,), dtype="int32"), L.Embedding(20, 6, name="embed"), L.Flatten(), L.Dense(5, name="code")]
    )
    words = keras.Input((None, 4), dtype="int32", name="words")
    return keras.Sequential([words, L.TimeDistributed(sentence, name="each"), L.LSTM(3, name="last")])


def convolved_text():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [keras.Input((9,)), L.Embedding(20, 6, name="embed"), L.Conv1D(4, 3, padding="causal", activation="relu"),
         L.LayerNormalization(), L.GlobalMaxPooling1D(), L.Dropout(0.5), L.Dense(2)]
    )  # fmt: skip


def picture_to_picture():
    keras.utils.set_random_seed(6)
    return chain(
        L.Rescaling(1 / 4), L.SeparableConv2D(4, 3, padding="same"), L.ZeroPadding2D(1), L.AveragePooling2D(2),
        L.PReLU(), L.Conv2DTranspose(2, 3, strides=2, activation="gelu"), L.Permute((2, 1, 3)),
    )  # fmt: skip


def batch_of(model, seed=0):
    random = np.random.default_rng(seed)

    def sample(tensor):
        shape = (16, *(size or 5 for size in tensor.shape[1:]))
        words = tensor.dtype == "int32" or any(isinstance(layer, L.Embedding) for layer in model.layers)
        return random.integers(1, 20, shape) if words else random.uniform(-1, 1, shape).astype(np.float32)

    return (
        sample(model.inputs[0])
        if isinstance(model, keras.Sequential)
        else keras.tree.map_structure(sample, model.input)
    )


MODELS = [residual, nested, text, sentences, convolved_text, picture_to_picture]


@pytest.mark.parametrize("build", MODELS)
def test_any_graph_is_taken_over_trained_saved_and_resumed(build, tmp_path):
    source = build()
    x = batch_of(source)
    model = rct.quantize(source, rct.Recipe(bits=12, max_bits=12, headroom=1.0))
    expected, got = source(x), model(x)
    for wanted, output in zip(keras.tree.flatten(expected), keras.tree.flatten(got), strict=True):
        assert np.abs(wanted - output).max() < 0.01 * max(1.0, np.abs(wanted).max())
    assert {layer.name for layer in source.layers if not isinstance(layer, L.InputLayer)} <= {
        layer.name for layer in model.layers
    }
    targets = keras.tree.map_structure(lambda y: np.ones(y.shape, np.float32), expected)
    model.compile(rct.optimizers.SGD(0.5, momentum=0.5), "mse", run_eagerly=True)
    before = integers(model)
    model.train_on_batch(x, targets)
    assert not any(np.array_equal(a, b) for a, b in zip(before, integers(model), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = rct.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    for one in (model, loaded):
        one.train_on_batch(x, targets)
    assert same(integers(model), integers(loaded))
    assert [w.label for w in loaded.integer_weights] == [w.label for w in model.integer_weights]


@pytest.mark.parametrize(
    ("build", "ranges", "labels"),
    [
        (residual,
         ["image", "extra", "stem", "depthwise", "pointwise", "add", "pool", "shared", "shared_1", "leaky", "join",
          "size"],
         ["stem", "depthwise", "pointwise", "shared", "kind", "size"]),
        (nested, ["left", "right", "both", "head"], ["encoder/conv", "encoder/code", "head"]),
        (text, ["embed", "both_ways", "each", "gru", "head"],
         ["embed", *(f"both_ways/{way}_lstm/{kernel}" for way in ("forward", "backward")
                     for kernel in ("kernel", "recurrent_kernel")),
          "each", "gru/kernel", "gru/recurrent_kernel", "head"]),
        (sentences, ["last"], ["each/embed", "each/code", "last/kernel", "last/recurrent_kernel"]),
    ],
)  # fmt: skip
def test_ranges_stand_where_values_are_computed(build, ranges, labels):
    model = rct.quantize(build())
    found = [layer.name for layer in model.layers if isinstance(layer, rct.layers.ActivationRange)]
    wanted = [f"{name}_range" if name[-2:] != "_1" else f"{name[:-2]}_range_1" for name in ranges]
    assert sorted(found) == sorted(wanted)
    assert sorted(weight.label for weight in model.integer_weights) == sorted(labels)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([L.Dense(3), L.BatchNormalization(), L.ReLU()], ["input", "dense"]),
        ([L.Dense(3, activation="relu"), L.BatchNormalization()], ["input", "dense", "batch_normalization"]),
        ([L.Dense(3), L.Activation("tanh")], ["input", "dense", "activation"]),
        ([L.Dense(3, activation="tanh"), L.Dense(3, activation="sigmoid")], ["input", "dense"]),
        ([L.Dense(3), L.Softmax()], ["input", "dense"]),
        ([L.Rescaling(2.0), L.Normalization(mean=1.0, variance=4.0), L.Dense(3)], ["normalization", "dense"]),
        ([L.Dropout(0.5), L.Dense(3), L.Identity(), L.ReLU()], ["input", "dense", "re_lu"]),
    ],
    ids=lambda value: "-".join(type(layer).__name__ for layer in value) if not isinstance(value[0], str) else "",
)
def test_one_range_for_what_is_fused(layers, names):
    # Names without the number that Keras counts up.
    fresh = [type(layer).from_config({**layer.get_config(), "name": None}) for layer in layers]
    model = rct.quantize(chain(*fresh, shape=FLAT))
    ranges = [layer.name for layer in model.layers if isinstance(layer, rct.layers.ActivationRange)]
    assert [re.sub(r"(_\d+)?_range$", "", name) for name in ranges] == names


def test_bytes_of_images_are_numbers_and_words_are_not():
    inputs = keras.Input((4,), dtype="uint8", name="pixels")
    model = rct.quantize(keras.Model(inputs, L.Dense(3)(inputs)))
    assert [layer.name for layer in model.layers][:2] == ["pixels", "pixels_range"]
    assert model(np.array([[0, 128, 255, 7]], np.uint8)).shape == (1, 3)


def test_rules_decide_for_each_layer():
    rules = (
        rct.Rule("shared", frozen=True),
        rct.Rule("stem", bits=8, per_channel=True),
        rct.Rule("*wise", bits=4, min_bits=4, rounding="truncate"),
    )
    model = rct.quantize(residual(), rct.Recipe(bits=6, rules=rules))
    weights = {weight.label: weight for weight in model.integer_weights}
    assert {label: int(weight.bits) for label, weight in weights.items()} == {
        "stem": 8, "depthwise": 4, "pointwise": 4, "shared": 6, "kind": 6, "size": 6,
    }  # fmt: skip
    assert weights["stem"].scale.shape == (4,)
    assert weights["pointwise"].recipe.rounding == "truncate"
    assert [weight.label for weight in weights.values() if not weight.trainable] == ["shared"]
    assert not model.get_layer("shared").trainable
    one_kernel = rct.Recipe(rules=(rct.Rule("*/backward_lstm/recurrent_kernel", bits=3),))
    bits = {weight.label: int(weight.bits) for weight in rct.quantize(text(), one_kernel).integer_weights}
    assert [label for label, number in bits.items() if number == 3] == ["both_ways/backward_lstm/recurrent_kernel"]


@pytest.mark.parametrize("recipe", [{"bits": 6}, "recipe.toml", 6])
def test_what_is_no_recipe_is_refused(recipe):
    with pytest.raises(RecipeError, match=r"Recipe\.load"):
        rct.quantize(small_model(), recipe)


def test_a_rule_that_fits_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"'dens' fits no layer.*'encoder/code'.*'head'"):
        rct.quantize(nested(), rct.Recipe(rules=(rct.Rule("encoder/*", bits=4), rct.Rule("dens", bits=8))))


def test_several_outputs_losses_and_weights():
    model = rct.quantize(residual(), rct.Recipe(bits=8))
    model.compile(
        rct.optimizers.SGD(0.1),
        loss={"kind": "sparse_categorical_crossentropy", "size": keras.losses.Huber()},
        loss_weights={"kind": 1.0, "size": 0.5},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        run_eagerly=True,
    )
    x = batch_of(model)
    y = {"kind": np.arange(16) % 3, "size": np.ones((16, 1), np.float32)}
    history = model.fit(x, y, epochs=6, batch_size=8, verbose=0, validation_data=(x, y)).history
    assert {"loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae", "val_loss"} <= set(history)
    assert history["loss"][-1] < history["loss"][0]


class OwnDense(L.Dense):
    pass


class OwnModel(keras.Model):
    pass


def with_operation():
    inputs = keras.Input(FLAT)
    return keras.Model(inputs, L.Dense(8)(inputs) + inputs)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: chain(L.Conv3D(2, 1, name="volume"), L.Lambda(lambda x: x, name="code"), L.Dense(3),
                       shape=(2, 2, 2, 2)),
         ["'volume' (Conv3D)", "'code' (Lambda)", "this class is not supported", "DepthwiseConv2D"]),
        (lambda: chain(L.Dense(3, activation=lambda x: x, name="own"), shape=FLAT),
         ["'own' (Dense)", "keras.activations"]),
        (lambda: chain(L.LSTM(3, recurrent_activation=lambda x: x), shape=(4, 2)), ["recurrent_activation"]),
        (lambda: chain(L.Dense(3, kernel_constraint="max_norm"), shape=FLAT), ["kernel_constraint"]),
        (lambda: chain(L.Bidirectional(L.LSTM(3, kernel_constraint="max_norm")), shape=(4, 2)), ["kernel_constraint"]),
        (lambda: chain(L.Bidirectional(L.SimpleRNN(3), name="simple"), shape=(4, 2)), ["'simple' (Bidirectional)"]),
        (lambda: chain(L.Dense(3, dtype="float16"), shape=FLAT), ["dtype must be float32"]),
        (lambda: chain(OwnDense(3, name="own"), shape=FLAT), ["'own' (OwnDense)"]),
        (lambda: chain(chain(L.Lambda(lambda x: x, name="deep"), shape=FLAT), L.Dense(3), shape=FLAT),
         ["'chain/deep'"]),
        (lambda: chain(L.TimeDistributed(chain(L.Lambda(abs, name="deep"), shape=FLAT), name="each"), shape=(4, 8)),
         ["'each/deep'"]),
        (lambda: chain(L.TimeDistributed(L.TimeDistributed(chain(L.Lambda(abs, name="deep"), shape=FLAT)), name="each"),
                       shape=(2, 4, 8)),
         ["'each/deep'"]),
        (lambda: chain(L.Dense(3, name="my layer"), L.Dense(3, name="größer"), shape=FLAT),
         ["'my layer' (Dense)", "'größer'", "rename"]),
        (lambda: chain(keras.Sequential([keras.Input(FLAT), L.Dense(3)], name="a,b"), shape=FLAT),
         ["'a,b' (Sequential)", "rename"]),
        (lambda: keras.Sequential([keras.Input(FLAT), L.Dense(3)], name="_model"), ["'_model'", "begin with a letter"]),
        (lambda: chain(L.Flatten()), ["nothing to quantise"]),
        (lambda: keras.Sequential([L.Dense(3)]), ["keras.Input"]),
        (OwnModel, ["'own_model' (OwnModel)", "subclass"]),
        (with_operation, ["(Add)", "keras.ops"]),
        (lambda: rct.quantize(chain(L.Dense(3), shape=FLAT)), ["quantised already"]),
        (lambda: chain(rct.layers.Dense(3), shape=FLAT), ["quantised already"]),
        (lambda: chain(rct.quantize(chain(L.Dense(3), shape=FLAT)), shape=FLAT), ["(RCTModel): it is quantised"]),
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


def test_the_layers_do_not_train_in_a_model_that_would_leave_their_integers(samples):
    model = keras.Sequential([keras.Input((6, 6, 2)), L.Flatten(), rct.layers.Dense(3, name="dense")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.evaluate(*samples, verbose=0)
    with pytest.raises(UnsupportedLayerError, match=r"'dense' would not train.*RCTModel.*Sequential"):
        model.fit(*samples, verbose=0)
    model.layers[-1].trainable = False
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(*samples, verbose=0)


def test_the_package_imports_without_keras():
    code = (
        "import sys, rct_tflite; rct_tflite.Recipe(bits=6); dir(rct_tflite); "
        "assert not {'keras', 'tensorflow', 'rct_tflite.training'} & set(sys.modules); "
        "import rct_tflite as rct; assert rct.layers.Dense and rct.optimizers.SGD and 'keras' in sys.modules; "
        "assert all(hasattr(rct, name) for name in rct.__all__) and not hasattr(rct, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "names", [("input", "network_input"), ("input_range", "b"), ("a", "a_range"), ("a_range", "a")]
)
def test_names_of_ours_make_way_for_those_of_the_user(names):
    first, second = (L.Dense(3, name=name) for name in names)
    quantised = rct.quantize(keras.Sequential([keras.Input((4,)), first, second]))
    given = [layer.name for layer in quantised.layers]
    assert [name for name in given if isinstance(quantised.get_layer(name), rct.layers.Dense)] == list(names)
    assert len(set(given)) == len(given) == 6


def test_inputs_may_have_any_name(tmp_path):
    inputs = keras.Input((4,), name="my input (°C)")
    model = rct.quantize(keras.Model(inputs, L.Dense(3, name="dense")(inputs)))
    assert [layer.name for layer in model.layers] == ["my input (°C)", "my_input___C__range", "dense", "dense_range"]
    model.compile(rct.optimizers.SGD(0.1), "mse")
    model.fit({"my input (°C)": np.ones((8, 4), np.float32)}, np.ones((8, 3), np.float32), verbose=0)
    model.save(tmp_path / "model.keras")
    assert same(integers(rct.load_model(tmp_path / "model.keras")), integers(model))


def sequences(*lengths, outputs=3):
    random = np.random.default_rng(0)
    x = [random.uniform(-1, 1, (8, length, 4)).astype(np.float32) for length in lengths]
    spec = tuple(tf.TensorSpec((None, None, size), tf.float32) for size in (4, outputs))
    return tf.data.Dataset.from_generator(lambda: ((one, one[..., :outputs]) for one in x), output_signature=spec)


@pytest.mark.parametrize("time", [5, None])
def test_the_steps_of_a_sequence_need_not_be_known(time, tmp_path):
    keras.utils.set_random_seed(7)
    each = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(6, use_bias=False, name="a"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Dense(3, name="b"),
        ]
    )
    source = keras.Sequential([keras.Input((time, 4)), L.TimeDistributed(each, name="each")])
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 4)).astype(np.float32)
    model, eager = (rct.quantize(source, rct.Recipe(bits=12, max_bits=12)) for _ in range(2))
    assert np.abs(model(x) - np.stack([each(x[:, step]) for step in range(5)], axis=1)).max() < 0.01
    batches = sequences(5, 5) if time else sequences(5, 7, 2)
    for one, options in ((model, {}), (eager, {"run_eagerly": True})):
        one.compile(rct.optimizers.SGD(0.5), "mse", **options)
        before = integers(one)
        one.fit(batches, verbose=0)
        assert not same(before, integers(one))
    assert same(integers(model), integers(eager))
    assert [weight.label for weight in model.integer_weights] == ["each/a", "each/b"]
    model.save(tmp_path / "model.keras")
    loaded = rct.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(x), model(x))
