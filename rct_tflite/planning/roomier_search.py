"""`--train auto` with `--recompute`: sets that are too large for the RAM until activations are computed again."""

from dataclasses import replace

from rct_tflite.energy.estimate import estimate
from rct_tflite.planning.count_model import CountModel
from rct_tflite.planning.fit import memory_need
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.prospects import Prospects
from rct_tflite.planning.recomputation import AUTO, NONE, choose_recomputation
from rct_tflite.planning.search import Candidate, Known, Limits, Search, search_updates
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.target import Target
from rct_tflite.spec.training_plan import TrainingPlan

ROOMIER = (1.25, 1.6, 2.0)
"""Searched with so many times the RAM: computing again seldom saves more than half of an arena."""


def search_with_recomputation(
    graph: Graph,
    plan: TrainingPlan,
    prospects: Prospects,
    target: Target,
    limits: Limits,
    request: str,
) -> Search:
    """Searches as `search_updates()`, and for larger sets that fit when activations are computed again.

    A set that takes more RAM than there is counts where `request` brings it within all limits, the instructions of
    what is computed again included. It is taken where it is better than the best set that keeps everything.

    Args:
        graph: The network.
        plan: What may learn, all of it.
        prospects: Of its ops, and of sets of them.
        target: Whose stack, clock and power count.
        limits: RAM and flash are the target's where there is none.
        request: As `choose_recomputation()` reads it.

    Raises:
        FitError, RecipeError: As `search_updates()` and `choose_recomputation()`.
    """
    known = Known()
    plain = search_updates(graph, plan, prospects, target, limits, known)
    if request == NONE or plain.limits.ram is None:
        return plain
    if request == AUTO and all(candidate.cost.ram <= plain.limits.ram for candidate in plain.candidates):
        return plain  # even all layers do not want for RAM
    found: dict[TrainingPlan, Candidate] = {}
    for factor in ROOMIER:
        room = replace(plain.limits, ram=int(factor * plain.limits.ram))
        larger = search_updates(graph, plan, prospects, target, room, known).best
        candidate = _within(graph, larger, target, plain.limits, request)
        if candidate is not None:
            found[candidate.plan] = candidate
    best = min((plain.best, *found.values()), key=lambda candidate: candidate.rank)
    counts = CountModel(graph, target.core).estimate(best.plan)
    return Search(plain.criterion, plain.limits, best, (*plain.candidates, *found.values()), counts)


def _within(graph: Graph, larger: Candidate, target: Target, limits: Limits, request: str) -> Candidate | None:
    """Returns the set with what it computes again, None where it does not fit, or keeps everything."""
    need = memory_need(graph, plan_memory(graph, larger.plan), target)

    def fits(arena: int) -> bool:
        return limits.ram is None or replace(need, arena=arena).ram <= limits.ram

    again = choose_recomputation(graph, larger.plan, target.core, request, fits)
    if again is None:
        return None
    step = estimate(target, round(CountModel(graph, target.core).estimate(again.plan).step.value))
    ram = replace(need, arena=again.arena_bytes).ram
    cost = replace(larger.cost, ram=ram, time_s=step.time_s.value, energy_j=step.energy_j.value)
    if not cost.within(limits):
        return None
    return replace(larger, name=f"{larger.name}, again", plan=again.plan, cost=cost, fits=True)
