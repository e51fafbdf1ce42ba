"""Limits, thresholds and budgets of bit-widths that follow the training."""

import pytest

from rct_tflite.errors import RecipeError
from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.spec.graph import Activation
from tests.graphs import GraphBuilder, dense_digits

GRAPH = GraphBuilder((20,)).dense(10, bits=6).dense(4, Activation.NONE, bits=4).graph()
STARTS_WITH = 10 * 15 + 2 + 4 * 5  # bytes of packed rows: 150, up to a multiple of four, and 20


def adapted(bits="2:8", train="all", **options):
    return adapt(GRAPH, select(GRAPH, train), AdaptationOptions(bits, **options)).adaptation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": "6:4"}, "MIN:MAX with 2 <= MIN <= MAX <= 16"),
        ({"bits": "4"}, "MIN:MAX"),
        ({"bits": "1:8"}, "MIN:MAX"),
        ({"bits": "2:17"}, "MIN:MAX"),
        ({"layers": ("layer0",), "train": "last:1"}, "does not learn.*Received: \\['layer0'\\]"),
        ({"layers": ("nothing",)}, "does not learn"),
        ({"train": "none"}, "Received: nothing that learns"),
        ({"train": "bias"}, "learns in part stays.*Received: \\['layer0', 'layer1'\\]"),
        (
            {"train": "layer0:3,layer1", "layers": ("layer0",)},
            "Expected some of \\['layer1'\\]. Received: \\['layer0'\\]",
        ),
        ({"interval": 0}, "1 to 65535"),
        ({"interval": 65536}, "1 to 65535"),
        ({"t_min": 2.0, "t_max": 1.0}, "4 \\* t_min <= t_max"),
        ({"t_min": 1.0, "t_max": 1.0}, "4 \\* t_min <= t_max"),
        ({"t_min": -1.0}, "0 < 4 \\* t_min"),
        ({"t_min": float("nan")}, "0 < 4 \\* t_min"),
        ({"t_min": 400.0}, "t_max < 64 / learning rate = 1280"),
        ({"t_min": 1e-5}, "t_min is too small"),
        ({"bits": "5:8"}, "Layer 'layer1' starts outside.*Received: 4"),
        ({"bits": "2:5"}, "Layer 'layer0' starts outside.*Received: 6"),
        ({"budget_bytes": 2 * 25 + 2 + 12 - 1}, "narrowest widths. Expected at least 64 B. Received: 63"),
        ({"budget_bytes": STARTS_WITH - 1}, f"starts with. Expected at least {STARTS_WITH} B. Received: 171"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        adapted(**options)


def test_what_learns_in_part_keeps_its_width():
    adaptation = adapted(train="layer0:3,layer1")
    assert adaptation.layers == ("layer1",)
    assert adaptation.budget_bytes == 3 * 15 + 3 + 4 * 10  # three rows of 20 weights of 6 bits, four of 10 of 8


def test_defaults_follow_the_learning_rate():
    adaptation = adapted()
    assert (adaptation.t_min, adaptation.t_max) == pytest.approx((6.0, 24.0))
    assert adaptation.budget_bytes == 10 * 20 + 4 * 10
    assert adaptation.layers == ("layer0", "layer1")
    assert adapted(budget_bytes=10**6).budget_bytes == adaptation.budget_bytes  # what is never used is not held


def test_ram_is_the_budget_and_no_more():
    graph = dense_digits(bits=6)
    plan = select(graph, "all")
    plain = plan_memory(graph, plan)
    tight = adapt(graph, plan, AdaptationOptions("4:8", budget_bytes=plain.parameter_bytes - 4 * 42))
    memory = plan_memory(graph, tight)
    assert memory.parameter_bytes == plain.parameter_bytes + 4  # the widths
    assert memory.ram_bytes - plain.ram_bytes == 4 + 2 * 16 + 4 + memory.arena_bytes - plain.arena_bytes
