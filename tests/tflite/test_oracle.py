"""TFLite-Micro as the oracle: its outputs, its arena, and clear errors."""

import importlib

import numpy as np
import pytest

from rct_tflite.errors import DataError, ToolchainError
from rct_tflite.tflite import flatfile
from rct_tflite.tflite.oracle import arena_bytes, arena_use, layer_outputs, run_micro
from tests.tflite.networks import exported, network_of, random_inputs


def test_samples_do_not_depend_on_each_other():
    inputs = random_inputs(network_of("per channel"), 300)
    outputs = run_micro(exported(), inputs)
    assert outputs.shape == (300, 3)
    np.testing.assert_array_equal(outputs[::-1], run_micro(exported(), inputs[::-1]))
    np.testing.assert_array_equal(outputs[:1], run_micro(exported(), inputs[:1, None]))


def test_layers_have_the_file_s_shapes():
    outputs = layer_outputs(exported(), random_inputs(network_of("per channel"), 2))
    assert [output.op.name for output in outputs] == [layer.name for layer in network_of("per channel").layers]
    for output, layer in zip(outputs, network_of("per channel").layers, strict=True):
        assert output.values.shape == (2, 1, *layer.output_shape)


@pytest.mark.parametrize(
    "inputs", [np.zeros((1, 10, 9, 3), np.int8), np.zeros((10, 9, 2), np.int8), np.zeros((1, 10, 9, 2), np.float32)]
)
def test_other_inputs_are_refused(inputs):
    with pytest.raises(DataError, match=r"int8 of shape \(samples, 10, 9, 2\)"):
        run_micro(exported(), inputs)


@pytest.mark.parametrize("case", ["per channel", "strides", "large"])
def test_arena_is_measured(case):
    use = arena_use(exported(case))
    assert use == arena_use(exported(case))
    assert use.smallest_bytes % 16 == 0
    sizes = [int(np.prod(layer.output_shape)) for layer in network_of(case).layers]
    assert max(a + b for a, b in zip([0, *sizes], sizes, strict=False)) < use.allocated_bytes <= use.smallest_bytes
    assert use.smallest_bytes < use.allocated_bytes + 4096
    assert arena_bytes(exported(case)) == use.smallest_bytes


def test_a_missing_wheel_is_explained(monkeypatch):
    def no_wheel(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", no_wheel)
    with pytest.raises(ToolchainError, match="tflite-micro wheel"):
        flatfile.schema()
