"""The energy of a stack whose instructions were counted: its published sources ran on the emulated core.

Energy is instructions times nJ an instruction: one number for a board and its stack, fitted to its totals of other
models. So a user's own code is estimated, who calibrates a board.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import DEVIATIONS_90, LogNormal, Measurements, fit, predict
from tools.energy_evaluation.table import Row, read_entries

COUNTS = Path(__file__).with_name("published_counts.csv")
"""Written by tools/count_published."""
CYCLES = 1.0, 3.0
"""That an instruction is believed to take before anything is measured: few take more than one at zero wait states."""
CYCLES_ERROR = 0.12
"""Relative error of one number of cycles for all instructions of a network or layer: classes of ops differ by up
to a sixth on a Cortex-M4, 1.44 to 1.68 cycles in its target file. From 0.05 to 0.2, and with 1 to 2 or 0.5 to 6 cycles
above, the estimates of whole models err alike (README of rct_tflite/energy)."""
NJ_PER_UJ = 1e3


@dataclass(frozen=True)
class Counted:
    """Instructions by (stack, core, model, layer); layer -1 is the whole model."""

    instructions: dict[tuple[str, str, str, int], int]

    def of(self, row: Row, layer: int = -1) -> int | None:
        """Returns the instructions of a row's model, or of a layer of it; None where nobody counted."""
        return self.instructions.get((row.stack, row.core.lower(), row.benchmark, layer))

    def nj_per_instruction(self, others: Sequence[Row], nj_per_cycle: float) -> LogNormal:
        """Returns the energy of an instruction.

        Args:
            others: Rows of one setup with energy, all counted.
            nj_per_cycle: mW per MHz: what the power is believed to be before they are seen.
        """
        energies = [NJ_PER_UJ * (row.energy_uj or 0.0) for row in others]
        return self._cost(others, energies, nj_per_cycle)

    def cycles(self, asked: Row, others: Sequence[Row]) -> Interval | None:
        """Returns the cycles of a row, from those of others of its core that were counted; None if it was not.

        Args:
            asked: What is wanted.
            others: Rows that may be seen.
        """
        instructions = self.of(asked)
        if instructions is None:
            return None
        alike = [row for row in others if row.core == asked.core and self.of(row) is not None]
        cost = self._cost(alike, [row.cycles for row in alike], 1.0)
        return predict(cost, np.array([float(instructions)]), CYCLES_ERROR)

    def _cost(self, rows: Sequence[Row], costs: Sequence[float], per_cycle: float) -> LogNormal:
        """Returns the cost of an instruction from rows and what they cost; `per_cycle` is believed before."""
        low, high = CYCLES
        deviation = math.log(high / low) / 2 / DEVIATIONS_90
        prior = LogNormal(np.array([math.log(low * high) / 2 + math.log(per_cycle)]), np.array([[deviation**2]]))
        counts = np.array([float(self.of(row) or 0) for row in rows]).reshape(-1, 1)
        return fit(prior, Measurements(counts, np.array(costs), np.full(len(rows), CYCLES_ERROR)))


def read_counts(path: Path = COUNTS) -> Counted:
    """Reads what tools/count_published wrote."""
    entries = read_entries(path, ("stack", "core", "model", "layer", "instructions"))
    return Counted(
        {
            (entry["stack"], entry["core"], entry["model"], int(entry["layer"] or -1)): int(entry["instructions"])
            for entry in entries
        }
    )


def energy_uj(instructions: int, cost: LogNormal) -> Interval:
    """Returns the energy of instructions at nJ each."""
    return predict(cost, np.array([float(instructions)]), CYCLES_ERROR).scaled(1 / NJ_PER_UJ)
