"""When a weight tensor gets a bit more, when it gives one back, and who pays where bytes are short.

**The rule.** Gavg is the mean of `abs(gradient) / scale`: how far a layer is asked to move, in quantisation steps, by
a learning rate of 1. Below `t_min` the steps are too coarse and the layer starves: one bit more halves the scale and
doubles Gavg. Above `t_max` the layer has resolution to spare and gives a bit back.

**Hysteresis.** A layer that has just got a bit lies below `2 * t_min`, one that has just given a bit back lies above
`t_max / 2`. With `t_max = 2 * t_min` these meet: noise in the gradients makes the layer swing for ever. With
`t_max >= 4 * t_min` the gradients must really change by a factor of 2 before a decision is taken back. At exactly 4,
a start from few bits and a start from many bits end one bit apart at most, as the dead band is two bits wide.

**Thresholds across learning rates.** An update moves a weight by `learning_rate * abs(gradient) / scale` steps, so
what decides about learning is `learning_rate * Gavg`. For gradients with a Laplace distribution, the share of updates
that truncation loses is `1 - exp(-1 / (learning_rate * Gavg))`: 22 % at a product of 4. Stochastic rounding loses
nothing on average, only adds noise, and needs 3 to 4 bits less. Hence the defaults, `t_min = 0.3 / rate` and
`4 / rate` (measured in `models/README.md`). The rate is the one that training starts with, not the scheduled one:
late in training a rate that falls tenfold would else ask `log2(10) = 3.3` bits more of every layer, just when the
fewest weights still need to move.

**Rows.** A batch reads few rows of an embedding, 4 to 7 % in the text networks. The paper's mean, over all of them,
would tell how often words occur; Gavg is taken over the rows that were read. Two other means of these were tried and
not taken, see `models/README.md`.

**Ranges.** A tight range makes fine steps, but weights that reach its end stop there: a last layer with 8 % of its
weights at the ends kept ResNet-8 behind float32 at any bit-width. So ranges start at the largest initial weight, and
the callback doubles that of a layer whose weights crowd at the ends: 1 % of them more than of weights that spread
evenly, where `1.5 / 2**(bits - 1)` lie on the last integers. Doubling halves the integers, rounded as for a narrower
width; Gavg is then half of what it was, and the rule above may give the bit back.
"""

import enum
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import Rounding

RATE_TIMES_T_MIN = {Rounding.STOCHASTIC: 0.3, Rounding.TRUNCATE: 4.0}
"""`learning_rate * t_min` of the default thresholds, by the rounding of the updates."""

HYSTERESIS = 4.0
"""Smallest `t_max / t_min`; also how much richer than the served one a layer must be to pay for it."""

_MOST_BITS = 16.0


class Mode(enum.StrEnum):
    """How far a bit-width may move in one decision: one bit, or at once to where the thresholds are met."""

    STEP = "step"
    JUMP = "jump"


def default_t_min(rounding: Rounding, learning_rate: float) -> float:
    """Returns the threshold that holds at a learning rate.

    Args:
        rounding: Of the weight updates.
        learning_rate: The largest one of the training: what a decaying schedule starts with.

    Raises:
        RecipeError: If the learning rate is not a positive number.

    Example:
        >>> default_t_min(Rounding.STOCHASTIC, 0.1), default_t_min(Rounding.TRUNCATE, 0.02)
        (3.0, 200.0)
    """
    if not 0.0 < learning_rate < math.inf:
        raise RecipeError(
            "The default thresholds of Gavg follow the learning rate, which must be a positive number. "
            f"Received: learning_rate={learning_rate}. Set t_min."
        )
    return float(f"{RATE_TIMES_T_MIN[rounding] / learning_rate:.6g}")  # the rate is float32: 0.1 is 0.10000000149


@dataclass(frozen=True)
class Thresholds:
    """The band of Gavg in which a bit-width stays.

    Args:
        t_min: Below this Gavg a layer gets one bit more.
        t_max: Above this Gavg a layer gives one bit back.

    Raises:
        RecipeError: If they are not `0 < 4 * t_min <= t_max`.
    """

    t_min: float
    t_max: float

    def __post_init__(self) -> None:
        # Both come from users in decimals: 0.3 and 1.2 are a factor of 4, though not in binary.
        if not 0.0 < HYSTERESIS * self.t_min * (1.0 - 1e-6) <= self.t_max < math.inf:
            raise RecipeError(
                f"The thresholds of Gavg must satisfy 0 < {HYSTERESIS:g} * t_min <= t_max. One bit more doubles Gavg, "
                "so that with closer ones bit-widths swing with the noise of the gradients. "
                f"Received: t_min={self.t_min}, t_max={self.t_max}."
            )


@dataclass(frozen=True)
class WeightState:
    """What the policy knows of one weight tensor.

    Attributes:
        name: As the user knows it.
        bits: Present bit-width.
        gavg: Running mean of `abs(gradient) / scale` at this width; 0 means that nothing was observed yet.
        weight_count: Number of weights.
        thresholds: The band that Gavg should lie in.
        min_bits: Narrowest allowed.
        max_bits: Widest allowed.
        frozen: Whether the width must stay as it is.
        joules: Its part of a training step's energy at each bit-width from 0 on, never less with more bits; empty
            where no budget asks.
    """

    name: str
    bits: int
    gavg: float
    weight_count: int
    thresholds: Thresholds
    min_bits: int
    max_bits: int
    frozen: bool = False
    joules: tuple[float, ...] = ()

    def packed_bytes(self, bits: int) -> int:
        """Returns the bytes of the packed weights at a bit-width."""
        return (self.weight_count * bits + 7) // 8


@dataclass(frozen=True)
class BitPolicy:
    """Decides on the bit-widths of all weight tensors of a model together. It holds no state.

    Within a budget the layer that starves most is served first. If its bit does not fit, the richest layers, measured
    by `gavg / t_min`, pay with a bit each, as long as they are at least four times as rich: the payer then still has
    twice what the served one had, so that the two never trade places under the same gradients.

    Args:
        mode: `"step"` moves a width by one bit in a decision, `"jump"` to where Gavg meets its threshold.
        budget_bytes: Most bytes of all packed weights together; None for no limit.
        budget_joules: Most joules of a training step, by the `joules` of the states; None for no limit.

    Raises:
        RecipeError: If the mode is unknown or a budget is not positive.

    Example:
        >>> band = Thresholds(1.0, 4.0)
        >>> rich, poor = WeightState("a", 6, 3.9, 800, band, 2, 8), WeightState("b", 6, 0.3, 800, band, 2, 8)
        >>> BitPolicy().decide([rich, poor]), BitPolicy("jump").decide([rich, poor])
        ((6, 7), (6, 8))
        >>> BitPolicy(budget_bytes=1200).decide([rich, poor])
        (5, 7)
    """

    mode: str = Mode.STEP
    budget_bytes: int | None = None
    budget_joules: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in tuple(Mode):
            raise RecipeError(
                f"Unknown mode of the policy. Expected one of {[str(mode) for mode in Mode]}. "
                f"Received: mode={self.mode!r}."
            )
        if not _is_budget(self.budget_bytes):
            raise RecipeError(
                "The budget must be a positive number of bytes, or None for no limit. "
                f"Received: budget_bytes={self.budget_bytes}."
            )
        if not _is_budget(self.budget_joules):
            raise RecipeError(
                "The budget must be a positive number of joules, or None for no limit. "
                f"Received: budget_joules={self.budget_joules}."
            )

    def fit(self, states: Sequence[WeightState]) -> tuple[int, ...]:
        """Returns the widths to start with: within the limits, and within the budgets.

        Raises:
            RecipeError: If a budget cannot hold the narrowest widths.
        """
        plan = _Plan(states, self)
        plan.fit()
        return tuple(plan.bits)

    def decide(self, states: Sequence[WeightState]) -> tuple[int, ...]:
        """Returns the widths to continue with, in the order of `states`.

        Raises:
            RecipeError: If a budget cannot hold the narrowest widths.
        """
        most = 1 if self.mode == Mode.STEP else int(_MOST_BITS)
        plan = _Plan(states, self, most)
        plan.give_back()
        plan.fit()
        plan.serve()
        return tuple(plan.bits)


def bits_missing(gavg: float, t_min: float) -> int:
    """Returns how many bits more lift `gavg` to `t_min`: one bit more doubles it.

    Example:
        >>> bits_missing(0.3, 1.0), bits_missing(1.0, 1.0)
        (2, 0)
    """
    return math.ceil(math.log2(min(t_min / gavg, 2.0**_MOST_BITS))) if gavg < t_min else 0


class _Plan:
    """The widths while a decision is taken."""

    def __init__(self, states: Sequence[WeightState], policy: BitPolicy, most: int = 0):
        self.states = states
        self.policy = policy
        self.most = most
        self.bits = [state.bits if state.frozen else _clamped(state) for state in states]
        self.start = list(self.bits)
        self.served = [0] * len(self.bits)

    def total(self) -> int:
        """Bytes of all packed weights."""
        return sum(state.packed_bytes(bits) for state, bits in zip(self.states, self.bits, strict=True))

    def joules(self) -> float:
        """Energy of a training step."""
        return sum(state.joules[bits] for state, bits in zip(self.states, self.bits, strict=True))

    def is_over(self) -> bool:
        """Whether a budget does not hold."""
        size, energy = self.policy.budget_bytes, self.policy.budget_joules
        return (size is not None and self.total() > size) or (energy is not None and self.joules() > energy)

    def wealth(self, index: int) -> float:
        """Gavg at the planned width in multiples of `t_min`; 0 where nothing was observed."""
        state = self.states[index]
        if not 0.0 < state.gavg < math.inf:
            return 0.0
        return state.gavg * 2.0 ** (self.bits[index] - state.bits) / state.thresholds.t_min

    def give_back(self) -> None:
        """Narrows what is above its `t_max`."""
        for index, state in enumerate(self.states):
            highest = state.thresholds.t_max / state.thresholds.t_min
            wealth = self.wealth(index)
            if not state.frozen and wealth > highest:
                spare = min(bits_missing(highest, wealth), self.most)
                self.bits[index] = max(self.bits[index] - spare, state.min_bits)

    def fit(self) -> None:
        """Takes bits from the richest, or from the widest where nothing was observed, until the budgets hold."""
        while self.is_over():
            payers = [i for i, state in enumerate(self.states) if not state.frozen and self.bits[i] > state.min_bits]
            if not payers:
                raise RecipeError(self._refusal())
            richest = max(payers, key=lambda i: (self.wealth(i), self.bits[i], self.states[i].weight_count, -i))
            self.bits[richest] -= 1

    def _refusal(self) -> str:
        size = self.policy.budget_bytes
        if size is not None and self.total() > size:
            name, least, given = "budget_bytes", str(self.total()), str(size)
        else:
            rounded_up = f"{self.joules() * (1 + 5e-4):.4g}"
            name, least, given = "budget_joules", rounded_up, f"{self.policy.budget_joules:.4g}"
        return (
            f"The budget cannot hold the narrowest bit-widths. Expected {name} of at least {least}, for "
            f"{self._listed()}. Received: {name}={given}. Allow fewer bits with min_bits, or raise the budget."
        )

    def _listed(self) -> str:
        return ", ".join(
            f"{state.name} {state.weight_count} x {bits} bits"
            for state, bits in zip(self.states, self.bits, strict=True)
        )

    def serve(self) -> None:
        """Widens what is below its `t_min`, the poorest first.

        This ends after `max_bits - min_bits + 1` rounds a tensor at the latest, whatever the payers' threshold is: a
        round serves a tensor, which `_starves()` allows `max_bits - min_bits` times, or refuses it for good. With the
        threshold as it is, who was served does not pay in the same decision, so that this limit is not felt. The
        other loops take a bit each time, of which there are finitely many above `min_bits`.
        """
        refused: set[int] = set()
        while asking := [i for i in range(len(self.states)) if i not in refused and self._starves(i)]:
            poorest = min(asking, key=lambda i: (self.wealth(i), i))
            if self._widen(poorest):
                self.served[poorest] += 1
            else:
                refused.add(poorest)

    def _starves(self, index: int) -> bool:
        state, bits = self.states[index], self.bits[index]
        free = not state.frozen and bits < state.max_bits and bits - self.start[index] < self.most
        return free and self.served[index] < state.max_bits - state.min_bits and 0.0 < self.wealth(index) < 1.0

    def _widen(self, index: int) -> bool:
        """Gives one bit to a tensor, paid by others if need be; returns False, with nothing changed, if none can."""
        before, need = list(self.bits), HYSTERESIS * self.wealth(index)
        self.bits[index] += 1
        while self.is_over():
            payers = [i for i in range(len(self.bits)) if i != index and self._can_pay(i) and self.wealth(i) >= need]
            if not payers:
                self.bits = before
                return False
            self.bits[max(payers, key=lambda i: (self.wealth(i), -i))] -= 1
        return True

    def _can_pay(self, index: int) -> bool:
        state, bits = self.states[index], self.bits[index]
        return not state.frozen and bits > state.min_bits and self.start[index] - bits < self.most


def _is_budget(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Real) and 0.0 < float(value) < math.inf)


def _clamped(state: WeightState) -> int:
    return min(max(state.bits, state.min_bits), state.max_bits)
