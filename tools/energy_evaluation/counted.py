"""The energy of a stack whose instructions were counted: its published sources ran on the emulated core.

Energy is instructions times nJ an instruction: one number for a board and its stack, fitted to its totals of other
models, from the shipped core's cycles per instruction. So a user's own code is estimated, who calibrates a board.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import DEVIATIONS_90, LogNormal, Measurements, fit, predict
from rct_tflite.spec.target_file import find_target
from tools.energy_evaluation.table import Row, read_entries

COUNTS = Path(__file__).with_name("published_counts.csv")
"""Written by tools/count_published."""
CORE = "cortex-m4"
"""That it counted on."""
CYCLES_ERROR = 0.12
"""Relative error of one number of cycles for all instructions of a network or layer: what the shipped classes of ops
differ by, 1.79 to 2.09 cycles."""
NJ_PER_UJ = 1e3


@dataclass(frozen=True)
class Counted:
    """Instructions by (stack, model, layer); layer -1 is the whole model."""

    instructions: dict[tuple[str, str, int], int]

    def of(self, row: Row, layer: int = -1) -> int | None:
        """Returns the instructions of a row's model, or of a layer of it; None where nobody counted."""
        if row.core.lower() != CORE:
            return None
        return self.instructions.get((row.stack, row.benchmark, layer))

    def nj_per_instruction(self, others: Sequence[Row], nj_per_cycle: float) -> LogNormal:
        """Returns the energy of an instruction.

        Args:
            others: Rows of one setup with energy, all counted.
            nj_per_cycle: mW per MHz: what the power is believed to be before they are seen.
        """
        cycles = find_target(CORE).cycles_per_instruction
        deviation = math.log(cycles.high / cycles.low) / 2 / DEVIATIONS_90
        prior = LogNormal(np.array([math.log(cycles.value * nj_per_cycle)]), np.array([[deviation**2]]))
        counts = np.array([[float(self.of(row) or 0)] for row in others])
        energies = NJ_PER_UJ * np.array([row.energy_uj or 0.0 for row in others])
        return fit(prior, Measurements(counts, energies, np.full(len(others), CYCLES_ERROR)))


def read_counts(path: Path = COUNTS) -> Counted:
    """Reads what tools/count_published wrote."""
    entries = read_entries(path, ("stack", "model", "layer", "instructions"))
    return Counted(
        {(entry["stack"], entry["model"], int(entry["layer"] or -1)): int(entry["instructions"]) for entry in entries}
    )


def energy_uj(instructions: int, cost: LogNormal) -> Interval:
    """Returns the energy of instructions at nJ each."""
    return predict(cost, np.array([float(instructions)]), CYCLES_ERROR).scaled(1 / NJ_PER_UJ)
