"""Instructions where none can be counted: what is known of them, what is guessed, and how far off they may be."""

import dataclasses
import json

import pytest

from rct_tflite.errors import TargetError
from rct_tflite.firmware.toolchain import CORES
from rct_tflite.planning import count_model, kernel_work
from rct_tflite.planning.count_model import CountModel, costs_of
from rct_tflite.planning.kernel_work import forward_amounts
from rct_tflite.planning.selection import select
from rct_tflite.reference.backward import backward_steps
from rct_tflite.spec.graph import LayerTraining, OpKind
from rct_tflite.spec.step_options import StepOptions
from tests.graphs import conv_digits, dense_digits
from tests.tflite.one_op import branched, separable

CORE = "cortex-m4"
DATA = json.loads(count_model.DATA.read_text(encoding="utf-8"))


def test_every_core_is_known_and_close():
    assert {*DATA} == {*CORES}
    for core in DATA.values():
        errors = core["errors_of_left_out"]
        assert errors["inference"][0] < 0.05
        assert errors["inference"][1] < 0.15
        assert errors["step"][0] < 0.1
        assert errors["step"][1] < 0.3
    with pytest.raises(TargetError, match="Received: 'cortex-m85'"):
        CountModel(dense_digits(), "cortex-m85")


@pytest.mark.parametrize("graph", [conv_digits(bits=5), branched(), separable()])
@pytest.mark.parametrize("core", DATA)
def test_every_op_costs_something_and_nothing_is_guessed(graph, core):
    told = CountModel(graph, core).estimate(select(graph, "all"))
    assert told.guessed == ()
    assert told.inference.low < told.inference.value < told.inference.high < 2 * told.inference.value
    assert told.step.value > 1.3 * told.inference.value
    costs = count_model.core_costs(core).costs
    for op in graph.ops:
        amounts = forward_amounts(graph, op, 1.0)
        assert op.kind is OpKind.RESHAPE or sum(n * costs[key] for item, n in amounts.items() for key in costs_of(item))


def test_what_a_step_takes_is_that_of_its_estimate():
    graph = conv_digits()
    plan = select(graph, "layer0:3,layer2:bias,layer5")
    model = CountModel(graph, CORE)
    found = model.step_instructions(plan, backward_steps(graph, plan))
    assert found == pytest.approx(model.estimate(plan).step.value)
    assert found < model.estimate(select(graph, "all")).step.value
    assert model.estimate(select(graph, "none")).backward.value == 0


def test_what_was_never_counted_is_told(monkeypatch):
    graph = dense_digits()
    plan = select(graph, "all")
    known = CountModel(graph, CORE).estimate(plan)
    wide = dataclasses.replace(
        graph, training=dataclasses.replace(graph.training, layers=(LayerTraining("layer0", 12),))
    )
    told = CountModel(wide, CORE).estimate(plan)
    assert told.guessed == ("weights of 12 bits (layer0)",)
    assert told.step.high / told.step.value > 1.4 * known.step.high / known.step.value
    optional = dataclasses.replace(plan, options=StepOptions(clip_norm=1.0))
    assert CountModel(graph, CORE).estimate(optional).guessed == ("options of the training step",)
    monkeypatch.setattr(kernel_work, "TABLE_KINDS", ())
    told = CountModel(separable(), CORE).estimate(select(separable(), "none"))
    assert told.guessed == ("LEAKY_RELU (t3)", "HARD_SWISH (t11)")
