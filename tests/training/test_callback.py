import doctest
import importlib
import pkgutil
import re

import numpy as np
import pytest

import rct_tflite as rct
import rct_tflite.training
from rct_tflite.errors import RecipeError
from rct_tflite.training.memory import ParameterBytes, parameter_bytes
from rct_tflite.training.policy import BitPolicy
from tests.training.conftest import compiled, small_model


def fit(samples, callback, recipe=None, epochs=2, learning_rate=0.1):
    model = compiled(rct.quantize(small_model(), recipe), learning_rate, run_eagerly=True)  # no time to trace
    return model, model.fit(*samples, epochs=epochs, batch_size=16, shuffle=False, verbose=0, callbacks=[callback])


def bits(model):
    return [int(layer.bits) for layer in model.quantized_layers]


@pytest.mark.parametrize(
    ("now", "gavg", "low", "high", "then"),
    [(6, 0.99, 2, 8, 7), (6, 1.0, 2, 8, 6), (6, 4.0, 2, 8, 6), (6, 4.01, 2, 8, 5), (8, 0.1, 2, 8, 8),
     (2, 9.0, 2, 8, 2), (6, 0.0, 2, 8, 6), (6, 2.0, 7, 8, 7), (6, 2.0, 2, 4, 4)],
)  # fmt: skip
def test_policy(now, gavg, low, high, then):
    assert BitPolicy(1.0, 4.0).next_bits(now, gavg, low, high) == then


@pytest.mark.parametrize(
    ("thresholds", "limits", "expected"),
    [((1e6, 4e6), {}, [8, 8, 8]), ((1e6, 4e6), {"max_bits": 7}, [7, 7, 7]), ((1e-9, 4e-9), {}, [3, 3, 3]),
     ((1e-9, 4e-9), {"min_bits": 5}, [5, 5, 5]), ((1e-9, 1e9), {}, [6, 6, 6])],
)  # fmt: skip
def test_bits_go_up_and_down_to_their_limits(samples, thresholds, limits, expected):
    callback = rct.RCTCallback(*thresholds, interval=3, **limits)
    model, _ = fit(samples, callback, rct.Recipe(bits=6, min_bits=3, max_bits=8))
    assert bits(model) == expected


def test_one_bit_for_each_interval_and_layer(samples):
    model, history = fit(samples, rct.RCTCallback(1e6, 4e6, interval=6), rct.Recipe(bits=4, max_bits=8), epochs=3)
    for name in ("conv1", "conv2", "dense"):
        assert history.history[f"bits/{name}"] == [5, 6, 7]
    assert bits(model) == [7, 7, 7]


def test_history(samples):
    model, history = fit(samples, rct.RCTCallback(interval=5), epochs=3)
    values = history.history
    for name in ("conv1", "conv2", "dense"):
        for statistic in ("bits", "gavg", "underflow", "saturated"):
            assert len(values[f"{statistic}/{name}"]) == 3
        assert min(values[f"gavg/{name}"]) > 0.0
        assert all(0.0 < share < 1.0 for share in values[f"underflow/{name}"])
        assert all(0.0 <= share < 0.5 for share in values[f"saturated/{name}"])
    weights = np.array([layer.weight_count for layer in model.quantized_layers])
    assert values["bits"][-1] == pytest.approx(np.average(bits(model), weights=weights))
    assert values["parameter_bytes"][-1] == parameter_bytes(model).rct


def test_one_line_an_epoch(samples, capsys):
    fit(samples, rct.RCTCallback(interval=100, verbose=1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 2/2  accuracy [01]\.\d{4}  loss \d\.\d{4}  bits conv1:6 conv2:6 dense:6  "
        r"0\.\d kB \(float32 1\.\d kB, QAT 1\.\d kB\)",
        lines[1],
    )


def test_parameter_bytes():
    model = rct.quantize(small_model(), rct.Recipe(bits=5))
    model.quantized_layers[1].set_bits(7)
    weights = [3 * 3 * 2 * 5, 2 * 2 * 5 * 4, 2 * 2 * 4 * 3]
    floats = 4 * 5 + 4 + 3  # batch normalisation, two biases
    packed = [(90 * 5 + 7) // 8, 80 * 7 // 8, 48 * 5 // 8]
    assert parameter_bytes(model) == ParameterBytes(
        rct=sum(packed) + 4 * (floats + 3), float32=4 * (sum(weights) + floats), qat=5 * sum(weights) + 4 * floats
    )


@pytest.mark.parametrize(
    "settings",
    [{"t_min": 4.0, "t_max": 1.0}, {"t_min": 1.0, "t_max": 1.9}, {"t_min": 0.0}, {"t_max": float("nan")},
     {"min_bits": 1}, {"max_bits": 17}, {"min_bits": 7, "max_bits": 6}, {"interval": 0}],
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
