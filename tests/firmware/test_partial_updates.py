"""Updates of a part of the network: the reference, the PC and emulated cores learn the same bytes, and nothing else."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.parameters import decode_parameters
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import emulated_runner, fine_tune, host_runner
from rct_tflite.planning.fit import memory_need
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, Graph, OpKind
from rct_tflite.tflite.reader import read_graph
from tests.firmware.conftest import TARGET, Case, mixed
from tests.graphs import GraphBuilder, conv_digits, dense_digits
from tests.keras_networks import BRANCHES, MLPERF_TINY, converted


def strided() -> Graph:
    """No pooling, odd sizes, both activations: nothing keeps an activation but what learns."""
    return (
        GraphBuilder((11, 9, 2), seed=3)
        .conv(6, stride=2)
        .conv(7, activation=Activation.RELU6, bits=5)
        .conv(5, stride=2, per_channel=True)
        .reshape(45)
        .dense(12)
        .dense(4, Activation.NONE)
        .graph()
    )


CASES = {
    "strided, biases": (strided(), "bias"),
    "strided, the deepest": (strided(), "layer0:2"),
    "dense, biases": (dense_digits(), "bias"),
    "dense, names": (dense_digits(bits=6), "layer0:5,layer1:0.5"),
    "dense, 8 bits, one channel": (dense_digits(), "layer0:1,layer1"),
    "conv, shares": (conv_digits(per_channel=True), "layer0:0.5,layer2:0.3,layer5:bias"),
    "conv, below frozen": (conv_digits(bits=4), "layer0:3"),
    "mixed, shares": (mixed(), "layer0:2,layer2:5,layer5:bias,layer6:3"),
    "truncated": (
        GraphBuilder((5, 5, 2)).conv(4).reshape(100).dense(3).graph(rounding="truncate"),
        "layer0:bias,layer2:2",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> Case:
    graph, train = CASES[request.param]
    return Case(tmp_path_factory.mktemp("partial"), graph, train)


def test_masks_are_kept_as_bits():
    """Biases keep a bit of each activation; the reference, which keeps them whole, learns the same (below)."""
    graph = strided()
    for train, outputs in (("bias", (0, 1, 2, 4)), ("layer0:2", (0, 1, 2, 4)), ("all", ())):
        memory = plan_memory(graph, select(graph, train))
        assert memory.masks <= {graph.ops[i].output for i in outputs}
        spans = {p.buffer.name: p.buffer for p in memory.placements}
        for tensor in memory.masks:
            assert spans[f"mask:{tensor}"].size == -(-graph.tensors[tensor].size // 8)
            assert spans[f"act:{tensor}"].last < len(graph.ops)
        assert bool(memory.masks) == (train != "all")


def test_host_learns_the_bytes_of_the_reference(case):
    assert case.learnt != ReferenceTrainer(case.graph, case.plan).parameter_block()
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


def test_nothing_else_changes(case):
    learnt = decode_parameters(case.graph, case.memory, case.learnt)
    ops = {op.name: op for op in case.graph.ops}
    assert tuple(learnt) == case.plan.trained
    for name, (weights, bias) in learnt.items():
        before, after = (
            dataclasses.replace(case.graph, tensors=_with(case.graph, ops[name], w)).weight_rows(ops[name])
            for w in (case.graph.tensors[ops[name].inputs[1]].data, weights)
        )
        changed = set(np.flatnonzero(np.any(before != after, axis=1)).tolist())
        assert changed <= set(case.plan.channels_of(name, len(before)))
        assert np.any(bias != case.graph.tensors[ops[name].inputs[2]].data)
    assert any(
        np.any(weights != case.graph.tensors[ops[name].inputs[1]].data) == case.plan.learns_weights(name)
        for name, (weights, _) in learnt.items()
    )


def _with(graph, op, weights):
    tensors = list(graph.tensors)
    tensors[op.inputs[1]] = dataclasses.replace(tensors[op.inputs[1]], data=weights)
    return tuple(tensors)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", ["conv, shares", "dense, names"])
def test_emulated_cores_learn_the_bytes_of_the_reference(tmp_path, core, name):
    graph, train = CASES[name]
    case = Case(tmp_path, graph, train, dataclasses.replace(TARGET, core=core), steps=40)
    emulator = available_emulators(core)[0]
    assert case.learn(emulated_runner(emulator, case.build(core).image)) == case.learnt


@pytest.mark.parametrize("network", BRANCHES)
def test_networks_of_others_learn_half_of_each_layer(tmp_path, network):
    graph = read_graph(converted(BRANCHES[network]))
    weighted = [op for op in graph.ops if op.has_weights]
    kinds = {OpKind.DEPTHWISE_CONV_2D: "bias"}
    train = ",".join(f"{op.name}:{kinds.get(op.kind, '0.5') if i % 2 else '0.5'}" for i, op in enumerate(weighted))
    case = Case(tmp_path, graph, train, steps=20)
    assert case.learnt != ReferenceTrainer(case.graph, case.plan).parameter_block()
    assert case.learn(host_runner(case.build("host", sanitize=True).image)) == case.learnt


def test_nothing_learns(tmp_path):
    case = Case(tmp_path, conv_digits(), "none")
    done = fine_tune(host_runner(case.build("host", sanitize=True).image), None, Samples(case.samples[:5], None))
    assert (done.info.parameter_bytes, done.parameters) == (0, b"")
    np.testing.assert_array_equal(done.before, ReferenceNetwork(case.graph).run(case.samples[:5]))


def test_all_biases_of_a_mobilenet_learn_in_96_kib():
    """Its activations kept whole would take 237,184 B."""
    graph = read_graph(converted(MLPERF_TINY["VWW"]))
    memory = plan_memory(graph, select(graph, "bias"))
    assert len(memory.masks) == 27
    assert memory_need(graph, memory, TARGET).ram <= 80_064
