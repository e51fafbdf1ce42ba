import dataclasses
import itertools

import pytest

from rct_tflite.errors import FitError, RecipeError
from rct_tflite.planning.fit import check_fit
from rct_tflite.planning.memory import Buffer, place, plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.target import Memory
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import Loss, TrainingPlan
from tests.graphs import GraphBuilder, conv_digits, dense_digits
from tests.tflite.one_op import branched

GRAPHS = {
    "branches": branched(),
    "dense": dense_digits(bits=6),
    "conv": conv_digits(bits=8, per_channel=True),
    "average": GraphBuilder((6, 6, 2)).conv(4).average_pool().reshape(36).dense(3, bits=5).graph(),
}


@pytest.mark.parametrize("train", ["all", "last:1"])
@pytest.mark.parametrize("name", GRAPHS)
def test_no_two_living_buffers_overlap(name, train):
    graph = GRAPHS[name]
    memory = plan_memory(graph, select(graph, train))
    assert len({p.buffer.name for p in memory.placements}) == len(memory.placements)
    for a, b in itertools.combinations(memory.placements, 2):
        together = a.buffer.first <= b.buffer.last and b.buffer.first <= a.buffer.last
        apart = a.offset + a.buffer.size <= b.offset or b.offset + b.buffer.size <= a.offset
        assert apart or not together
    assert all(p.offset % 4 == 0 and p.offset + p.buffer.size <= memory.arena_bytes for p in memory.placements)


def test_ops_work_in_place_over_what_nothing_reads_any_more():
    graph = GRAPHS["branches"]
    conv, inner, tanh, add, mul, joined, last = (op.output for op in graph.ops)
    forward = plan_memory(graph, TrainingPlan((), 0.1, Rounding.STOCHASTIC)).activations
    assert forward[tanh] == inner  # its input has one reader
    assert forward[add] == forward[tanh]  # the other operand is read once more
    assert forward[mul] == mul  # CONCATENATION reads its input, too
    assert forward[last] == joined
    training = plan_memory(graph, select(graph, "all")).activations
    assert (training[tanh], training[last]) == (tanh, last)  # slopes are those of the inputs
    assert conv == training[conv]


def test_buffers_that_never_meet_share_memory():
    buffers = [Buffer("a", 100, 0, 1), Buffer("b", 100, 2, 3), Buffer("c", 100, 4, 5)]
    assert {p.offset for p in place(buffers)} == {0}


def test_activations_live_until_their_weights_have_learnt():
    graph = GRAPHS["conv"]
    everything, head = (plan_memory(graph, select(graph, train)) for train in ("all", "last:1"))
    spans = {p.buffer.name: p.buffer.last for p in everything.placements}
    assert spans[f"act:{graph.input}"] == max(spans.values())  # read by the last backward step
    assert head.arena_bytes < everything.arena_bytes
    assert head.parameter_bytes < everything.parameter_bytes


def test_parameters_are_packed_rows_and_biases():
    graph = GRAPHS["dense"]
    memory = plan_memory(graph, select(graph, "all"))
    assert [(slot.rows, slot.bias) for slot in memory.slots] == [(0, 32 * 48), (32 * 48 + 128, 32 * 48 + 128 + 240)]
    assert memory.parameter_bytes == 32 * 48 + 128 + 10 * 24 + 40


@pytest.mark.parametrize(("train", "expected"), [("all", 3), ("last:1", 1), ("last:3", 3)])
def test_selection(train, expected):
    plan = select(GRAPHS["conv"], train)
    assert plan.trained == ("layer0", "layer2", "layer5")[3 - expected :]


def test_frozen_layers_are_not_selected():
    graph = GRAPHS["conv"]
    layers = tuple(dataclasses.replace(layer, trainable=layer.name != "layer2") for layer in graph.training.layers)
    frozen = dataclasses.replace(graph, training=dataclasses.replace(graph.training, layers=layers))
    assert select(frozen, "all").trained == ("layer0", "layer5")


@pytest.mark.parametrize("train", ["last:0", "last:4", "last:", "first:1", "ALL", ""])
def test_selection_that_cannot_be_read(train):
    with pytest.raises(RecipeError, match=r"Expected 'all' or 'last:N' with N from 1 to 3.*Received: "):
        select(GRAPHS["conv"], train)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_learning_rate_that_is_none(rate):
    with pytest.raises(RecipeError, match="learning rate must be above 0"):
        select(GRAPHS["conv"], "all", rate)


def test_loss_that_is_unknown():
    assert select(GRAPHS["conv"], "all", loss="huber").loss is Loss.HUBER
    with pytest.raises(RecipeError, match="Unknown loss.*Received: 'hinge'"):
        select(GRAPHS["conv"], "all", loss="hinge")


def test_a_target_has_a_place_until_the_loss():
    graph = GRAPHS["conv"]
    placements = plan_memory(graph, select(graph, "all", loss="huber")).placements
    spans = {p.buffer.name: (p.buffer.size, p.buffer.first, p.buffer.last) for p in placements}
    assert spans["target"] == (10, 0, len(graph.ops))


def test_fit_says_by_how_much_and_what_is_largest():
    graph = GRAPHS["conv"]
    memory = plan_memory(graph, select(graph, "all"))
    target = find_target("cortex-m7")
    need = check_fit(graph, memory, target)
    small = dataclasses.replace(target, name="tiny", ram=Memory(0x20000000, need.ram - 8))
    with pytest.raises(FitError, match=r"target 'tiny' has .*\(8 B too little\).*largest buffer is .*--train last:1"):
        check_fit(graph, memory, small)
    small = dataclasses.replace(target, name="tiny", flash=Memory(0, need.flash - 4))
    with pytest.raises(FitError, match=r"of flash.*\(4 B too little\).*largest weights are those of 'layer2'"):
        check_fit(graph, memory, small)
