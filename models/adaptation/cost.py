"""What a training step costs on a device: measured on an emulated core, energy estimated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.adaptation.data import Part
from rct_tflite.export.model_export import ExportOptions, export_model
from rct_tflite.firmware.run import RunOptions, run_project

TARGET = "cortex-m7"
SAMPLES = 8


@dataclass(frozen=True)
class Cost:
    """The cost of learning.

    Attributes:
        target: The emulated core.
        trained: Names of the layers that learn.
        ram_bytes: Arena, weights that learn, state, application and the stack that was used.
        flash_bytes: Code, tables, and weights as exported.
        instructions: Of a training step, its prediction included; the mean over some samples.
        energy_uj: Estimate, and its lower and upper bound.
    """

    target: str
    trained: tuple[str, ...]
    ram_bytes: int
    flash_bytes: int
    instructions: int
    energy_uj: tuple[float, float, float]


def cost_of(model: bytes, learn: Part, train: str, learning_rate: float, folder: Path) -> Cost:
    """Exports, builds and runs the firmware on an emulated core.

    Args:
        model: The `.tflite` of the network.
        learn: Samples to learn from; the first few are.
        train: What learns: "all" or "last:N".
        learning_rate: On the device.
        folder: To write to; made by this function.
    """
    folder.mkdir()
    (folder / "network.tflite").write_bytes(model)
    samples = folder / "samples.npz"
    np.savez(samples, x=learn.x[:SAMPLES], y=learn.y[:SAMPLES])
    export = export_model(
        folder / "network.tflite", TARGET, folder / "export", ExportOptions(train, learning_rate, samples)
    )
    report = run_project(export.folder, RunOptions(test=samples, learn=samples))
    memory, energy = report.memory, report.step.energy_j
    return Cost(
        target=report.target,
        trained=export.plan.trained,
        ram_bytes=memory.arena + memory.parameters + memory.state + memory.application + memory.stack_used,
        flash_bytes=memory.code + memory.weights_flash,
        instructions=report.cost.step,
        energy_uj=(round(1e6 * energy.value, 1), round(1e6 * energy.low, 1), round(1e6 * energy.high, 1)),
    )
