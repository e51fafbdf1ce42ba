"""Finds which stretch of a trace is which phase, by order, lengths and the sleep between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SCALES = np.geomspace(1 / 8, 8, 49)
"""How much longer than expected all phases may last together: a clock or a CPI that is not as believed."""
SLEEP_SPREAD = 0.3
"""Standard deviation of the logarithm of the time between two phases."""
LARGEST_COST = 16.0
"""Of one length or one sleep: a single one that is odd must not turn everything."""
EXTRA_COST = 6.0
"""Of a stretch that is no phase, such as the start of the board."""
MISSING_COST = 9.0
REACH = 4
"""So many phases or stretches in a row may be skipped."""
MARGIN = 4.0
"""A match is certain where every other match costs so much more."""


@dataclass(frozen=True)
class Expected:
    """What is looked for.

    Attributes:
        seconds: Lengths of the phases.
        spread: Standard deviation of the logarithm of each, beside the common scale.
        sleep_s: Between phases.
    """

    seconds: tuple[float, ...]
    spread: tuple[float, ...]
    sleep_s: float


@dataclass(frozen=True)
class Match:
    """Which stretch is which phase.

    Attributes:
        windows: For each phase the index of its stretch, or None.
        cost: Of the match: 0 where everything is as expected.
    """

    windows: tuple[int | None, ...]
    cost: float

    @property
    def missing(self) -> tuple[int, ...]:
        """The phases without a stretch."""
        return tuple(phase for phase, window in enumerate(self.windows) if window is None)


def match(spans: Sequence[tuple[float, float]], expected: Expected) -> Match:
    """Matches stretches to phases in their order, so that lengths and sleeps fit best.

    Args:
        spans: Begin and end of each stretch, in seconds.
        expected: The phases.

    Example:
        >>> match([(0, 0.1), (0.5, 2.6), (2.8, 6.9)], Expected((1.0, 2.0), (0.25, 0.25), 0.2)).windows
        (1, 2)
    """
    return _align(spans, expected, None)


def is_ambiguous(found: Match, spans: Sequence[tuple[float, float]], expected: Expected) -> bool:
    """Returns whether another phase could be the missing one just as well."""
    if not found.missing:
        return False
    present = [phase for phase, window in enumerate(found.windows) if window is not None]
    return min((_align(spans, expected, phase).cost for phase in present), default=math.inf) < found.cost + MARGIN


def _align(spans: Sequence[tuple[float, float]], expected: Expected, absent: int | None) -> Match:
    """Dynamic programming over (stretch, phase) pairs, for all scales at once; the phase `absent` gets no stretch."""
    rows, columns = len(spans), len(expected.seconds)
    best = np.full((rows, columns, len(SCALES)), np.inf)
    previous: dict[tuple[int, int], npt.NDArray[np.intp]] = {}
    pairs = [(i, j) for i in range(rows) for j in range(columns) if j != absent]
    for i, j in pairs:
        own = _length_cost(spans[i][1] - spans[i][0], expected, j)
        choices = [_skipped(i, j)]
        before: list[tuple[int, int]] = [(-1, -1)]
        for a in range(max(i - 1 - REACH, 0), i):
            for b in range(max(j - 1 - REACH, 0), j):
                skipped = EXTRA_COST * (i - a - 1) + MISSING_COST * (j - b - 1)
                choices.append(best[a, b] + skipped + _sleep_cost(spans[i][0] - spans[a][1], expected, b, j))
                before.append((a, b))
        table = np.stack(np.broadcast_arrays(*choices, SCALES)[:-1])
        chosen = np.argmin(table, axis=0)
        best[i, j] = own + np.take_along_axis(table, chosen[None], axis=0)[0]
        previous[i, j] = np.array([before[c][0] * columns + before[c][1] for c in chosen])
    ends = [(best[i, j] + _skipped(rows - 1 - i, columns - 1 - j), i, j) for i, j in pairs]
    if not ends:
        return Match((None,) * columns, float(_skipped(rows, columns)[0]))
    cost, i, j, scale = min((float(costs.min()), i, j, int(costs.argmin())) for costs, i, j in ends)
    windows: list[int | None] = [None] * columns
    while i >= 0:
        windows[j] = i
        i, j = divmod(int(previous[i, j][scale]), columns) if previous[i, j][scale] >= 0 else (-1, -1)
    return Match(tuple(windows), cost)


def _skipped(stretches: int, phases: int) -> Floats:
    return np.array([EXTRA_COST * stretches + MISSING_COST * phases])


def _length_cost(seconds: float, expected: Expected, phase: int) -> Floats:
    off = np.log(seconds / (SCALES * expected.seconds[phase])) / expected.spread[phase]
    return np.minimum(off**2, LARGEST_COST)


def _sleep_cost(seconds: float, expected: Expected, last: int, phase: int) -> Floats:
    """Of the time between phase `last` and `phase`. A wrong clock makes the sleep longer too, a wrong CPI does not."""
    between = SCALES * sum(expected.seconds[last + 1 : phase])
    sleeps = expected.sleep_s * (phase - last)
    off = np.minimum(
        np.abs(np.log(max(seconds, 1e-9) / (between + sleeps))),
        np.abs(np.log(max(seconds, 1e-9) / (between + SCALES * sleeps))),
    )
    return np.minimum((off / SLEEP_SPREAD) ** 2, LARGEST_COST)
