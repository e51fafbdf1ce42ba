"""The power of a part before anything is measured: from the data sheet's headline current of its shipped target."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import DEVIATIONS_90, around
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target, list_targets
from tools.energy_evaluation.table import Row

UNDERSTATES = (1.05, 2.6)
"""Inference draws 1.05 times a CoreMark figure at the same clock, up to 2.6 times that of a loop that does nothing:
what is believed before any part was measured. The range is known from parts that are tested here too, but it is one
for all of them."""
IDLE = "code that does nothing"
"""What a target file says of a headline that was not taken with a real program."""
BETWEEN_PARTS = 0.2
"""How far parts with a like headline differ in what it understates (deviation of the logarithm)."""
TARGET_OF = {"R7FA": "ra6m4"}
"""Parts whose target is not called after the short name."""
FAMILIES = ("", "stm32")
CORE_SUPPLY_V = 43 * 3.3 / 110
"""What the current of a linear regulator is worth where an external switched one supplies the core: an STM32L4R5 is
listed with 43 uA/MHz at 3.3 V then, and with 110 at any supply otherwise (data sheet, not re-read)."""
MICRO_TO_MILLI = 1e-3


def default_mw_per_mhz(row: Row, measured: Sequence[Row]) -> Interval | None:
    """Returns the power of the row's part from its target file, at the row's supply; None without such a target.

    By what factor its headline understates is learnt from other parts whose headlines are of the same kind.

    Args:
        row: What is asked.
        measured: Rows with energy; those of this part are not looked at.
    """
    stated = _headline_mw(row)
    if stated is None:
        return None
    low, high = UNDERSTATES
    variance = (math.log(high / low) / 2 / DEVIATIONS_90) ** 2
    others: dict[str, list[float]] = {}
    for other in measured:
        said = _headline_mw(other)
        if other.part != row.part and said is not None and said.idle == stated.idle:
            others.setdefault(other.part, []).append(math.log(other.power_mw / other.clock_mhz / said.mw_per_mhz))
    precision = 1 / variance + len(others) / BETWEEN_PARTS**2
    believed = math.log(low * high) / 2 / variance
    factor = (believed + sum(statistics.fmean(known) for known in others.values()) / BETWEEN_PARTS**2) / precision
    spread = math.sqrt(1 / precision + BETWEEN_PARTS**2 + stated.deviation**2)
    return around(stated.mw_per_mhz * math.exp(factor), spread)


@dataclass(frozen=True)
class _Headline:
    """What a data sheet advertises, in mW per MHz at a row's supply."""

    mw_per_mhz: float
    deviation: float
    idle: bool


def _headline_mw(row: Row) -> _Headline | None:
    target = shipped_target(row.part)
    headline = None if target is None else target.headline
    if target is None or headline is None:
        return None
    supply = headline.voltage_v.value
    if target.linear_regulator:
        supply = CORE_SUPPLY_V if row.switched else row.voltage_v or supply
    current = headline.ua_per_mhz
    deviation = math.log(current.high / current.low) / 2 / DEVIATIONS_90
    return _Headline(current.value * supply * MICRO_TO_MILLI, deviation, IDLE in current.source)


@functools.cache
def shipped_target(part: str) -> Target | None:
    """Returns the shipped target of a part; None if there is none."""
    short = part.lower()
    names = [TARGET_OF.get(part, short), *(family + short for family in FAMILIES)]
    name = next((name for name in names if name in list_targets()), None)
    return None if name is None else find_target(name)
