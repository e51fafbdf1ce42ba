"""The power of a part before anything is measured: from the data sheet's headline current of its shipped target."""

import functools
import math

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import DEVIATIONS_90, around
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target, list_targets
from tools.energy_evaluation.table import Row

HEADLINE_UNDERSTATES = (1.05, 2.6)
"""Inference draws 1.05 times a CoreMark figure at the same clock, up to 2.6 times a while(1) figure at a low one. The
range is known from parts that are tested here too, but it is one for all of them."""
TARGET_OF = {"R7FA": "ra6m4"}
"""Parts whose target is not called after the short name."""
FAMILIES = ("", "stm32")
MICRO_TO_MILLI = 1e-3


def default_mw_per_mhz(row: Row) -> Interval | None:
    """Returns the power of the row's part from its target file, at the row's supply; None without such a target."""
    target = _target(row.part)
    headline = None if target is None else target.headline
    if target is None or headline is None:
        return None
    supply = row.voltage_v if target.linear_regulator and row.voltage_v else headline.voltage_v.value
    low, high = HEADLINE_UNDERSTATES
    middle = math.sqrt(low * high)
    # The range is taken as the 90 % interval, and the headline's own interval as another.
    own = math.log(headline.ua_per_mhz.high / headline.ua_per_mhz.low) / 2 / DEVIATIONS_90
    spread = math.log(high / low) / 2 / DEVIATIONS_90
    return around(headline.ua_per_mhz.value * supply * MICRO_TO_MILLI * middle, math.hypot(own, spread))


@functools.cache
def _target(part: str) -> Target | None:
    """Returns the shipped target of a part."""
    short = part.lower()
    names = [TARGET_OF.get(part, short), *(family + short for family in FAMILIES)]
    name = next((name for name in names if name in list_targets()), None)
    return None if name is None else find_target(name)
