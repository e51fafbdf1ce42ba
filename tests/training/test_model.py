import h5py
import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import DataError, ModelFileError, QuantizationError, RecipeError
from rct_tflite.training.integer_weight import IntegerWeight, WeightShape
from rct_tflite.training.memory import parameter_bytes
from tests.training.conftest import compiled, integers, same, small_model

import keras  # isort: skip
import tensorflow as tf  # isort: skip


EAGER = {"run_eagerly": True}
"""A few batches take less time than tracing a graph."""


def trained(samples, epochs=2, recipe=None, callbacks=(), **options):
    model = compiled(rct.quantize(small_model(), recipe, seed=3), **options)
    model.fit(*samples, epochs=epochs, batch_size=16, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def float_datasets(path):
    """Shapes of the float arrays in the weights file inside a `.keras` file."""
    import io
    import zipfile

    shapes = []

    def visit(_, node):
        if isinstance(node, h5py.Dataset) and node.dtype.kind == "f":
            shapes.append(node.shape)

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(visit)
    return shapes


def test_no_float_copy_of_a_kernel_anywhere(samples, tmp_path):
    model = trained(samples, epochs=1)
    model.save(tmp_path / "model.keras")
    kernels = [layer.integers for layer in model.integer_weights]
    assert [kernel.dtype for kernel in kernels] == ["int8"] * 3
    smallest = min(int(np.prod(kernel.shape)) for kernel in kernels)
    floats = [v.shape for v in (*model.variables, *model.optimizer.variables) if "float" in str(v.dtype)]
    floats += float_datasets(tmp_path / "model.keras")
    assert len(floats) > 30  # ranges, scales, batch normalisation, biases: the search finds what is there
    assert max(int(np.prod(shape)) for shape in floats) <= 5 < smallest


def test_it_learns(samples):
    model = trained(samples, epochs=15, callbacks=[rct.RCTCallback()])
    assert model.evaluate(*samples, verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"steps_per_execution": 3}], ids=str)
def test_the_same_integers_however_it_runs(samples, options):
    model, other = trained(samples), trained(samples, **options)
    assert same(integers(model), integers(other))
    assert not same(integers(model), integers(rct.quantize(small_model())))


def test_the_seed_decides(samples):
    first, again, other = (compiled(rct.quantize(small_model(), seed=seed), **EAGER) for seed in (1, 1, 2))
    for model in (first, again, other):
        model.fit(*samples, batch_size=16, shuffle=False, verbose=0)
    assert same(integers(first), integers(again))
    assert not same(integers(first), integers(other))


def test_xla_trains(samples):
    model = trained(samples, epochs=6, jit_compile=True)
    assert model.evaluate(*samples, verbose=0, return_dict=True)["accuracy"] > 0.7


def test_save_load_and_resume(samples, tmp_path):
    callbacks = [rct.RCTCallback(t_min=3.0, t_max=12.0, interval=4)]
    whole = trained(samples, epochs=4, callbacks=callbacks)
    half = trained(samples, epochs=2, callbacks=callbacks)
    half.save(tmp_path / "half.keras")
    loaded = rct.load_model(tmp_path / "half.keras")
    assert np.array_equal(loaded.predict(samples[0], verbose=0), half.predict(samples[0], verbose=0))
    assert same(integers(loaded), integers(half))
    bits = [int(layer.bits) for layer in half.integer_weights]
    assert [int(layer.bits) for layer in loaded.integer_weights] == bits
    assert bits != [6, 6, 6]
    loaded.fit(*samples, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=callbacks)
    assert same(integers(loaded), integers(whole))
    assert [float(layer.gavg) for layer in loaded.integer_weights] == [float(la.gavg) for la in whole.integer_weights]


@pytest.mark.parametrize("per_channel", [False, True])
def test_wide_recipes_survive_saving(tmp_path, samples, per_channel):
    recipe = rct.Recipe(bits=11, max_bits=14, rounding="truncate", per_channel=per_channel)
    model = trained(samples, epochs=1, recipe=recipe)
    model.save(tmp_path / "wide.keras")
    loaded = rct.load_model(tmp_path / "wide.keras", compile=False)
    assert same(integers(loaded), integers(model))
    assert loaded.integer_weights[0].recipe == recipe
    assert loaded.integer_weights[0].integers.dtype == "int16"


def _cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _text(path):
    path.write_text("not a model")


def _float_model(path):
    small_model().save(path)


def _too_few_bits(path):
    model = rct.quantize(small_model())
    model.integer_weights[1].bits.assign(3)
    model.save(path)


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (_cut, "a damaged or other file"),
        (_flip, "damaged"),
        (_text, "a damaged or other file of 11 bytes"),
        (_float_model, "class 'Sequential' that is not quantised"),
        (_too_few_bits, "layer 'conv2' with integers"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_other_and_damaged_files_are_refused(tmp_path, damage, received):
    path = tmp_path / "model.keras"
    rct.quantize(small_model()).save(path)
    damage(path)
    with pytest.raises(ModelFileError) as caught:
        rct.load_model(path)
    assert received in str(caught.value)
    assert "Expected a whole .keras file of a quantised model" in str(caught.value)


def test_a_format_that_could_not_be_loaded_is_not_written(tmp_path):
    with pytest.raises(ModelFileError, match=r"ends in \.keras"):
        rct.quantize(small_model()).save(tmp_path / "model.h5")
    assert not any(tmp_path.iterdir())


def test_sample_weights_choose_what_is_learned(samples):
    x, y = samples
    weights = (y < 2).astype(np.float32)
    masked = compiled(rct.quantize(small_model()), **EAGER)
    changed = np.where(y < 2, y, 0).astype(np.int32)  # labels that have no weight may be anything
    masked.fit(x, y, sample_weight=weights, batch_size=16, shuffle=False, verbose=0)
    for other in ({"y": changed, "sample_weight": weights}, {"y": y, "class_weight": {0: 1.0, 1: 1.0, 2: 0.0}}):
        model = compiled(rct.quantize(small_model()), **EAGER)
        model.fit(x, batch_size=16, shuffle=False, verbose=0, **other)
        assert same(integers(model), integers(masked))


def test_validation_and_metrics_are_those_of_keras(samples):
    model = compiled(rct.quantize(small_model()))
    history = model.fit(*samples, epochs=2, validation_data=samples, verbose=0).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(*samples, verbose=0)[0], rel=1e-5)


def test_the_learning_rate_is_that_of_schedules_and_callbacks(samples):
    stopped = compiled(
        rct.quantize(small_model()), keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.0]), **EAGER
    )
    two_batches = compiled(rct.quantize(small_model()), **EAGER)
    stopped.fit(*samples, batch_size=16, shuffle=False, verbose=0)
    two_batches.fit(samples[0][:48], samples[1][:48], batch_size=16, shuffle=False, verbose=0)
    assert same(integers(stopped), integers(two_batches))  # the boundary is inclusive: three batches learn
    before = integers(stopped)
    set_to_zero = keras.callbacks.LearningRateScheduler(lambda epoch: 0.0)
    still = compiled(stopped, **EAGER)
    still.fit(*samples, verbose=0, callbacks=[set_to_zero])
    assert same(integers(still), before)


def test_a_model_without_floats_to_train_counts_its_steps(samples):
    model = rct.quantize(
        keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)])
    )
    compiled(model, **EAGER).fit(*samples, batch_size=16, verbose=0)
    assert int(model.optimizer.iterations) == 6


def test_frozen_layers_keep_their_integers(samples):
    source = small_model()
    source.get_layer("conv2").trainable = False
    model = compiled(rct.quantize(source), **EAGER)
    before = integers(model)
    model.fit(*samples, verbose=0)
    assert [np.array_equal(a, b) for a, b in zip(before, integers(model), strict=True)] == [False, True, False]


def test_clipping_sees_kernels(samples):
    x, y = samples
    model = rct.quantize(small_model(), rct.Recipe(bits=8, rounding="truncate"))
    model.compile(
        rct.optimizers.SGD(1.0, global_clipnorm=1e-6), keras.losses.SparseCategoricalCrossentropy(True), **EAGER
    )
    before = integers(model)
    model.fit(x, y, verbose=0)
    assert same(integers(model), before)


class Batches(keras.callbacks.Callback):
    """Counts the batches that fit() took for done."""

    done = 0

    def on_train_batch_end(self, batch, logs=None):
        self.done = batch + 1


@pytest.mark.parametrize(
    "options", [{}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 3}], ids=str
)
def test_what_is_not_finite_stops_training_and_changes_nothing(samples, options):
    x, y = samples
    model = rct.quantize(small_model(), rct.Recipe(bits=8), seed=3)
    model.compile(
        rct.optimizers.SGD(0.02, momentum=0.9, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )

    def fit(count, x=x, **more):
        batches = Batches()
        try:
            model.fit(x[:count], y[:count], batch_size=16, shuffle=False, verbose=0, callbacks=[batches], **more)
        finally:
            stopped_at.append(batches.done)

    def state():
        return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]

    stopped_at = []
    fit(48)
    broken, weights = x.copy(), np.ones(len(x), np.float32)
    broken[5, 0, 0, 0], weights[5] = np.nan, np.inf
    before = state()
    with pytest.raises(QuantizationError, match="The input of the model is not a finite number"):
        fit(96, broken)
    with pytest.raises(QuantizationError, match=r"The gradient of (conv1|dense) is not a finite number"):  # XLA: dense
        fit(96, sample_weight=weights)
    assert stopped_at == [3, 0, 0]
    assert not any("unsound" in v.path for v in (*model.variables, *model.optimizer.variables))  # nor in a saved file
    assert same(before, state())
    assert np.isfinite(model.predict(x, verbose=0)).all()


@pytest.mark.parametrize("optimizer", ["sgd", keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(), None])
def test_other_optimizers_are_refused(optimizer):
    with pytest.raises(RecipeError, match=r"rct\.optimizers\.SGD"):
        rct.quantize(small_model()).compile(optimizer, "mse")


@pytest.mark.parametrize(
    "loss",
    ["sparse_categorical_crossentropy", keras.losses.CategoricalCrossentropy(), keras.losses.binary_crossentropy,
     ["mse", "binary_crossentropy"], {"logits": keras.losses.BinaryCrossentropy()}],
    ids=["name", "object", "function", "several", "by output"],
)  # fmt: skip
def test_losses_on_probabilities_need_a_softmax(loss):
    inputs = keras.Input((4,))
    several = isinstance(loss, (list, dict))

    def model(activation):
        head = keras.layers.Dense(3, activation=activation, name="logits")(inputs)
        first = keras.layers.Dense(3, name="first")(inputs)
        return rct.quantize(keras.Model(inputs, [first, head] if several else head))

    with pytest.raises(RecipeError, match=r"'logits.*from_logits=True"):
        model(None).compile(rct.optimizers.SGD(), loss)
    for activation in ("softmax", "sigmoid"):
        model(activation).compile(rct.optimizers.SGD(), loss)


def test_a_softmax_at_the_end_trains(samples):
    head = [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = rct.quantize(keras.Sequential([keras.Input((6, 6, 2)), *head]))
    model.compile(rct.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*samples, epochs=10, batch_size=16, verbose=0)
    assert model.evaluate(*samples, verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01}])
def test_momentum_is_eight_bits_wide_and_resumes(samples, tmp_path, settings):
    def start():
        model = rct.quantize(small_model(), rct.Recipe(bits=8), seed=3)
        model.compile(rct.optimizers.SGD(0.02, **settings), keras.losses.SparseCategoricalCrossentropy(True), **EAGER)
        return model

    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    whole, half = start(), start()
    losses = whole.fit(*samples, epochs=4, **options).history["loss"]
    assert losses[-1] < losses[0]
    half.fit(*samples, epochs=2, **options)
    half.save(tmp_path / "half.keras")
    loaded = rct.load_model(tmp_path / "half.keras")
    loaded.fit(*samples, epochs=2, **options)
    assert same(integers(loaded), integers(whole))
    weights = sum(weight.weight_count for weight in whole.integer_weights)
    floats = sum(int(np.prod(v.shape)) for v in whole.trainable_variables)
    assert parameter_bytes(whole).optimizer == weights + 4 * (len(whole.integer_weights) + floats)
    held = [v for v in whole.optimizer.variables if v.dtype == "int8"]
    assert sum(int(np.prod(v.shape)) for v in held) == weights


def test_momentum_follows_that_of_floats():
    weight = IntegerWeight(WeightShape((40, 50)), rct.Recipe(bits=16, max_bits=16, rounding="truncate"), "uniform")
    optimizer = rct.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build_integers([weight])
    expected, held = weight.dequantised().numpy().astype(np.float64), np.zeros((40, 50))
    for step in range(30):
        gradient = np.random.default_rng(step % 3).normal(size=(40, 50)).astype(np.float32) * weight.scale.numpy() * 300
        held = 0.9 * held + gradient
        expected = expected - 0.01 * held
        optimizer.apply_all([weight], [], [tf.constant(gradient)])
    moved = np.abs(expected - weight.dequantised().numpy()) / weight.scale.numpy()
    assert np.mean(moved) < 60  # of about 700 steps that the weights have moved
    assert int(optimizer.iterations) == 30


@pytest.mark.parametrize(
    "settings", [{"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": 2.0}, {"use_ema": True}], ids=str
)
def test_settings_of_the_optimizer_are_checked(settings):
    with pytest.raises(RecipeError, match="Received"):
        rct.optimizers.SGD(0.1, **settings)


def test_text_as_input_is_refused(samples):
    model = compiled(rct.quantize(small_model()), **EAGER)
    with pytest.raises(DataError, match="dtypes \\['string'\\]"):
        model.train_step((tf.constant([["a"]]), tf.constant([1])))


@pytest.mark.parametrize("dtype", ["U1", "S1", object])
@pytest.mark.parametrize("name", ["x", "y"])
def test_arrays_of_text_are_refused(samples, name, dtype):
    model = compiled(rct.quantize(small_model()), **EAGER)
    given = dict(zip("xy", samples, strict=True))
    given[name] = given[name].astype(str).astype(dtype)
    with pytest.raises(DataError, match=f"Expected floats or integers in {name}. Received: dtypes .*Convert"):
        model.fit(**given, verbose=0)


class OwnLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(keras.ops.one_hot(y_true[:, 0], 3) - y_pred), axis=-1)


def test_own_losses_datasets_and_keras_callbacks(samples, tmp_path):
    x, y = samples
    model = rct.quantize(small_model())
    model.compile(
        rct.optimizers.SGD(0.1), OwnLoss(), metrics=[keras.metrics.SparseCategoricalAccuracy(name="own")], **EAGER
    )
    data = tf.data.Dataset.from_tensor_slices((x, y[:, None])).batch(16)
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="loss", patience=0, min_delta=10.0),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss"),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=10.0),
    ]
    history = model.fit(data, validation_data=data, epochs=5, callbacks=callbacks, verbose=0).history
    assert len(history["val_own"]) == 2
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    loaded = rct.load_model(tmp_path / "best.keras", compile=False)
    assert same(integers(loaded), integers(model))
