import csv
import doctest
import importlib
import json
import pkgutil
import re
import types

import numpy as np
import pytest
import tensorflow as tf

import rct_tflite as rct
import rct_tflite.training
from rct_tflite.energy.step_energy import step_energy
from rct_tflite.errors import QuantizationError, RecipeError
from rct_tflite.spec.quantization import top
from rct_tflite.spec.recipe import Rule
from rct_tflite.spec.run_log import read_run_log
from rct_tflite.spec.target_file import find_target
from rct_tflite.training.callback import starting_rate
from rct_tflite.training.integer_weight import IntegerWeight, active_weights
from rct_tflite.training.macs import macs_per_sample
from rct_tflite.training.memory import ParameterBytes, parameter_bytes
from rct_tflite.training.records import work_of
from tests.training.conftest import compiled, integers, same, small_model

import keras  # isort: skip

NAMES = ("conv1", "conv2", "dense")
WIDE = rct.Recipe(bits=4, min_bits=2, max_bits=12)


def fit(samples, *callbacks, recipe=None, epochs=2, learning_rate=0.1, model=None, **options):
    """Trains a small model, 6 batches an epoch."""
    if model is None:  # eagerly: no time to trace
        model = compiled(rct.quantize(small_model(), recipe), learning_rate, run_eagerly=True)
    options = {"batch_size": 16, "shuffle": False, "verbose": 0, **options}
    return model, model.fit(*samples, epochs=epochs, callbacks=list(callbacks), **options).history


def bits(model):
    return [int(weight.bits) for weight in model.integer_weights]


def packed(model):
    return sum(-(-weight.weight_count * int(weight.bits) // 8) for weight in model.integer_weights)


@pytest.mark.parametrize(
    ("thresholds", "limits", "expected"),
    [((1e6, 4e6), {}, [8, 8, 8]), ((1e6, 4e6), {"max_bits": 7}, [7, 7, 7]), ((1e-9, 4e-9), {}, [3, 3, 3]),
     ((1e-9, 4e-9), {"min_bits": 5}, [5, 5, 5]), ((1e-9, 1e9), {}, [6, 6, 6]),
     ((1e-9, 1e9), {"min_bits": 7}, [7, 7, 7]), ((1e-9, 1e9), {"max_bits": 4}, [4, 4, 4])],
)  # fmt: skip
def test_bits_go_up_and_down_to_their_limits(samples, thresholds, limits, expected):
    callback = rct.RCTCallback(*thresholds, interval=2, **limits)
    model, _ = fit(samples, callback, recipe=rct.Recipe(bits=6, min_bits=3, max_bits=8))
    assert bits(model) == expected


def test_a_crowded_range_doubles(samples):
    """Integers at the ends of a range halve, the scale doubles, and the width stays; a single weight is no crowd."""
    model = compiled(rct.quantize(small_model(), rct.Recipe(bits=8)), 0.0, run_eagerly=True)
    before = [(weight.integers.numpy().astype(int), float(weight.scale.numpy())) for weight in model.integer_weights]
    crowded, alone, _ = model.integer_weights
    for weight, count in ((crowded, 3), (alone, 1)):
        values = weight.integers.numpy().clip(-126, 126)
        values.reshape(-1)[:count] = 127
        weight.integers.assign(values)
        before[model.integer_weights.index(weight)] = (values.astype(int), float(weight.scale.numpy()))
    fit(samples, rct.RCTCallback(1e-9, 1e9, interval=2), model=model, epochs=1)
    assert bits(model) == [8, 8, 8]
    halves = before[0][0] / 2
    assert float(crowded.scale.numpy()) == 2 * before[0][1]
    assert (abs(crowded.integers.numpy() - halves) < 1).all()
    assert float(alone.scale.numpy()) == before[1][1]
    assert np.array_equal(alone.integers.numpy(), before[1][0])


def test_ranges_stay_where_the_callback_is_told(samples):
    model, _ = fit(samples, rct.RCTCallback(max_saturated=1.0, interval=1), recipe=rct.Recipe(bits=2, max_bits=2))
    kept = rct.quantize(small_model(), rct.Recipe(bits=2, max_bits=2))
    scales = [[float(weight.scale.numpy()) for weight in each.integer_weights] for each in (model, kept)]
    assert scales[0] == scales[1]


def test_one_bit_for_each_interval_and_layer(samples):
    callback = rct.RCTCallback(1e6, 4e6, interval=6)
    model, history = fit(samples, callback, recipe=rct.Recipe(bits=4, max_bits=8), epochs=3)
    for name in NAMES:
        assert history[f"bits/{name}"] == [4, 5, 6]  # decided before the first batch of an epoch
    assert bits(model) == [6, 6, 6]


def test_a_jump_takes_one_decision(samples):
    _, history = fit(samples, rct.RCTCallback(1e6, 4e6, interval=6, mode="jump"), recipe=WIDE)
    assert history["bits/conv1"] == [4, 12]


def test_bits_stay_after_some_epochs(samples):
    callback = rct.RCTCallback(1e6, 4e6, interval=3, freeze_after=1)
    _, history = fit(samples, callback, recipe=WIDE, epochs=3)
    assert history["bits/dense"] == [5, 5, 5]


def test_a_frozen_layer_keeps_its_bits(samples):
    recipe = rct.Recipe(bits=4, rules=(Rule("conv2", frozen=True),))
    model, _ = fit(samples, rct.RCTCallback(1e6, 4e6, interval=2), recipe=recipe)
    assert bits(model) == [8, 4, 8]


@pytest.mark.parametrize("mode", ["step", "jump"])
def test_the_budget_holds_at_every_moment(samples, monkeypatch, mode):
    model = compiled(rct.quantize(small_model(), rct.Recipe(bits=8, max_bits=12)), run_eagerly=True)
    budget, sizes, set_bits = packed(model) - 60, [], IntegerWeight.set_bits

    def observed(weight, width):
        set_bits(weight, width)
        sizes.append(packed(model))

    callback = rct.RCTCallback({"dense": 1e4, "*": 0.1}, {"*": 1e6}, interval=2, budget_bytes=budget, mode=mode)
    with monkeypatch.context() as patched:
        patched.setattr(IntegerWeight, "set_bits", observed)
        fit(samples, callback, model=model, epochs=4)
    assert sizes[-1] <= budget
    start = next(index for index, size in enumerate(sizes) if size <= budget)
    assert len(sizes) > start + 3  # bits changed hands after the start
    assert max(sizes[start:]) <= budget
    assert int(model.integer_weights[2].bits) == 12


@pytest.mark.parametrize("mode", ["step", "jump"])
def test_the_budget_of_joules_holds_at_every_moment(samples, monkeypatch, mode):
    model = compiled(rct.quantize(small_model(), rct.Recipe(bits=8, max_bits=12)), run_eagerly=True)
    step, joules, set_bits = step_energy(find_target("stm32l4r5")), [], IntegerWeight.set_bits

    def now():
        return step.joules(work_of(model.integer_weights, macs_per_sample(model)))

    def observed(weight, width):
        set_bits(weight, width)
        joules.append(now())

    budget = 0.95 * now()
    settings = {"budget_joules": budget, "target": "stm32l4r5", "mode": mode, "interval": 2}
    callback = rct.RCTCallback({"dense": 1e4, "*": 0.1}, {"*": 1e6}, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(IntegerWeight, "set_bits", observed)
        _, history = fit(samples, callback, model=model, epochs=4)
    start = next(index for index, energy in enumerate(joules) if energy <= budget)
    assert len(joules) > start + 2  # bits changed hands after the start
    assert max(joules[start:]) <= budget
    assert int(model.integer_weights[2].bits) == 12
    assert history["step_joules/bits-product"][-1] == pytest.approx(now())


def test_a_budget_of_joules_that_cannot_be_kept(samples):
    with pytest.raises(RecipeError, match=r"budget_joules of at least \S+, for conv1 90 x 2 bits.*Received"):
        fit(samples, rct.RCTCallback(budget_joules=1e-12, target="stm32l4r5"))
    with pytest.raises(RecipeError, match="rct-tflite targets"):
        rct.RCTCallback(budget_joules=1e-6)


def test_a_budget_of_joules_needs_known_shapes():
    inputs = keras.Input((None, 3))
    model = rct.quantize(keras.Model(inputs, keras.layers.Conv1D(2, 2)(inputs)))
    model.compile(rct.optimizers.SGD(0.1), "mse")
    callback = rct.RCTCallback(budget_joules=1.0, target="stm32l4r5")
    with pytest.raises(RecipeError, match="unknown number of multiply-accumulates"):
        model.fit(np.zeros((2, 5, 3)), np.zeros((2, 4, 2)), verbose=0, callbacks=[callback])


def test_a_budget_that_cannot_hold_the_model(samples):
    with pytest.raises(RecipeError, match=r"at least 55, for conv1 90 x 2 bits.*Received: budget_bytes=54"):
        fit(samples, rct.RCTCallback(budget_bytes=54))


def test_history(samples):
    model, values = fit(samples, rct.RCTCallback(interval=5), epochs=3)
    for name in NAMES:
        for statistic in ("bits", "gavg", "underflow", "saturated"):
            assert len(values[f"{statistic}/{name}"]) == 3
        assert min(values[f"gavg/{name}"]) > 0.0
        assert all(0.0 < share < 1.0 for share in values[f"underflow/{name}"])
        assert all(0.0 <= share < 0.5 for share in values[f"saturated/{name}"])
    weights = np.array([weight.weight_count for weight in model.integer_weights])
    assert values["bits"][-1] == pytest.approx(np.average(bits(model), weights=weights))
    assert values["parameter_bytes"][-1] == parameter_bytes(model).rct
    assert all(0.0 < share < 0.1 for share in values["gemm_energy/bits-product"])
    assert {len(column) for column in values.values()} == {3}


def test_one_line_an_epoch(samples, capsys):
    fit(samples, rct.RCTCallback(interval=100, verbose=1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 2/2  accuracy [01]\.\d{4}  loss \d\.\d{4}  bits conv1:6 conv2:6 dense:6  "
        r"0\.\d kB \(float32 1\.\d kB, QAT 1\.\d kB\)",
        lines[1],
    )


def test_the_progress_bar_shows_two_numbers_more(samples, capsys):
    fit(samples, rct.RCTCallback(), verbose=2)
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"loss: \d\.\d{4} - bits: 6\.0000 - parameter_bytes: \d+\.0000$", line)
    assert "gavg" not in line


def test_the_log_in_both_forms(samples, tmp_path):
    forms = [tmp_path / "runs" / "run.jsonl", tmp_path / "runs" / "run.csv"]
    callbacks = [rct.RCTCallback(interval=4, log=path) for path in forms]
    (_, history), _ = (fit(samples, callback, epochs=3) for callback in callbacks)
    lines, table = (read_run_log(path) for path in forms)
    assert lines == table
    assert [json.loads(line) for line in forms[0].read_text().splitlines()] == list(lines.rows)
    with forms[1].open() as file:
        assert len(list(csv.reader(file))) == 4
    assert lines.weights == NAMES
    assert lines.values("steps") == [6, 12, 18]
    for name in (*(f"gavg/{name}" for name in NAMES), "loss", "accuracy", "bits", "moved_bits/4", "underflow/dense"):
        assert lines.values(name) == pytest.approx(history[name])


def test_tensorboard(samples, tmp_path):
    _, history = fit(samples, rct.RCTCallback(tensorboard=tmp_path))
    found = {}
    for record in tf.data.TFRecordDataset([str(path) for path in tmp_path.iterdir()]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    for name in ("gavg/conv1", "loss", "bits", "gemm_energy/horowitz"):
        assert found[name] == [(0, pytest.approx(history[name][0])), (1, pytest.approx(history[name][1]))]


def test_only_the_chief_of_several_workers_writes(samples, tmp_path):
    callback = rct.RCTCallback()
    for chief in (True, False):
        strategy = types.SimpleNamespace(extended=types.SimpleNamespace(should_checkpoint=chief))
        callback.set_model(types.SimpleNamespace(distribute_strategy=strategy))
        assert callback._writes() == chief


def thresholds(samples, tmp_path, callback_settings, recipe=None, **options):
    """The bands that a training used, by its log."""
    path = tmp_path / "run.jsonl"
    fit(samples, rct.RCTCallback(**callback_settings, log=path), recipe=recipe, epochs=1, **options)
    row = read_run_log(path).rows[-1]
    return [(row[f"t_min/{name}"], row[f"t_max/{name}"]) for name in NAMES]


def test_default_thresholds_follow_rate_and_rounding(samples, tmp_path):
    recipe = rct.Recipe(rules=(Rule("conv2", rounding="truncate"),))
    assert thresholds(samples, tmp_path, {}, recipe) == [(3.0, 12.0), (40.0, 160.0), (3.0, 12.0)]
    assert thresholds(samples, tmp_path, {}, learning_rate=0.02) == [(15.0, 60.0)] * 3


def test_thresholds_by_pattern(samples, tmp_path):
    settings = {"t_min": {"conv2": 0.5, "conv*": 2.0}, "t_max": {"dense": 100.0}}
    assert thresholds(samples, tmp_path, settings) == [(2.0, 8.0), (0.5, 2.0), (3.0, 100.0)]
    with pytest.raises(RecipeError, match=r"'dens' fits no weight.*'conv1', 'conv2', 'dense'"):
        fit(samples, rct.RCTCallback(t_max={"dense": 100.0, "dens": 90.0}))


def test_the_rate_that_a_schedule_reaches():
    schedules = keras.optimizers.schedules
    decay = schedules.CosineDecay(0.1, 1000)
    warm_up = schedules.CosineDecay(0.0, 10000, warmup_target=0.4, warmup_steps=256)
    assert starting_rate(rct.optimizers.SGD(decay)) == pytest.approx(0.1)
    assert starting_rate(rct.optimizers.SGD(warm_up)) == pytest.approx(0.4, rel=0.01)
    lowered = rct.optimizers.SGD(0.1)
    lowered.learning_rate = 0.001
    assert starting_rate(lowered) == 0.1
    assert starting_rate(rct.optimizers.SGD.from_config(lowered.get_config())) == 0.1


def test_a_lowered_rate_does_not_widen(samples, tmp_path):
    path, model = tmp_path / "run.jsonl", tmp_path / "model.keras"
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=0, min_delta=100.0)
    trained, _ = fit(samples, rct.RCTCallback(log=path), plateau, epochs=3)
    assert float(trained.optimizer.learning_rate) < 0.01
    trained.save(model)
    fit(samples, rct.RCTCallback(log=path), model=rct.load_model(model), epochs=4, initial_epoch=3)
    run = read_run_log(path)
    assert run.values("t_min/dense") == [3.0] * 4
    assert run.values("learning_rate")[-1] < 0.01


def test_another_running_mean_is_traced_anew(samples):
    model, means, functions = compiled(rct.quantize(small_model()), 1e-6), [], []
    for layer in model.layers:
        if isinstance(layer, rct.layers.ActivationRange):
            layer.momentum = 1.0  # seen once more, a batch moves no range
    for average in (0.9, 0.0, 0.0):
        model, _ = fit(samples, rct.RCTCallback(1e-9, 1e9, average=average), model=model, epochs=1)
        means.append([float(weight.gavg) for weight in model.integer_weights])
        functions.append(model.train_function)
    assert functions[0] is not functions[1] is functions[2]
    last = [float(value) for value in gavg_of_batch(model, samples[0][80:], samples[1][80:])]
    assert means[2] == pytest.approx(last, rel=0.01)  # batch statistics move a little
    assert means[0] != pytest.approx(last, rel=0.02)


def gavg_of_batch(model, x, y):
    """Mean of `abs(gradient) / scale` of each weight, by another path than the training step."""
    values = [weight.dequantised() for weight in model.integer_weights]
    with tf.GradientTape() as tape, active_weights(model.integer_weights, values):
        tape.watch(values)
        loss = model.compute_loss(x, y, model(x, training=True))
    gradients = tape.gradient(loss, values)
    return [tf.reduce_mean(abs(g)) / weight.scale for g, weight in zip(gradients, model.integer_weights, strict=True)]


@pytest.mark.parametrize(("together", "interval"), [(1, 6), (4, 5), (4, 6)])
def test_a_resumed_training_decides_as_an_uninterrupted_one(samples, tmp_path, together, interval):
    """Saved by a callback that comes before ours; executions of 4 and 2 steps; decisions at the end of an epoch."""

    def training(log, **options):
        # Two layers get a bit with each decision: one more or less would show.
        callback = rct.RCTCallback({"conv1": 1.0, "*": 1e6}, interval=interval, log=log)
        checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
        return fit(samples, checkpoint, callback, epochs=4, **options)[0]

    options = {"steps_per_execution": together} if together > 1 else {"run_eagerly": True}
    whole = training(tmp_path / "whole.csv", model=compiled(rct.quantize(small_model(), rct.Recipe(bits=3)), **options))
    log = tmp_path / "resumed.csv"
    log.write_text((tmp_path / "whole.csv").read_text())
    loaded = rct.load_model(tmp_path / "2.keras")
    loaded.run_eagerly = together == 1
    resumed = training(log, model=loaded, initial_epoch=2)
    assert same(integers(resumed), integers(whole))
    assert bits(resumed) == bits(whole)
    assert bits(whole)[2] < 8
    rows = [read_run_log(path).rows for path in (tmp_path / "whole.csv", log)]
    assert rows[0][:2] == rows[1][:2]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for before, after in zip(*rows, strict=True):
        assert after == pytest.approx(before)


def test_the_best_weights_come_back_whole(samples):
    """EarlyStopping sets integers, bit-widths and scales of an earlier epoch: they must belong together."""
    stop = keras.callbacks.EarlyStopping("bits", mode="min", patience=3, restore_best_weights=True)
    model, history = fit(samples, rct.RCTCallback(1e6, 4e6, interval=3), stop, recipe=WIDE, epochs=9)
    assert len(history["bits"]) == 4
    assert history["bits"][0] == min(history["bits"])
    assert bits(model) == [history[f"bits/{name}"][0] for name in NAMES] == [5, 5, 5]
    for weight, q in zip(model.integer_weights, integers(model), strict=True):
        assert top(4) < abs(q).max() <= top(int(weight.bits))
    fit(samples, rct.RCTCallback(interval=3), model=model, epochs=1)


def test_a_loss_that_is_not_finite_stops(samples):
    callback = rct.RCTCallback()
    callback.set_model(rct.quantize(small_model()))
    with pytest.raises(QuantizationError, match=r"epoch 3: the loss is nan"):
        callback.on_epoch_end(2, {"loss": float("nan")})


def test_parameter_bytes():
    model = rct.quantize(small_model(), rct.Recipe(bits=5))
    model.integer_weights[1].set_bits(7)
    weights = [3 * 3 * 2 * 5, 2 * 2 * 5 * 4, 2 * 2 * 4 * 3]
    floats = 4 * 5 + 4 + 3  # batch normalisation, two biases
    packed = [(90 * 5 + 7) // 8, 80 * 7 // 8, 48 * 5 // 8]
    assert parameter_bytes(model) == ParameterBytes(
        rct=sum(packed) + 4 * (floats + 3), float32=4 * (sum(weights) + floats), qat=5 * sum(weights) + 4 * floats
    )


@pytest.mark.parametrize(
    "settings",
    [{"t_min": 4.0, "t_max": 1.0}, {"t_min": 1.0, "t_max": 3.9}, {"t_min": 0.0}, {"t_min": 1.0, "t_max": float("nan")},
     {"t_min": {"conv*": -1.0}}, {"t_min": {"conv*": 2.0}, "t_max": 7.0}, {"min_bits": 1}, {"max_bits": 17},
     {"min_bits": 7, "max_bits": 6}, {"interval": 0}, {"average": 1.0}, {"average": -0.1}, {"freeze_after": -1},
     {"max_saturated": 0.0}, {"budget_bytes": 0}, {"budget_joules": -1.0, "target": "stm32l4r5"},
     {"mode": "leap"}, {"log": "run.txt"}, {"interval": 2.5}, {"t_min": "low"}, {"min_bits": 4.0},
     {"budget_bytes": "1k"}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(RecipeError, match="Received"):
        rct.RCTCallback(**settings)


def test_limits_that_the_recipe_cannot_hold_are_refused(samples):
    with pytest.raises(RecipeError, match="max_bits=12"):
        fit(samples, rct.RCTCallback(max_bits=12))


def test_a_float_model_is_refused(samples):
    model = small_model()
    model.compile("sgd", "mse")
    with pytest.raises(RecipeError, match="Sequential"):
        model.fit(samples[0], np.zeros((96, 3)), verbose=0, callbacks=[rct.RCTCallback()])


def test_examples_in_docstrings():
    # pytest collects the doctests of the other rooms; reading these imports TensorFlow.
    modules = [module.name for module in pkgutil.iter_modules(rct_tflite.training.__path__)]
    results = [doctest.testmod(importlib.import_module(f"rct_tflite.training.{name}")) for name in modules]
    assert sum(result.attempted for result in results) >= 3
    assert sum(result.failed for result in results) == 0
