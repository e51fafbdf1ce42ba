"""Errors of 16 bits: the PC and emulated cores learn the bytes of the reference."""

import dataclasses

import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.session import emulated_runner, host_runner
from rct_tflite.spec.training_plan import Loss
from rct_tflite.tflite.reader import read_graph
from tests.firmware.conftest import CASES, TARGET, Case
from tests.graphs import GraphBuilder
from tests.keras_networks import BRANCHES, converted, decoder, multi_label

STEPS = 100
LOSSES = {
    "sigmoid": (multi_label, Loss.SIGMOID_CROSS_ENTROPY),
    "squared": (multi_label, Loss.MEAN_SQUARED_ERROR),
    "huber": (decoder, Loss.HUBER),
}


def large():
    """Sums that errors of 16 bits must drop bits for: many positions, many terms."""
    return GraphBuilder((20, 20, 3), 4).conv(40, per_channel=True).conv(40, (3, 3), 2).reshape(4000).dense(3).graph()


GRAPHS = {**CASES, "large": (large(), "all")}



@pytest.mark.parametrize("name", GRAPHS)
def test_host_learns_the_bytes_of_the_reference(tmp_path, name):
    graph, train = GRAPHS[name]
    case = Case(tmp_path, graph, train, steps=STEPS if name != "large" else 6, error_bits=16)
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(tmp_path, name):
    case = Case(tmp_path, read_graph(converted(BRANCHES[name])), "all", steps=30, error_bits=16)
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


@pytest.mark.parametrize("name", LOSSES)
def test_losses(tmp_path, name):
    make, loss = LOSSES[name]
    case = Case(tmp_path, read_graph(converted(make)), "all", steps=30, loss=loss, error_bits=16)
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m7"])
def test_emulated_cores_learn_the_bytes_of_the_reference(tmp_path, core):
    graph, train = CASES["mixed"]
    case = Case(tmp_path, graph, train, dataclasses.replace(TARGET, core=core), STEPS, error_bits=16)
    emulator = available_emulators(core)[0]
    assert case.learn(emulated_runner(emulator, case.build(core).image)) == case.learnt
