"""What a session did unlike the others, as its submission's own files tell: how it read the flash, what it left out."""

import re
from collections.abc import Sequence

from tools.energy_evaluation.defaults import shipped_target
from tools.energy_evaluation.table import Layer, Row

VWW_REPORTED = 4_646_932 / 7_494_744
"""Multiply-accumulates of `vww` that X-CUBE-AI still counts, over those of before. The project files of the
submissions hold its own count (`ModelMacc` in the .ioc files): the second in 7.1 to 8.0, the first from 8.1 on, and
`copyWeightToRam=false` wherever they tell it. The published .tflite file has output channels whose weights are all
zero, half of its multiply-accumulates behind them."""
DROPS_ZERO_CHANNELS = (8, 1)
"""First version of X-CUBE-AI that counts fewer."""
ONE_BANK = 2
"""An STM32L4+ with its flash as one bank reads twice as many bytes at once."""


def macs_run(row: Row, macs: float) -> float:
    """Returns the multiply-accumulates that a row's stack says it runs.

    Args:
        row: One model on one board.
        macs: Of the model.
    """
    version = re.search(r"X-CUBE-AI (\d+)(?:\.(\d+))?", row.kernels)
    drops = version is not None and (int(version[1]), int(version[2] or 0)) >= DROPS_ZERO_CHANNELS
    return macs * VWW_REPORTED if drops and row.benchmark == "vww" else macs


def unusual_stalls(row: Row, layers: Sequence[Layer]) -> float:
    """Returns the cycles that a row waits for its flash beyond what its part usually does: below 0 if it waits less.

    Each weight counts once: how often a kernel reads it from the flash again, its vendor does not say. What all
    sessions of a part have in common is not in it: what a line costs behind the bus and the cache of a part, no manual
    says, and measured rows do.

    Args:
        row: One model on one board.
        layers: Of the models, with the bytes of their weights.
    """
    target = shipped_target(row.part)
    timing = None if target is None else target.timing
    if not row.one_bank or timing is None or timing.read_bytes is None:
        return 0.0
    weight_bytes = sum(layer.weight_bytes for layer in layers if layer.model == row.benchmark)
    reads_fewer = weight_bytes / timing.read_bytes * (1 - 1 / ONE_BANK)
    return -reads_fewer * timing.wait_states
