"""Errors of 16 bits: the PC and emulated cores learn the bytes of the reference."""

import dataclasses

import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.session import emulated_runner, host_runner
from rct_tflite.spec.step_options import RatePoint, StepOptions
from rct_tflite.spec.training_plan import Loss
from rct_tflite.tflite.reader import read_graph
from tests.firmware.conftest import CASES, TARGET, Case
from tests.graphs import GraphBuilder
from tests.keras_networks import converted, decoder, multi_label, squeeze_and_excite

CROSS_ENTROPY = Loss.SOFTMAX_CROSS_ENTROPY


def large():
    """Sums that wide errors must drop bits for: 400 positions, 360 and 576 terms."""
    return GraphBuilder((20, 20, 3), 4).conv(40, per_channel=True).conv(64, stride=4).reshape(1600).dense(3).graph()


PARTS = "layer0:2,layer2:5,layer5:6,layer6:bias"
GRAPHS = {  # graph, training steps, loss
    "mixed": (lambda: CASES["mixed"][0], 100, CROSS_ENTROPY),
    "in part": (lambda: CASES["mixed"][0], 100, CROSS_ENTROPY),
    "branches": (lambda: CASES["branches"][0], 100, CROSS_ENTROPY),
    "large": (large, 4, CROSS_ENTROPY),
    "squeeze": (lambda: read_graph(converted(squeeze_and_excite)), 40, CROSS_ENTROPY),
    "decoder": (lambda: read_graph(converted(decoder)), 40, Loss.HUBER),
    "sigmoid": (lambda: read_graph(converted(multi_label)), 100, Loss.SIGMOID_CROSS_ENTROPY),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_host_learns_the_bytes_of_the_reference(tmp_path, name):
    make, steps, loss = GRAPHS[name]
    case = Case(tmp_path, make(), PARTS if name == "in part" else "all", steps=steps, loss=loss, error_bits=16)
    # Sanitizers stop at an access outside a buffer and at undefined behaviour.
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


def test_factors_of_wide_errors(tmp_path):
    graph = GraphBuilder((9,)).dense(7, bits=6).dense(5).graph()
    options = StepOptions((256, 40, 1000, 1, 65535), (RatePoint(0, 30000), RatePoint(7, 99999)), clip_norm=0.9)
    shared = {"steps": 110, "loss": Loss.SIGMOID_CROSS_ENTROPY, "error_bits": 16}
    case = Case(tmp_path, graph, "all", options=options, **shared)
    assert case.learnt != Case(tmp_path / "plain", graph, "all", **shared).learnt
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m7"])
def test_emulated_cores_learn_the_bytes_of_the_reference(tmp_path, core):
    graph, train = CASES["mixed"]
    case = Case(tmp_path, graph, train, dataclasses.replace(TARGET, core=core), 100, error_bits=16)
    emulator = available_emulators(core)[0]
    assert case.learn(emulated_runner(emulator, case.build(core).image)) == case.learnt
