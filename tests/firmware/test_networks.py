"""Files of others: TFLite-Micro, NumPy and C agree at every layer, and train the same bytes."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from rct_tflite.device import protocol
from rct_tflite.emulator import available_emulators
from rct_tflite.errors import DeviceError
from rct_tflite.firmware.session import emulated_runner, exchange, host_runner, layer_trace
from rct_tflite.planning.memory import plan_memory
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.training_plan import Loss, TrainingPlan
from rct_tflite.tflite.oracle import layer_outputs
from rct_tflite.tflite.reader import read_graph
from tests.firmware.conftest import TARGET, Case
from tests.keras_networks import BRANCHES, MLPERF_TINY, converted, decoder, multi_label

# What learns, training steps, and TFLite-Micro's arena in bytes (facts of the pinned wheel on a 32-bit core).
NETWORKS = {
    "AD": ("last:2", 10, 2_260),
    "KWS": ("last:2", 6, 22_772),
    "IC": ("last:2", 3, 54_340),
    "VWW": ("last:2", 2, 100_660),
    **dict.fromkeys(BRANCHES, ("all", 40, None)),
}


@dataclass
class Network:
    """A converted network with its C project, built once to trace and to learn."""

    model: bytes
    case: Case
    arena_limit: int | None

    @cached_property
    def runner(self):
        return host_runner(self.case.build("host", defines=("RCT_TRACE",), sanitize=True).image)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, tmp_path_factory) -> Network:
    train, steps, limit = NETWORKS[request.param]
    model = converted({**MLPERF_TINY, **BRANCHES}[request.param])
    case = Case(tmp_path_factory.mktemp("network"), read_graph(model), train, steps=steps)
    return Network(model, case, limit)


def test_every_layer_equals_tflite_micro(network):
    samples = network.case.samples[:3]
    oracle = layer_outputs(network.model, samples)
    reference = ReferenceNetwork(network.case.graph).layer_outputs(samples)
    for layer, ours in zip(oracle, reference, strict=True):
        np.testing.assert_array_equal(layer.values.reshape(ours.shape), ours, err_msg=layer.op.name)
    flat = [layer.values.reshape(len(samples), -1) for layer in oracle]
    np.testing.assert_array_equal(layer_trace(network.runner, samples), np.concatenate(flat, axis=1))


def test_host_learns_the_bytes_of_the_reference(network):
    assert network.case.learnt != ReferenceTrainer(network.case.graph, network.case.plan).parameter_block()
    assert network.case.learn(network.runner) == network.case.learnt


def test_inference_takes_no_more_memory_than_in_tflite_micro(network):
    graph = network.case.graph
    forward = plan_memory(graph, TrainingPlan((), 0.01, Rounding.STOCHASTIC))
    assert forward.arena_bytes <= (network.arena_limit or network.case.memory.arena_bytes)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7"])
def test_an_emulated_core_learns_the_bytes_of_the_reference(tmp_path: Path, core):
    target = dataclasses.replace(TARGET, core=core)
    case = Case(tmp_path, read_graph(converted(BRANCHES["dense block"])), "all", target, steps=10)
    image = case.build(core).image
    assert case.learn(emulated_runner(available_emulators(core)[0], image)) == case.learnt


LOSSES = {
    "sigmoid behind LOGISTIC": (multi_label, Loss.SIGMOID_CROSS_ENTROPY),
    "sigmoid on logits": (decoder, Loss.SIGMOID_CROSS_ENTROPY),
    "squared": (multi_label, Loss.MEAN_SQUARED_ERROR),
    "absolute": (decoder, Loss.MEAN_ABSOLUTE_ERROR),
    "huber": (decoder, Loss.HUBER),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_the_bytes_of_the_reference(tmp_path, name):
    make, loss = LOSSES[name]
    case = Case(tmp_path, read_graph(converted(make)), "all", steps=30, loss=loss)
    runner = host_runner(case.build("host", sanitize=True).image)
    assert case.learnt != ReferenceTrainer(case.graph, case.plan).parameter_block()
    assert case.learn(runner) == case.learnt
    wrong = protocol.learn(case.samples[0], 0)
    with pytest.raises(DeviceError, match="LEARN: ERR_ARGUMENT"):
        list(exchange(runner, [wrong]))
