"""Where gradients that are held from sample to sample lie."""

from collections.abc import Mapping
from dataclasses import dataclass

from rct_tflite.spec.graph import Graph
from rct_tflite.spec.training_plan import TrainingPlan

COUNTER_BYTES = 4
"""How many samples have been added up, and whether one of them had an error, in 16 bits each."""
TAUGHT = 2
"""Offset of the latter."""
EXPONENT_BYTES = 2
"""Of a row or a bias."""
SUM_BYTES = 2


@dataclass(frozen=True)
class HeldSlot:
    """What one op holds: that of `rows` rows, then that of each bias.

    The others are byte offsets of exponents and values; None for what is not held.
    """

    rows: int
    sum_exponents: int | None
    sums: int | None
    momentum_exponents: int | None
    momentum: int | None


@dataclass(frozen=True)
class HeldLayout:
    """One block of RAM: a counter, the sums of all ops, their momentum.

    Attributes:
        slots: By the name of the op.
        sum_bytes: Of the counter and the sums; 0 where every sample updates at once.
        momentum_bytes: 0 without momentum.
    """

    slots: Mapping[str, HeldSlot]
    sum_bytes: int
    momentum_bytes: int


def held_layout(graph: Graph, plan: TrainingPlan) -> HeldLayout:
    """Lays out what the trained ops of a plan hold, in the order of the graph."""
    adds, follows = plan.options.accumulate > 1, plan.options.momentum > 0
    rows: dict[str, int] = {}
    values = {}
    for op in graph.ops:
        if op.name in plan.trained:
            channels, depth = graph.row_shape(op)
            rows[op.name] = len(plan.channels_of(op.name, channels))
            values[op.name] = ((rows[op.name] + channels) * EXPONENT_BYTES, rows[op.name] * depth + channels)
    sums, end = {}, COUNTER_BYTES if adds else 0
    for name, (exponents, count) in values.items():
        sums[name] = (end, end + exponents)
        end += _padded(exponents + SUM_BYTES * count) if adds else 0
    sum_bytes, momentum = end, {}
    for name, (exponents, count) in values.items():
        momentum[name] = (end, end + exponents)
        end += _padded(exponents + count) if follows else 0
    nothing = (None, None)
    slots = {
        name: HeldSlot(rows[name], *(sums[name] if adds else nothing), *(momentum[name] if follows else nothing))
        for name in values
    }
    return HeldLayout(slots, sum_bytes, end - sum_bytes)


def _padded(size: int) -> int:
    return -(-size // 4) * 4
