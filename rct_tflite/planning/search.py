"""`--train auto`: the best update set within limits of memory, time and energy.

The gain of an update set is the sum of what its biases and rows of weights promise (`gains.py`). For each depth that
the backward pass may stop at, the search fills the limits greedily, most gain for its cost first, and so solves the
knapsack of that depth up to its last items: a row more or less. Of these sets and of the last N layers, those within
the limits, the one wins whose fine-tuning is foretold to come to the smallest loss (`forecast.py`). What a gain is
worth depends on the depth and on the rate; where none can be foretold, the largest gain wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from rct_tflite.energy.estimate import estimate
from rct_tflite.errors import FitError
from rct_tflite.planning.count_model import CountEstimate, CountModel
from rct_tflite.planning.extras import extras_of
from rct_tflite.planning.fit import MemoryNeed, memory_need
from rct_tflite.planning.flash import code_bytes, split_bytes, step_table_bytes
from rct_tflite.planning.forecast import Forecast
from rct_tflite.planning.memory import parameter_slots, plan_memory
from rct_tflite.planning.prospects import Prospects
from rct_tflite.reference.backward import BackwardStep, backward_steps
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.target import Target
from rct_tflite.spec.training_plan import PartialUpdate, TrainingPlan

CHUNKS = 16
"""Rows of an op are tried in so many groups."""
SMALLEST = 1e-9
"""Share of the limits below which a cost counts as this: what is free comes first, by its gain."""


@dataclass(frozen=True)
class Limits:
    """What a plan may take; None: no limit.

    Attributes:
        ram: Bytes: arena, parameters, state, stack and application.
        flash: Bytes: code, tables and weights.
        time_s: Of a training step, in seconds, as estimated.
        energy_j: Of a training step, in joules, as estimated.
    """

    ram: int | None = None
    flash: int | None = None
    time_s: float | None = None
    energy_j: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Cost:
    """What a plan takes, in the units of `Limits`."""

    ram: int
    flash: int
    time_s: float
    energy_j: float

    def within(self, limits: Limits) -> bool:
        """Whether no limit is passed."""
        return all(value <= limit for value, limit in _pairs(self, limits))


@dataclass(frozen=True)
class Candidate:
    """An update set.

    Attributes:
        name: How it was made.
        plan: What learns.
        gain: What it promises, in units of the loss for a step.
        forecast: What fine-tuning would come to, where that can be foretold.
        cost: What it takes.
        fits: Whether it is within the limits.
    """

    name: str
    plan: TrainingPlan
    gain: float
    forecast: Forecast | None
    cost: Cost
    fits: bool

    @property
    def rank(self) -> tuple[float, int]:
        """What orders candidates, the best first; of equals the one with less RAM."""
        return (self.forecast.score if self.forecast else -self.gain), self.cost.ram


@dataclass(frozen=True)
class Search:
    """What was tried, and the best of it.

    Attributes:
        criterion: By which candidates are ordered.
        limits: Within which it was searched.
        best: Of those that fit.
        candidates: All.
        counts: From which time and energy of a step of the best are estimated.
    """

    criterion: str
    limits: Limits
    best: Candidate
    candidates: tuple[Candidate, ...]
    counts: CountEstimate


@dataclass(frozen=True)
class Known:
    """What searches with other limits have found of the same network, plan, prospects and target.

    Attributes:
        layouts: By the deepest layer and those whose weights learn.
        costs: Of plans.
        forecasts: Of plans; what fits at several depths is often the same.
    """

    layouts: dict[tuple[int, frozenset[str]], tuple[MemoryNeed, tuple[BackwardStep, ...]]] = field(default_factory=dict)
    costs: dict[TrainingPlan, Cost] = field(default_factory=dict)
    forecasts: dict[TrainingPlan, Forecast | None] = field(default_factory=dict)


def search_updates(
    graph: Graph, plan: TrainingPlan, prospects: Prospects, target: Target, limits: Limits, known: Known | None = None
) -> Search:
    """Searches for the best update set within limits.

    Args:
        graph: The network.
        plan: What may learn, all of it.
        prospects: Of its ops, and of sets of them.
        target: Whose stack, clock and power count.
        limits: RAM and flash are the target's where there is none.
        known: From other limits, and goes on to grow.

    Returns:
        The best set, those of other depths, and `last:N` for each N, to compare.

    Raises:
        FitError: If not even the biases of the last layer fit: what would.
    """
    given = limits
    limits = replace(limits, ram=limits.ram or target.ram.size, flash=limits.flash or target.flash.size)
    filler = _Filler(graph, plan, prospects, target, limits, known or Known())
    filled = [filler.fill(depth) for depth in reversed(range(len(plan.trained)))]
    everything = [filler.whole(count) for count in range(1, len(plan.trained) + 1)]
    candidates = (*filled, *everything)
    found = [candidate for candidate in candidates if candidate.fits]
    if not found:
        raise _refusal(filled[0].cost, limits, given)
    best = min(found, key=lambda candidate: candidate.rank)
    return Search(prospects.criterion, limits, best, candidates, filler.counts_of(best.plan))


def _pairs(cost: Cost, limits: Limits) -> list[tuple[float, float]]:
    names = ("ram", "flash", "time_s", "energy_j")
    return [(getattr(cost, n), getattr(limits, n)) for n in names if getattr(limits, n) is not None]


def _refusal(least: Cost, limits: Limits, given: Limits) -> FitError:
    names = ("--ram", "--flash", "--time-per-step", "--energy-per-step")
    factors = (1.0, 1.0, 1e3, 1e6)
    needs = (least.ram, least.flash, least.time_s, least.energy_j)
    allowed = (limits.ram, limits.flash, limits.time_s, limits.energy_j)
    told = [
        f"{name} {limit * factor:.10g}, where {need * factor:.10g} would do"
        for name, factor, need, limit in zip(names, factors, needs, allowed, strict=True)
        if limit is not None and need > limit
    ]
    whose = "these limits" if given != NO_LIMITS else "the target"
    return FitError(
        f"Nothing that learns fits {whose}. Expected room for the least that learns, the biases of the last layer. "
        f"Received: {'; '.join(told)}. Raise the limits, choose a larger target, or --train none."
    )


Chosen = dict[str, frozenset[int]]
"""Per op that learns, the channels whose weights do."""


@dataclass(frozen=True)
class _Item:
    """Rows of an op, or, without channels, its biases."""

    op: str
    channels: tuple[int, ...]
    value: float


class _Filler:
    """Fills the limits, for one depth after the other."""

    def __init__(
        self, graph: Graph, plan: TrainingPlan, prospects: Prospects, target: Target, limits: Limits, known: Known
    ) -> None:
        self._graph, self._plan, self._prospects, self._gains = graph, plan, prospects, prospects.gains
        self._target, self._limits, self._known = target, limits, known
        self._counts = CountModel(graph, target.core)
        self._ops = {op.name: op for op in graph.ops if op.name in plan.trained}

    def fill(self, depth: int) -> Candidate:
        """Returns the best set whose deepest layer is number `depth` of those that may learn."""
        names = self._plan.trained[depth:]
        chosen: Chosen = {names[0]: self._least(names[0])}
        base = self._cost(chosen)
        if base.within(self._limits):
            for item in sorted(self._items(names, chosen, base), key=lambda item: -item.value):
                for channels in self._shorter(item.channels):
                    tried = {**chosen, item.op: chosen.get(item.op, frozenset()) | frozenset(channels)}
                    if self._cost(tried).within(self._limits):
                        chosen = tried
                        break
        return self._candidate(f"from {names[0]}", chosen)

    def whole(self, count: int) -> Candidate:
        """Returns the last `count` layers, whole."""
        names = self._plan.trained[-count:]
        return self._candidate(f"last:{count}", {name: frozenset(range(self._channels(name))) for name in names})

    def counts_of(self, plan: TrainingPlan) -> CountEstimate:
        """Returns what a plan takes, with intervals."""
        return self._counts.estimate(plan)

    def _items(self, names: tuple[str, ...], base: Chosen, cost: Cost) -> Iterator[_Item]:
        """Yields what may be added to the base, each with its gain for its cost.

        The first rows of an op open it: they pay for its input, which is kept for the backward pass, and come in the
        number that gives most for the cost. The others are worth their own.
        """
        for name in names:
            gain = self._gains[name]
            if name not in base and self._ops[name].has_bias:
                price = self._price(cost, self._cost({**base, name: frozenset[int]()}))
                yield _Item(name, (), gain.biases / price)
            order = np.argsort(-gain.weights, kind="stable")
            every = max(len(order) // CHUNKS, 1)
            opened = self._price(cost, self._cost({**base, name: frozenset(order[:1].tolist())}))
            row = self._price(cost, self._cost({**base, name: frozenset(order.tolist())})) - opened
            row /= max(len(order) - 1, 1)
            sums = np.cumsum(gain.weights[order])
            values = sums / np.maximum(opened + row * np.arange(len(order)), SMALLEST)
            first = int(values.argmax()) + 1
            yield _Item(name, tuple(order[:first].tolist()), float(values[first - 1]))
            for start in range(first, len(order), every):
                part = order[start : start + every]
                value = float(gain.weights[part].mean()) / max(row, SMALLEST)
                yield _Item(name, tuple(part.tolist()), value)

    def _least(self, name: str) -> frozenset[int]:
        """Returns the rows that learn where nothing less of an op can: none beside biases, or a table's best."""
        return frozenset() if self._ops[name].has_bias else frozenset([int(self._gains[name].weights.argmax())])

    @staticmethod
    def _shorter(channels: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yields the channels, and fewer of them: the most important half, and so on."""
        count = len(channels)
        yield channels
        while count > 1:
            count //= 2
            yield channels[:count]

    def _price(self, before: Cost, after: Cost) -> float:
        """Returns the share of what the limits leave free that the difference takes; the largest of all limits."""
        shares = [
            (new - old) / max(limit - old, SMALLEST)
            for (old, limit), (new, _) in zip(_pairs(before, self._limits), _pairs(after, self._limits), strict=True)
        ]
        return max(*shares, SMALLEST)

    def _channels(self, name: str) -> int:
        return self._graph.row_shape(self._ops[name])[0]

    def _candidate(self, name: str, chosen: Chosen) -> Candidate:
        plan = self._plan_of(chosen)
        need = memory_need(self._graph, plan_memory(self._graph, plan), self._target)  # exact, also beside branches
        cost = replace(self._cost(chosen), ram=need.ram)
        gain, forecast = self._prospects.gain(plan), self._forecast(plan)
        return Candidate(name, plan, gain, forecast, cost, cost.within(self._limits))

    def _forecast(self, plan: TrainingPlan) -> Forecast | None:
        forecasts = self._known.forecasts
        if plan not in forecasts:
            forecasts[plan] = self._prospects.forecast(plan)
        return forecasts[plan]

    def _plan_of(self, chosen: Chosen) -> TrainingPlan:
        names = tuple(name for name in self._plan.trained if name in chosen)
        partial = tuple(
            PartialUpdate(name, tuple(sorted(chosen[name])))
            for name in names
            if len(chosen[name]) < self._channels(name)
        )
        return replace(self._plan, trained=names, partial=partial)

    def _cost(self, chosen: Chosen) -> Cost:
        plan = self._plan_of(chosen)
        if plan not in self._known.costs:
            self._known.costs[plan] = self._cost_of(plan)
        return self._known.costs[plan]

    def _cost_of(self, plan: TrainingPlan) -> Cost:
        need, steps = self._layout(plan)
        parameters = parameter_slots(self._graph, plan)[1]
        need = replace(need, parameters=parameters, extras=extras_of(self._graph, plan, parameters))
        step = estimate(self._target, round(self._counts.step_instructions(plan, steps)))
        learning = {name: plan.channels_of(name, self._channels(name)) for name in plan.trained}
        tables = sum(step_table_bytes(self._graph, self._ops[name]) for name in learning)
        tables += split_bytes(self._graph, learning)
        return Cost(need.ram, need.flash + tables, step.time_s.value, step.energy_j.value)

    def _layout(self, plan: TrainingPlan) -> tuple[MemoryNeed, tuple[BackwardStep, ...]]:
        """Returns what a plan needs but for its parameters and what options hold of them, and the backward pass.

        Both depend on the deepest op and on the ops whose weights learn, not on the number of their rows, nor on
        biases: errors come by these in any case, but for branches beside the deepest op, where this is the upper end.
        """
        deepest = self._plan.trained.index(plan.trained[0])
        learning = frozenset(name for name in plan.trained if plan.learns_weights(name))
        if (deepest, learning) not in self._known.layouts:
            names = self._plan.trained[deepest:]
            biases = tuple(PartialUpdate(name, ()) for name in names if name not in learning)
            common = replace(plan, trained=names, partial=biases)
            need = memory_need(self._graph, plan_memory(self._graph, common), self._target)
            need = replace(need, flash_code=code_bytes(self._graph, names))  # tables depend on what learns of these
            self._known.layouts[deepest, learning] = need, backward_steps(self._graph, common)
        return self._known.layouts[deepest, learning]
