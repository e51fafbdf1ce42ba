"""What learns: names, biases, channels, and the search within limits."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.errors import FitError, RecipeError
from rct_tflite.planning.fit import memory_need
from rct_tflite.planning.gains import LayerGain, measure_gains, reachable
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.prospects import Prospects, measure_prospects
from rct_tflite.planning.search import Limits, search_updates
from rct_tflite.planning.selection import select, told
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.spec.step_options import StepOptions
from rct_tflite.spec.target_file import find_target
from tests.graphs import GraphBuilder, conv_digits, dense_digits
from tests.tflite.one_op import words

GRAPH = conv_digits(per_channel=True)
TARGET = find_target("cortex-m7")
random = np.random.default_rng(2)
INPUTS = random.integers(-128, 128, (12, 8, 8, 1), np.int8)
LABELS = random.integers(0, 10, 12)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("bias", "layer0:bias, layer2:bias, layer5:bias"),
        ("layer5,layer0", "layer0, layer5"),
        ("layer2:3, layer5:bias", "layer2:3, layer5:bias"),
        ("layer0:0.01,layer2:0.5", "layer0:1, layer2:8"),
        ("layer5:10", "layer5"),
        ("none", ""),
    ],
)
def test_what_learns_is_read_and_told(train, expected):
    assert told(select(GRAPH, train)) == expected


def test_the_first_channels_learn_or_those_that_promise_most():
    assert select(GRAPH, "layer0:2").channels_of("layer0", 8) == (0, 1)
    gains = {"layer0": np.array([0, 5, 0, 9, 1, 1, 1, 1.0])}
    assert select(GRAPH, "layer0:2,layer5", gains=gains).channels_of("layer0", 8) == (1, 3)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("layer1", "Did you mean 'layer"),
        ("layer5x:3", "Did you mean 'layer5'"),
        ("unheard", "or names with commas between, of .'layer0', 'layer2', 'layer5'.*Received: 'unheard'"),
        ("layer0:9", "a number of output channels from 1 to 8"),
        ("layer0:0", "Received: '0'"),
        ("layer0:1.5", "a share of them above 0 and below 1"),
        ("layer0:many", "Received: 'many'"),
        ("layer0,layer0:bias", "chosen twice"),
        ("layer0,,layer2", "Received: ''"),
    ],
)
def test_what_learns_cannot_be_read(train, expected):
    with pytest.raises(RecipeError, match=expected):
        select(GRAPH, train)


def test_biases_alone_keep_no_activation_for_their_gradient():
    graph = GraphBuilder((64,)).dense(32).dense(32).dense(10).graph()
    spans = {p.buffer.name: p.buffer.last for p in plan_memory(graph, select(graph, "bias")).placements}
    assert spans[f"act:{graph.input}"] == 0
    assert plan_memory(graph, select(graph, "bias")).parameter_bytes == 4 * (32 + 32 + 10)
    rows = plan_memory(graph, select(graph, "layer0:8")).parameter_bytes
    assert rows == 8 * 64 + 4 * 32


def test_the_gain_is_the_learning_rate_times_the_squared_gradient():
    graph = dense_digits()
    inputs = random.integers(-128, 128, (6, 64), np.int8)
    plan = select(graph, "all", learning_rate=0.02)
    gain = measure_gains(graph, plan, inputs, np.arange(6))["layer1"]
    values, last = ReferenceNetwork(graph).values(inputs), graph.ops[-1]
    logits, hidden = (
        (values[i].astype(float) - graph.tensors[i].zero_point) * graph.tensors[i].scale
        for i in (last.output, last.inputs[0])
    )
    errors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(10)[np.arange(6)]
    assert gain.biases == pytest.approx(0.02 * (errors**2).sum(axis=1).mean(), rel=0.03)
    expected = 0.02 * ((errors[:, :, None] * hidden[:, None]) ** 2).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(gain.weights, expected, rtol=0.1, atol=0.02 * expected.max())


@pytest.fixture(scope="module")
def everything():
    plan = reachable(GRAPH, select(GRAPH, "all"))
    return plan, measure_prospects(GRAPH, plan, INPUTS, LABELS)


def by_gain(prospects):
    """The prospects of a network with too many outputs to foretell a fine-tuning."""
    return Prospects(prospects.gains)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("prospects_of", [by_gain, lambda prospects: prospects])
def test_a_search_is_no_worse_than_the_last_layers_in_the_same_ram(everything, prospects_of, count):
    plan, prospects = everything[0], prospects_of(everything[1])
    ram = memory_need(GRAPH, plan_memory(GRAPH, select(GRAPH, f"last:{count}")), TARGET).ram
    search = search_updates(GRAPH, plan, prospects, TARGET, Limits(ram=ram))
    whole = next(c for c in search.candidates if c.name == f"last:{count}")
    assert (whole.cost.ram, whole.fits) == (ram, True)
    assert search.best.rank <= whole.rank
    assert search.best.rank == min(c.rank for c in search.candidates if c.fits)
    assert (whole.forecast is None) == (prospects.forecaster is None)
    found = memory_need(GRAPH, plan_memory(GRAPH, search.best.plan), TARGET).ram
    assert found == search.best.cost.ram <= ram


@pytest.mark.parametrize("limit", ["ram", "time_s", "energy_j"])
def test_more_room_never_promises_less(everything, limit):
    plan, prospects = everything[0], by_gain(everything[1])
    open_search = search_updates(GRAPH, plan, prospects, TARGET, Limits())
    assert told(open_search.best.plan) == told(plan)
    least = min(getattr(c.cost, limit) for c in open_search.candidates)
    most = getattr(open_search.best.cost, limit)
    found = []
    for share in (0.0, 0.3, 0.7, 1.0):
        bound = type(most)(least + share * (most - least))
        search = search_updates(GRAPH, plan, prospects, TARGET, Limits(**{limit: bound}))
        assert getattr(search.best.cost, limit) <= bound
        found.append(search.best.gain)
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_what_promises_most_is_taken_first():
    plan = select(GRAPH, "all")
    gains = {name: LayerGain(np.zeros(n), 0.0) for name, n in {"layer0": 8, "layer2": 16, "layer5": 10}.items()}
    gains["layer2"].weights[[3, 11]] = 1.0
    room = memory_need(GRAPH, plan_memory(GRAPH, select(GRAPH, "layer2:2")), TARGET).ram
    best = search_updates(GRAPH, plan, Prospects(gains), TARGET, Limits(ram=room)).best
    assert best.plan.channels_of("layer2", 16) == (3, 11)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(ram=1000), r"fits these limits.*--ram 1000, where \d{4} would do"),
        (Limits(time_s=1e-6), r"--time-per-step 0.001, where [0-9.]+ would do"),
        (Limits(energy_j=1e-9), r"--energy-per-step 0.001, where [0-9.]+ would do"),
        (Limits(flash=100), r"--flash 100, where \d+ would do"),
    ],
)
def test_limits_that_nothing_fits(everything, limits, expected):
    with pytest.raises(FitError, match=expected):
        search_updates(GRAPH, *everything, TARGET, limits)


def test_layers_that_no_error_reaches_are_left_out():
    graph = GraphBuilder((4, 4, 2)).conv(3).conv(4).average_pool(2).reshape(16).dense(3).graph()
    ops = list(graph.ops)
    pool = next(i for i, op in enumerate(ops) if "pool" in op.kind.name.lower() or op.kind.name == "AVERAGE_POOL_2D")
    ops[pool] = dataclasses.replace(ops[pool], options=dataclasses.replace(ops[pool].options, stride_h=3, filter_h=3))
    plan = select(graph, "all")
    assert reachable(graph, plan) == plan
    blocked = dataclasses.replace(graph, ops=tuple(ops))
    assert reachable(blocked, plan).trained == plan.trained[2:]


def test_a_table_learns_by_rows():
    graph = words()
    assert told(select(graph, "bias")) == "t6:bias, t11:bias"
    assert told(select(graph, "t2:3,t11")) == "t2:3, t11"
    with pytest.raises(RecipeError, match="'t2' is a table and has no biases.*Write t2:0.25"):
        select(graph, "t2:bias")
    inputs = np.minimum(graph.random_inputs(40, np.random.default_rng(0)), 4)  # rows 5 to 10 promise nothing
    gains = measure_gains(graph, select(graph, "all"), inputs, np.arange(40) % 4)
    assert (gains["t2"].weights[:5] > 0).all()
    assert not gains["t2"].weights[5:].any()
    found = search_updates(graph, select(graph, "all"), Prospects(gains), TARGET, Limits(ram=2745))
    candidates = {candidate.name: candidate for candidate in found.candidates}
    deepest = candidates["from t2"]
    assert deepest.fits
    assert set(deepest.plan.channels_of("t2", 11)) <= set(range(5))
    assert deepest.plan.channels_of("t2", 11)
    assert deepest.gain > candidates["last:2"].gain


@pytest.mark.parametrize("options", [StepOptions(accumulate=4), StepOptions(momentum=100)])
def test_what_a_table_cannot_hold_is_refused(options):
    graph = words()
    with pytest.raises(RecipeError, match="Layer 't2' is a table.*Leave --accumulate, --momentum"):
        plan_memory(graph, dataclasses.replace(select(graph, "all"), options=options))
    plan_memory(graph, dataclasses.replace(select(graph, "last:2"), options=options))
