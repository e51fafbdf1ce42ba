"""Multiply-accumulates of every layer, and the papers' energy over a training."""

import math

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.energy.paper_model import GemmModel, shares
from rct_tflite.training.macs import macs_per_sample
from rct_tflite.training.model import RCTModel
from rct_tflite.training.records import EnergyMeter, work_of
from tests.training.conftest import compiled, small_model

import keras  # isort: skip


def macs_of(shape, *layers):
    inputs = keras.Input(shape)
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    model = RCTModel(inputs, outputs)
    counted = macs_per_sample(model)
    return [counted[id(weight)] for weight in model.integer_weights]


L = rct.layers


@pytest.mark.parametrize(
    ("shape", "layer", "expected"),
    [
        ((7,), lambda: L.Dense(5), [35]),
        ((4, 7), lambda: L.Dense(5), [4 * 35]),
        ((8, 8, 3), lambda: L.Conv2D(5, 3), [6 * 6 * 9 * 3 * 5]),
        ((8, 8, 4), lambda: L.Conv2D(6, 3, strides=2, padding="same", groups=2), [4 * 4 * 9 * 2 * 6]),
        ((9, 3), lambda: L.Conv1D(5, 3, strides=2), [4 * 3 * 3 * 5]),
        ((8, 8, 3), lambda: L.DepthwiseConv2D(3, depth_multiplier=2), [6 * 6 * 9 * 3 * 2]),
        ((8, 8, 3), lambda: L.SeparableConv2D(5, 3), [6 * 6 * 9 * 3, 6 * 6 * 3 * 5]),
        ((4, 4, 3), lambda: L.Conv2DTranspose(5, 3, strides=2), [4 * 4 * 9 * 5 * 3]),
        ((6,), lambda: L.Embedding(100, 8), [0]),
        ((6, 8), lambda: L.LSTM(5), [6 * 8 * 20, 6 * 5 * 20]),
        ((6, 8), lambda: L.GRU(5, return_sequences=True), [6 * 8 * 15, 6 * 5 * 15]),
        ((6, 8, 8, 3), lambda: keras.layers.TimeDistributed(L.Conv2D(5, 3)), [6 * 6 * 6 * 9 * 3 * 5]),
    ],
)
def test_macs_of_a_layer(shape, layer, expected):
    assert macs_of(shape, layer()) == expected


def test_a_shared_layer_counts_each_call_and_nested_models_theirs():
    dense = L.Dense(6)
    inner = keras.Sequential([keras.Input((6,)), L.Dense(6)])
    assert macs_of((6,), dense, dense, inner, inner, dense) == [3 * 36, 2 * 36]
    assert macs_of((5, 6), keras.layers.TimeDistributed(inner), inner.layers[-1]) == [5 * 36 + 5 * 36]


def test_macs_of_a_length_that_is_not_known():
    assert [math.isnan(macs) for macs in macs_of((None, 8), L.LSTM(5), L.Dense(3))] == [True, True, False]


def test_macs_of_quantised_models():
    model = rct.quantize(small_model())
    counted = macs_per_sample(model)
    assert [counted[id(weight)] for weight in model.integer_weights] == [36 * 90, 4 * 80, 48]


def test_who_sends_errors_below():
    model = rct.quantize(small_model())
    first, second, third = model.integer_weights
    second.set_bits(4)

    def gemms():
        return [(layer.input_gradient, layer.weight_gradient) for layer in work_of(model.integer_weights, {})]

    assert gemms() == [(False, True), (True, True), (True, True)]
    first.trainable = False
    assert gemms() == [(False, False), (False, True), (True, True)]
    assert [layer.bits for layer in work_of(model.integer_weights, {id(third): 7.0})] == [6, 4, 6]
    assert [layer.macs for layer in work_of(model.integer_weights, {id(third): 7.0})] == [0.0, 0.0, 7.0]


def test_a_recurrent_layer_sends_errors_back_in_time():
    inputs = keras.Input((6, 8))
    model = RCTModel(inputs, L.LSTM(5)(inputs))
    assert [layer.input_gradient for layer in work_of(model.integer_weights, {})] == [False, True]


def test_the_meter_weighs_by_steps():
    model = rct.quantize(small_model())
    macs, meter = macs_per_sample(model), EnergyMeter()
    steps = {}
    for bits, count in ((6, 10), (8, 30)):
        for weight in model.integer_weights:
            weight.set_bits(bits)
        work = work_of(model.integer_weights, macs)
        meter.add(count, work)
        meter.add(0, work)
        steps[count] = shares(work)
    columns = meter.columns()
    for kind in GemmModel:
        mean = np.average([step.gemm_of_float32[kind] for step in steps.values()], weights=list(steps))
        assert columns[f"gemm_energy/{kind}"] == pytest.approx(mean)
    assert columns["moved_bits/4"] == pytest.approx((10 * 24 + 30 * 32) / 40 / 88)
    again = EnergyMeter()
    again.resume({**columns, "steps": 40, "loss": 0.5})
    assert again.columns() == pytest.approx(columns)
    again.add(40, work)
    assert again.columns()["moved_bits/3"] == pytest.approx((columns["moved_bits/3"] + 24 / 88) / 2)


def test_an_unknown_energy_is_left_out():
    meter, model = EnergyMeter(), rct.quantize(small_model())
    macs = dict.fromkeys(map(id, model.integer_weights), math.nan)
    meter.add(5, work_of(model.integer_weights, macs))
    assert set(meter.columns()) == {"moved_bits/3", "moved_bits/4"}


def test_a_text_model_of_any_length_trains_with_a_log(tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    model = RCTModel(inputs, L.Dense(2)(L.GRU(4)(L.Embedding(20, 3)(inputs))))
    random = np.random.default_rng(0)
    x, y = random.integers(0, 20, (32, 5)), random.integers(0, 2, 32)
    callback = rct.RCTCallback(interval=1, log=tmp_path / "run.csv")
    history = compiled(model, run_eagerly=True).fit(x, y, batch_size=16, verbose=0, callbacks=[callback]).history
    labels = [weight.label for weight in model.integer_weights]
    assert len(set(labels)) == 4
    assert all(len(history[f"bits/{label}"]) == 1 for label in labels)
    assert "gemm_energy/horowitz" not in history
