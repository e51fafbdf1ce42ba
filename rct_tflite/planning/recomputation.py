"""Which activations the backward pass computes again instead of keeping them: RAM for instructions.

Nothing of the arithmetic changes. An op runs again before the first backward step that reads its output. Such a step
belongs to an op above it, or to itself, so neither its weights nor those of the ops below it have been updated by then.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from rct_tflite.errors import RecipeError
from rct_tflite.planning.count_model import CountModel
from rct_tflite.planning.lifetimes import Lifetimes
from rct_tflite.planning.memory import plan_memory
from rct_tflite.reference.backward import backward_steps
from rct_tflite.spec.graph import Graph, OpKind
from rct_tflite.spec.training_plan import TrainingPlan

AUTO, NONE = "auto", "none"
NARROWER = 0.97
"""Each level of the search is this part of the one before."""


@dataclass(frozen=True)
class Recomputation:
    """What is computed again, and what that takes.

    Attributes:
        plan: With its `recomputed`.
        arena_bytes: Of the arena.
        kept_bytes: Of the arena where everything is kept.
        instructions: More of a training step, estimated from what kernels take.
        share: Of the step where everything is kept.
    """

    plan: TrainingPlan
    arena_bytes: int
    kept_bytes: int
    instructions: int
    share: float


def choose_recomputation(
    graph: Graph, plan: TrainingPlan, core: str, request: str, fits: Callable[[int], bool]
) -> Recomputation | None:
    """Returns what is computed again, None where everything is kept.

    Args:
        graph: The network.
        plan: What learns.
        core: Of the target: what computing again takes is estimated for it.
        request: "none"; "auto": the fewest instructions with which the plan fits, and nothing where it fits anyway or
            never does; "N%": the smallest arena within N % more instructions of a training step.
        fits: Whether the target has room for the plan with an arena of so many bytes.

    Raises:
        RecipeError: If the request is none of these.
    """
    limit = _limit(request)
    if request == NONE or not plan.trained:
        return None
    if limit is None and fits(plan_memory(graph, plan).arena_bytes):
        return None
    found = trade(graph, plan, core)
    if limit is None:
        return next((candidate for candidate in found if fits(candidate.arena_bytes)), None)
    return next((candidate for candidate in reversed(found) if candidate.share <= limit), None)


def told(recomputation: Recomputation) -> str:
    """Returns one line for people."""
    names = ", ".join(recomputation.plan.recomputed)
    saved = recomputation.kept_bytes - recomputation.arena_bytes
    return (
        f"saves {saved} of {recomputation.kept_bytes} B of arena for about {recomputation.instructions} more "
        f"instructions, {100 * recomputation.share:.1f} % of a training step: {names}"
    )


def trade(graph: Graph, plan: TrainingPlan, core: str) -> tuple[Recomputation, ...]:
    """Returns smaller and smaller arenas, each with what to compute again for it.

    Level by level downwards, what passes the level is computed again, the most bytes for an instruction first; then
    what the level does not need after all is kept. Of two that follow each other the second one is smaller, and none
    takes more instructions than a later one.
    """
    search = _Search(graph, plan, core)
    return search.run()


def _limit(request: str) -> float | None:
    """Returns the share of more instructions that is allowed, None where the request names none."""
    if request in (AUTO, NONE):
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", request)
    if match is None:
        raise RecipeError(
            "Cannot read what may be computed again. Expected --recompute auto, none, or N%: that many more "
            f"instructions of a training step. Received: {request!r}. Try 10%."
        )
    return float(match[1]) / 100.0


class _Search:
    """Live bytes of every step, and what moves them."""

    def __init__(self, graph: Graph, plan: TrainingPlan, core: str) -> None:
        self._graph, self._plan = graph, plan
        self._steps = backward_steps(graph, plan)
        self._counts = CountModel(graph, core)
        self._instructions = self._counts.step_instructions(plan, self._steps)
        self._ops = {op.name: op for op in graph.ops if op.kind is not OpKind.RESHAPE}
        self._levels: dict[frozenset[str], list[int]] = {}

    def run(self) -> tuple[Recomputation, ...]:
        kept = plan_memory(self._graph, self._plan).arena_bytes
        chosen = frozenset[str]()
        level = float(max(self._live(chosen)))
        found: list[Recomputation] = []
        while True:
            level *= NARROWER
            lower = self._lowered(chosen, level)
            if lower is None:
                return tuple(found)
            chosen = self._needed(lower, level)
            level = float(max(self._live(chosen)))
            candidate = self._candidate(chosen, kept)
            if candidate.arena_bytes < min([kept, *(other.arena_bytes for other in found)]):
                found = [other for other in found if other.instructions < candidate.instructions]
                found.append(candidate)

    def _candidate(self, chosen: frozenset[str], kept: int) -> Recomputation:
        plan = self._with(chosen)
        more = round(self._counts.step_instructions(plan, self._steps) - self._instructions)
        return Recomputation(plan, plan_memory(self._graph, plan).arena_bytes, kept, more, more / self._instructions)

    def _lowered(self, chosen: frozenset[str], level: float) -> frozenset[str] | None:
        """Computes more again until no step passes the level; None where that cannot be."""
        while (above := self._above(chosen, level)) > 0.0:
            best, most = None, 0.0
            for name in self._ops.keys() - chosen:
                gain = (above - self._above(chosen | {name}, level)) / self._price(name)
                if gain > most or (gain == most and best is not None and name < best):
                    best, most = name, gain
            if best is None:
                return None
            chosen |= {best}
        return chosen

    def _needed(self, chosen: frozenset[str], level: float) -> frozenset[str]:
        for name in sorted(chosen, key=lambda name: (-self._price(name), name)):
            if self._above(chosen - {name}, level) == 0.0:
                chosen -= {name}
        return chosen

    def _price(self, name: str) -> float:
        return max(self._counts.forward_instructions(self._plan, self._ops[name]), 1.0)

    def _above(self, chosen: frozenset[str], level: float) -> float:
        return sum(max(live - level, 0.0) for live in self._live(chosen))

    def _live(self, chosen: frozenset[str]) -> list[int]:
        """Returns the bytes that each step needs at least, with masks as bits."""
        if chosen not in self._levels:
            lifetimes = Lifetimes(self._graph, self._with(chosen), saves_masks=True, steps=self._steps)
            live = [0] * (len(self._graph.ops) + 1 + len(self._steps))
            for buffer in lifetimes.buffers():
                for step in range(buffer.first, min(buffer.last + 1, len(live))):
                    live[step] += buffer.size
            self._levels[chosen] = live
        return self._levels[chosen]

    def _with(self, chosen: frozenset[str]) -> TrainingPlan:
        return replace(self._plan, recomputed=tuple(op.name for op in self._graph.ops if op.name in chosen))
