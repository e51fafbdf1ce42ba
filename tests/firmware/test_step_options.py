"""Options of the training step: NumPy, the PC and the emulated core learn the same bytes."""

import dataclasses
import json

import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.manifest import Manifest
from rct_tflite.firmware.session import emulated_runner, host_runner
from rct_tflite.planning.options import read_schedule
from rct_tflite.spec.step_options import PLAIN_STEP, RatePoint, StepOptions, options_from_json
from rct_tflite.spec.training_plan import Loss
from tests.firmware.conftest import TARGET, Case
from tests.graphs import GraphBuilder

M4 = dataclasses.replace(TARGET, core="cortex-m4")
STEPS = 110


def small(rounding="stochastic"):
    """Convolution and dense layers, packed and not, one scale and several."""
    builder = GraphBuilder((5, 5, 2), seed=4).conv(4, stride=2, bits=6, per_channel=True).reshape(36).dense(7)
    return builder.dense(5, bits=5).graph(rounding=rounding)


WEIGHTS = (256, 40, 1000, 1, 65535)
CASES = {
    "a class": (
        small(),
        Loss.SOFTMAX_CROSS_ENTROPY,
        StepOptions(WEIGHTS, (RatePoint(0, 30000), RatePoint(7, 99999)), clip_norm=0.9, accumulate=3),
    ),
    "targets, truncated": (
        small("truncate"),
        Loss.HUBER,
        StepOptions(WEIGHTS, read_schedule("halve:20"), clip_norm=0.01, accumulate=2, momentum=200),
    ),
    "weights of outputs, momentum": (small(), Loss.SIGMOID_CROSS_ENTROPY, StepOptions(WEIGHTS, momentum=230)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_option_learns_the_bytes_of_the_reference(tmp_path, name):
    graph, loss, options = CASES[name]
    case = Case(tmp_path, graph, "all", M4, STEPS, loss, options, recomputes=options.accumulate > 2)
    assert case.learnt != Case(tmp_path / "plain", graph, "all", M4, STEPS, loss).learnt
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt
    image = case.build(M4.core).image
    assert case.learn(emulated_runner(available_emulators(M4.core)[0], image)) == case.learnt


def test_options_are_in_the_manifest_only_where_there_are_any(tmp_path):
    plain = Manifest("net", "0", ("a",), 0.1, "stochastic")
    plain.write(tmp_path)
    assert "options" not in json.loads((tmp_path / "manifest.json").read_text())
    for _, _, options in CASES.values():
        dataclasses.replace(plain, options=options).write(tmp_path)
        assert options_from_json(json.loads((tmp_path / "manifest.json").read_text())["options"]) == options
    assert options_from_json({}) == PLAIN_STEP
