"""`export` and `run` on cores that one emulator alone has."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.spec.graph import OpKind
from tests.tflite.one_op import Quantised, one_op


def dense() -> bytes:
    weights = np.random.default_rng(0).integers(-127, 128, (3, 7), np.int8)
    inputs = [Quantised((1, 7), 0.02), Quantised.constant(weights, 0.01)]
    return one_op(OpKind.FULLY_CONNECTED, inputs, Quantised((1, 3), 0.05), fusedActivationFunction=0)


@pytest.mark.parametrize(("core", "emulator"), [("cortex-m55", "qemu"), ("rv32imc", "unicorn")])
def test_from_the_file_to_instructions(tmp_path, core, emulator):
    (tmp_path / "model.tflite").write_bytes(dense())
    arguments = [["export", tmp_path / "model.tflite", "--target", core, "--out", tmp_path / "out"]]
    arguments += [["run", tmp_path / "out", "--json"]]
    for line in arguments:
        result = CliRunner().invoke(cli, [str(argument) for argument in line])
        assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["emulator"].startswith(emulator)
    assert 0 < report["instructions_per_inference"] < report["instructions_per_training_step"]
    assert {"rct_fully_connected", "rct_fully_connected_grad", "rct_update"} <= set(report["functions"])
