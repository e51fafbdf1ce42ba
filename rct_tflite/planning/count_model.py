"""Instructions of a network without a compiler: what its kernels do, times what that took on the emulated core.

The costs are fitted to counts of small random networks by `tools/fit_counts`, which writes `instruction_counts.json`
beside this file and shows how far networks that were left out lie off. To count is better wherever it can be done.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import TargetError
from rct_tflite.planning.backward_work import Role, assumed_shares, backward_amounts, loss_amounts, role_of
from rct_tflite.planning.kernel_work import UNKNOWN, Amounts, Item, forward_amounts, open_inputs
from rct_tflite.reference.backward import BackwardStep, backward_steps
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.step_options import PLAIN_STEP
from rct_tflite.spec.training_plan import TrainingPlan

DATA = Path(__file__).with_name("instruction_counts.json")
WIDE = "wide errors: "
"""Before what a kernel takes in addition with errors of 16 bits."""
GUESS = 20.0
"""Instructions for an output of an op, or an element of its error, that was never counted."""
GUESS_FACTOR = 4.0
"""By which a guess may be off, either way."""
OPTION_FACTOR = 1.5
"""By which a training step may be off whose options were never counted."""
WIDEST_BITS = 8
"""Of weights that were counted."""

Instructions = dict[str, float]
"""By file of `Item`."""


@dataclass(frozen=True)
class Count:
    """Instructions, and the interval that they are believed to lie in."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Count") -> "Count":
        """Adds the ends: errors of kernels need not be independent."""
        return Count(self.value + other.value, self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class CountEstimate:
    """What a network takes on a core.

    Attributes:
        inference: Of a prediction.
        backward: Of a training step on one sample, beside its prediction.
        kernels: (kernel, instructions of a prediction, instructions of a step beside it).
        guessed: What was never counted; empty where all is known.
        compiler: Of the images that were counted.
    """

    inference: Count
    backward: Count
    kernels: tuple[tuple[str, float, float], ...]
    guessed: tuple[str, ...]
    compiler: str

    @property
    def step(self) -> Count:
        """Of a training step on one sample, its prediction included."""
        return self.inference + self.backward


@dataclass(frozen=True)
class CoreCosts:
    """Of one core.

    Attributes:
        compiler: Of the images that were counted.
        costs: Instructions by (kernel, what it does).
        factors: Per file of `Item`, the factor by which nine of ten networks that were left out lie off at most.
    """

    compiler: str
    costs: Mapping[tuple[str, str], float]
    factors: Mapping[str, float]


@functools.cache
def core_costs(core: str) -> CoreCosts:
    """Returns what the kernels take on a core.

    Raises:
        TargetError: If the core was never counted.
    """
    cores = json.loads(DATA.read_text(encoding="utf-8"))
    if core not in cores:
        raise TargetError(
            f"Instructions on this core are not known. Expected one of {sorted(cores)}. "
            f"Received: {core!r}. Choose a target with one of these cores."
        )
    told = cores[core]
    costs = {(kernel, what): cost for kernel, costs in told["costs"].items() for what, cost in costs.items()}
    return CoreCosts(told["compiler"], costs, told["factors"])


def costs_of(item: Item) -> Iterator[tuple[str, str]]:
    """Yields what an item costs: kernels that are compiled from one source share their costs.

    Example:
        >>> list(costs_of(Item("conv_2d_split_16", "conv_2d_grad", "tap")))
        [('conv_2d_grad', 'tap'), ('conv_2d_grad', 'wide errors: tap')]
    """
    yield item.kernel, item.what
    if item.file.endswith("_16"):
        yield item.kernel, f"{WIDE}{item.what}"


class CountModel:
    """Estimates the instructions of plans for one network.

    Args:
        graph: The network.
        core: Of the target.

    Raises:
        TargetError: If no image of the core was ever counted.
    """

    def __init__(self, graph: Graph, core: str) -> None:
        self._graph, self._core = graph, core_costs(core)
        self._shares = open_inputs(graph)
        self._channels = {op.name: graph.row_shape(op)[0] if op.has_weights else 0 for op in graph.ops}
        self._forward: dict[tuple[str, frozenset[int]], Instructions] = {}
        self._backward: dict[tuple[str, int, Role], Instructions] = {}

    def step_instructions(self, plan: TrainingPlan, steps: tuple[BackwardStep, ...]) -> float:
        """Returns the instructions of a training step on one sample, its prediction included.

        Args:
            plan: What learns.
            steps: `backward_steps()` of the network and the plan.
        """
        parts = (*self._predicted(plan), *self._learnt(plan, steps))
        return sum(sum(files.values()) for files in parts)

    def forward_instructions(self, plan: TrainingPlan, op: Op) -> float:
        """Returns the instructions of an op's forward pass.

        Args:
            plan: What learns: rows of which only some do lie apart.
            op: One of the network's.
        """
        return sum(self._predicted_op(op, self._split(plan, op)).values())

    def estimate(self, plan: TrainingPlan) -> CountEstimate:
        """Returns what a plan takes, with intervals and with what is not known."""
        forward, backward = _sum(self._predicted(plan)), _sum(self._learnt(plan, backward_steps(self._graph, plan)))
        guessed = tuple(self._guessed(plan))
        counts = [self._with_interval(files) for files in (forward, backward)]
        if guessed:
            counts = [Count(c.value, c.low / OPTION_FACTOR, c.high * OPTION_FACTOR) for c in counts]
        return CountEstimate(
            inference=counts[0],
            backward=counts[1],
            kernels=tuple(
                (file, forward.get(file, 0.0), backward.get(file, 0.0)) for file in sorted({*forward, *backward})
            ),
            guessed=guessed,
            compiler=self._core.compiler,
        )

    def _guessed(self, plan: TrainingPlan) -> Iterator[str]:
        for op in self._graph.ops:
            if any(item.file == UNKNOWN for item in forward_amounts(self._graph, op, 1.0)):
                yield f"{op.kind.name} ({op.name})"
            if op.has_bias and self._graph.bits_of(op) > WIDEST_BITS:
                yield f"weights of {self._graph.bits_of(op)} bits ({op.name})"
        if plan.options != PLAIN_STEP:
            yield "options of the training step"
        if plan.adaptation is not None:
            yield "bit-widths that follow the training"

    def _with_interval(self, files: Mapping[str, float]) -> Count:
        total = Count(0.0, 0.0, 0.0)
        for file, value in files.items():
            factor = GUESS_FACTOR if file == UNKNOWN else self._core.factors[file]
            total += Count(value, value / factor, value * factor)
        return total

    def _predicted(self, plan: TrainingPlan) -> list[Instructions]:
        """Returns the instructions of the forward pass, by op and file."""
        return [self._predicted_op(op, self._split(plan, op)) for op in self._graph.ops]

    def _split(self, plan: TrainingPlan, op: Op) -> frozenset[int]:
        """Returns the channels that learn where only some do: else the forward pass does not depend on it."""
        learning = plan.channels_of(op.name, self._channels[op.name])
        return frozenset(learning) if len(learning) < self._channels[op.name] else frozenset()

    def _predicted_op(self, op: Op, learning: frozenset[int]) -> Instructions:
        key = op.name, learning
        if key not in self._forward:
            share = self._shares.get(op.inputs[0], 1.0)
            self._forward[key] = self._cost(forward_amounts(self._graph, op, share, learning))
        return self._forward[key]

    def _learnt(self, plan: TrainingPlan, steps: tuple[BackwardStep, ...]) -> list[Instructions]:
        """Returns the instructions of the backward pass and the updates, by op and file."""
        if not plan.trained:
            return []
        shares = assumed_shares(self._graph, plan, steps)
        parts = [self._cost(loss_amounts(self._graph, plan))]
        for step in steps:
            op = step.op
            role = role_of(plan, op, self._channels[op.name], shares)
            key = op.name, len(step.passages), role
            if key not in self._backward:
                self._backward[key] = self._cost(backward_amounts(self._graph, step, role))
            parts.append(self._backward[key])
        again = (op for op in self._graph.ops if op.name in plan.recomputed)
        return [*parts, *(self._predicted_op(op, self._split(plan, op)) for op in again)]

    def _cost(self, amounts: Amounts) -> Instructions:
        files: Instructions = {}
        for item, amount in amounts.items():
            known = item.file in self._core.factors
            cost = sum(self._core.costs.get(key, 0.0) for key in costs_of(item)) if known else GUESS
            file = item.file if known else UNKNOWN
            files[file] = files.get(file, 0.0) + cost * amount
        return files


def _sum(parts: Iterable[Instructions]) -> Instructions:
    total: Instructions = {}
    for part in parts:
        for file, count in part.items():
            total[file] = total.get(file, 0.0) + count
    return total
