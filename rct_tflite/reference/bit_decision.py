"""Which layers get a bit and which give one back, in integers (ARITHMETIC.md 10): the policy of the device."""

from collections.abc import Sequence
from dataclasses import dataclass

from rct_tflite.reference.packing import room_bytes

HYSTERESIS = 4
"""How much richer than the served one a layer must be to pay for it; the smallest `t_max / t_min`."""


@dataclass(frozen=True)
class Width:
    """What the policy knows of one layer.

    Attributes:
        bits: Present bit-width.
        gavg: Mean step that its weights were asked for, in 2**-16 of their own steps; 0 means that nothing is known.
        channels: Rows of weights.
        depth: Weights of a row.
        min_bits: Narrowest allowed.
        max_bits: Widest allowed; the present one where the integers leave no room for a bit more.
    """

    bits: int
    gavg: int
    channels: int
    depth: int
    min_bits: int
    max_bits: int


@dataclass(frozen=True)
class Band:
    """The thresholds, in 2**-16 steps of a weight, and the bytes that all weights together may take."""

    t_min: int
    t_max: int
    budget_bytes: int


def decide(widths: Sequence[Width], band: Band) -> list[int]:
    """Returns the bit-widths to continue with.

    Layers above `t_max` give a bit back. Then the poorest below `t_min` is served first, each layer at most once;
    where its bit does not fit, the richest pay one each, as long as they have at least four times as much.

    Example:
        >>> rich, poor = Width(6, 3900, 1, 800, 2, 8), Width(6, 300, 1, 800, 2, 8)
        >>> decide([rich, poor], Band(1000, 4000, 1600)), decide([rich, poor], Band(1000, 4000, 1200))
        ([6, 7], [5, 7])
    """
    planned = [w.bits - (w.gavg > band.t_max and w.bits > w.min_bits) for w in widths]
    settled: set[int] = set()
    while asking := [i for i, w in enumerate(widths) if i not in settled and _starves(w, planned[i], band)]:
        poorest = min(asking, key=lambda i: (_wealth(widths[i], planned[i]), i))
        settled.add(poorest)
        planned = _served(widths, planned, poorest, band.budget_bytes)
    return planned


def total_bytes(widths: Sequence[Width], planned: Sequence[int]) -> int:
    """Returns the bytes of all packed weights at the planned widths."""
    return sum(room_bytes(w.channels, w.depth, bits) for w, bits in zip(widths, planned, strict=True))


def _wealth(width: Width, planned: int) -> int:
    """Twice the Gavg at the planned width, which is one bit away at most."""
    return width.gavg << (planned - width.bits + 1)


def _starves(width: Width, planned: int, band: Band) -> bool:
    free = planned < width.max_bits and planned <= width.bits
    return free and 0 < _wealth(width, planned) < 2 * band.t_min


def _served(widths: Sequence[Width], planned: list[int], served: int, budget_bytes: int) -> list[int]:
    """Returns the plan with one bit more for a layer, paid by others if need be; the same plan if none can."""
    need = HYSTERESIS * _wealth(widths[served], planned[served])
    result = list(planned)
    result[served] += 1
    while total_bytes(widths, result) > budget_bytes:
        payers = [
            i
            for i, w in enumerate(widths)
            if i != served and result[i] > w.min_bits and result[i] >= w.bits and _wealth(w, result[i]) >= need
        ]
        if not payers:
            return planned
        result[max(payers, key=lambda i: (_wealth(widths[i], result[i]), -i))] -= 1
    return result
