"""What the backward pass computes again: in time, from weights that have not learnt yet, and only where it pays."""

import dataclasses
import itertools

import numpy as np
import pytest

from rct_tflite.energy.estimate import estimate
from rct_tflite.errors import RecipeError
from rct_tflite.planning import roomier_search
from rct_tflite.planning.count_model import CountModel
from rct_tflite.planning.fit import memory_need
from rct_tflite.planning.gains import LayerGain
from rct_tflite.planning.lifetimes import Lifetimes
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.prospects import Prospects
from rct_tflite.planning.recomputation import choose_recomputation, told, trade
from rct_tflite.planning.roomier_search import search_with_recomputation
from rct_tflite.planning.search import Limits, search_updates
from rct_tflite.planning.selection import select
from rct_tflite.reference.constants import masks_errors
from rct_tflite.spec.graph import TABLE_KINDS, OpKind
from rct_tflite.spec.target_file import find_target
from tests import mlperf_tiny
from tests.graphs import conv_digits, dense_digits
from tests.tflite.one_op import branched, separable

GRAPHS = {"branches": branched(), "separable": separable(), "conv": conv_digits(bits=8, per_channel=True)}
KWS = mlperf_tiny.keyword_spotting()
CORE = "cortex-m7"


def subsets(graph):
    """Every set of up to three ops, and all of them."""
    names = [op.name for op in graph.ops]
    yield tuple(names)
    for count in (1, 2, 3):
        yield from itertools.combinations(names, count)


@pytest.mark.parametrize("train", ["all", "last:1", "bias"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_read_finds_its_bytes(name, train):
    """Steps are walked with their buffers: what a step reads was written before, and lives until then."""
    graph = GRAPHS[name]
    plan = select(graph, train)
    order = {op.name: number for number, op in enumerate(graph.ops)}
    for recomputed, saves_masks in itertools.product(subsets(graph), (False, True)):
        again = dataclasses.replace(plan, recomputed=recomputed)
        lifetimes = Lifetimes(graph, again, saves_masks)
        spans = {b.name: (b.first, b.last) for b in lifetimes.buffers()}
        made: set[int] = set()
        for step, backward in enumerate(lifetimes.steps, start=len(graph.ops) + 1):
            for op in lifetimes.repeats.get(step, ()):
                assert op.name in recomputed
                assert op.kind is not OpKind.RESHAPE
                assert order[op.name] <= order[backward.op.name]  # has not learnt yet: this step learns after it
                assert all(lives(lifetimes, spans, source, step, made) for source in graph.sources(op))
                made.add(op.output)
            for read in reads(graph, plan, backward.op, lifetimes.masks):
                assert lives(lifetimes, spans, read, step, made), (recomputed, step, read)
        assert made == {tensor for name, tensor in kinds(spans) if name == "again"}


def kinds(spans):
    parts = [name.split(":") for name in spans]
    return [(part[0], int(part[1])) for part in parts if len(part) == 2]


def reads(graph, plan, op, masks):
    """Activations that an op's kernels read backward."""
    found = set()
    if op.kind is OpKind.MUL:
        found |= set(graph.sources(op))
    elif plan.learns_weights(op.name) or op.kind is OpKind.MAX_POOL_2D or op.kind in TABLE_KINDS:
        found.add(op.inputs[0])
    return found | ({op.output} - masks if masks_errors(op) else set())


def lives(lifetimes, spans, tensor, step, made):
    if tensor in lifetimes.again:
        owner = lifetimes.again[tensor]
        first, last = spans[f"again:{owner}"]
        return owner in made and first <= step <= last
    first, last = spans[f"act:{lifetimes.activations[tensor]}"]
    return first <= step <= last


def test_the_arena_falls_as_instructions_grow():
    plan = select(KWS, "all")
    kept, found = plan_memory(KWS, plan).arena_bytes, trade(KWS, plan, CORE)
    assert len(found) >= 3
    arenas, prices = [f.arena_bytes for f in found], [f.instructions for f in found]
    assert arenas == sorted(set(arenas), reverse=True)
    assert kept > arenas[0]
    assert arenas[-1] < 0.65 * kept
    assert prices == sorted(set(prices))
    ops, counts = {op.name: op for op in KWS.ops}, CountModel(KWS, CORE)
    for candidate in found:
        assert candidate.arena_bytes == plan_memory(KWS, candidate.plan).arena_bytes
        price = sum(counts.forward_instructions(plan, ops[name]) for name in candidate.plan.recomputed)
        assert abs(candidate.instructions - price) <= 1
        memory = plan_memory(KWS, candidate.plan)
        assert {name for names in memory.repeats.values() for name in names} == set(candidate.plan.recomputed)


def test_requests():
    plan = select(KWS, "all")
    found = trade(KWS, plan, CORE)
    limit = found[1].arena_bytes

    def choose(request, room):
        chosen = choose_recomputation(KWS, plan, CORE, request, lambda arena: arena <= room)
        return None if chosen is None else chosen.plan.recomputed

    assert choose("none", limit) is None
    assert choose("auto", limit) == found[1].plan.recomputed  # the cheapest that fits
    assert choose("auto", 10**9) is None
    assert choose("auto", 100) is None  # nothing would help
    assert choose("0%", limit) is None
    assert choose(f"{100 * found[1].share + 0.01}%", 10**9) == found[1].plan.recomputed
    assert choose("1000%", 100) == found[-1].plan.recomputed
    saved = found[0].kept_bytes - found[0].arena_bytes
    assert told(found[0]).startswith(f"saves {saved} of {found[0].kept_bytes} B")
    assert told(found[0]).endswith(f": {', '.join(found[0].plan.recomputed)}")
    for wrong in ("10", "-1%", "all", "%", ""):
        with pytest.raises(RecipeError, match="--recompute auto, none, or N%"):
            choose(wrong, limit)


def test_a_search_finds_more_where_activations_may_be_computed_again():
    plan, target, limits = select(KWS, "all"), find_target("cortex-m7"), Limits(ram=60000)
    ops = {op.name: op for op in KWS.ops}
    prospects = Prospects(
        {
            name: LayerGain(np.full(KWS.row_shape(ops[name])[0], 10.0 - number), 1.0)
            for number, name in enumerate(plan.trained)
        }
    )
    plain = search_updates(KWS, plan, prospects, target, limits)
    search = search_with_recomputation(KWS, plan, prospects, target, limits, "auto")
    best = search.best
    assert best in search.candidates
    assert best.gain > 1.15 * plain.best.gain
    assert best.plan.recomputed
    assert memory_need(KWS, plan_memory(KWS, best.plan), target).ram == best.cost.ram <= 60000
    counts = CountModel(KWS, CORE)
    instructions = counts.estimate(best.plan).step.value
    assert instructions > counts.estimate(dataclasses.replace(best.plan, recomputed=())).step.value
    assert best.cost.time_s == estimate(target, round(instructions)).time_s.value
    assert search.counts.step.value == instructions
    quick = dataclasses.replace(limits, time_s=plain.best.cost.time_s)
    limited = search_with_recomputation(KWS, plan, prospects, target, quick, "auto").best
    assert limited.cost.time_s <= quick.time_s
    assert search_with_recomputation(KWS, plan, prospects, target, limits, "none").best.plan == plain.best.plan


def test_where_all_layers_fit_nothing_is_searched_again(monkeypatch):
    graph, times = dense_digits(), []
    plan, target = select(graph, "all"), find_target("cortex-m7")
    prospects = Prospects({op.name: LayerGain(np.ones(graph.row_shape(op)[0]), 1.0) for op in graph.ops})

    def counted(*arguments):
        times.append(search_updates(*arguments))
        return times[-1]

    monkeypatch.setattr(roomier_search, "search_updates", counted)
    all_fit = search_with_recomputation(graph, plan, prospects, target, Limits(), "auto")
    assert times == [all_fit]
    tight = Limits(ram=max(candidate.cost.ram for candidate in all_fit.candidates) - 1)
    search_with_recomputation(graph, plan, prospects, target, tight, "auto")
    assert len(times) == 2 + len(roomier_search.ROOMIER)
