"""NumPy, the PC and the emulated core learn the same bytes."""

import numpy as np
import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.session import emulated_runner, host_runner, layer_trace
from rct_tflite.firmware.toolchain import available_toolchains
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from tests.firmware.conftest import TARGET, Case
from tests.graphs import GraphBuilder, renamed

EMULATED = [
    (toolchain.name, emulator)
    for toolchain in available_toolchains(TARGET.core)
    for emulator in available_emulators(TARGET.core)
]


def test_learning_changes_the_parameters(case):
    assert case.learnt != ReferenceTrainer(case.graph, case.plan).parameter_block()


def test_host_learns_the_bytes_of_the_reference(case):
    # Sanitizers stop at an access outside a buffer and at undefined behaviour.
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


@pytest.mark.parametrize(("toolchain", "emulator"), EMULATED, ids=[f"{t}-{e.name}" for t, e in EMULATED])
def test_emulated_core_learns_the_bytes_of_the_reference(case, toolchain, emulator):
    assert case.learn(emulated_runner(emulator, case.build(TARGET.core, toolchain).image)) == case.learnt


def test_names_that_are_alike_in_c(tmp_path):
    """Layers keep apart whose names differ in case, in what C lacks, or look like names of other tables."""
    names = ["a", "A", "mantissa_a", "shift_a", "a_2", "a.2", "3 */ int x; /*", "é"]
    builder = GraphBuilder((5,))
    for _ in names:
        builder.dense(4, bits=5)
    case = Case(tmp_path, renamed(builder.graph(), names), "all")
    assert case.learn(host_runner(case.build("host").image)) == case.learnt


def test_every_layer_equals_the_reference(case):
    build = case.build("host", defines=("RCT_TRACE",), sanitize=True)
    trace = layer_trace(host_runner(build.image), case.samples)
    outputs = ReferenceNetwork(case.graph).layer_outputs(case.samples)
    expected = np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)
    np.testing.assert_array_equal(trace, expected)
