"""What is written down of a training after each epoch: the row of its log, and the energy of the papers' models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rct_tflite.energy.paper_model import LayerWork, average_bits, shares
from rct_tflite.spec.run_log import (
    EPOCH,
    GEMM_ENERGY,
    MOVED_BITS,
    PARAMETER_BYTES,
    STATISTICS,
    T_MAX,
    T_MIN,
    Row,
    Value,
    column,
)
from rct_tflite.training.memory import parameter_bytes
from rct_tflite.training.policy import WeightState

RECURRENT = "recurrent_kernel"


def work_of(weights: Sequence[Any], macs: Mapping[int, float]) -> list[LayerWork]:
    """Returns what the integer weights of a model have to do in a training step, at their present bit-widths.

    Errors are not sent below the first weight that trains, but for the state of a recurrent layer.

    Args:
        weights: The integer weights, in the order of their first use.
        macs: Of `macs_per_sample()`; a weight that is missing computes nothing.
    """
    trains_below, work = False, []
    for weight in weights:
        trains = bool(weight.trainable)
        layer = LayerWork(
            bits=number_of(weight.bits),
            weight_count=weight.weight_count,
            macs=macs.get(id(weight), 0.0),
            input_gradient=trains_below or (trains and weight.name == RECURRENT),
            weight_gradient=trains,
        )
        work.append(layer)
        trains_below = trains_below or trains
    return work


@dataclass
class EnergyMeter:
    """Adds up the papers' energies over training steps whose bit-widths differ.

    Attributes:
        steps: Training steps that were counted.
        totals: Column of the log to the sum over the steps of its share.
    """

    steps: int = 0
    totals: dict[str, float] = field(default_factory=dict)

    def resume(self, row: Mapping[str, Value]) -> None:
        """Goes on from the last row of an earlier log."""
        self.steps = int(row.get("steps") or 0)
        prefixes = (f"{GEMM_ENERGY}/", f"{MOVED_BITS}/")
        self.totals = {
            name: math.nan if share is None else share * self.steps
            for name, share in row.items()
            if name.startswith(prefixes)
        }

    def add(self, steps: int, work: Sequence[LayerWork]) -> None:
        """Counts steps that were done at the same bit-widths."""
        if steps < 1:
            return
        step = shares(work)
        parts = {column(GEMM_ENERGY, model): share for model, share in step.gemm_of_float32.items()}
        parts |= {column(MOVED_BITS, 3): step.moved_3_of_qat, column(MOVED_BITS, 4): step.moved_4_of_qat}
        for name, share in parts.items():
            self.totals[name] = self.totals.get(name, 0.0) + steps * share
        self.steps += steps

    def columns(self) -> dict[str, float]:
        """Returns the energies so far, as shares of those of the baseline over the same steps."""
        return {name: total / self.steps for name, total in self.totals.items() if not math.isnan(total)}


def row_of(model: Any, states: Sequence[WeightState], epoch: int, logs: Row, meter: EnergyMeter) -> dict[str, Any]:
    """Returns the row of one epoch; the columns are those of `spec/run_log.py`.

    Args:
        model: The `RCTModel`.
        states: Of its weights, in their order.
        epoch: 1 for the first.
        logs: Of Keras.
        meter: The energies so far.
    """
    size = parameter_bytes(model)
    weights = model.integer_weights
    row: dict[str, Any] = {
        EPOCH: epoch,
        "steps": int(number_of(model.optimizer.iterations)),
        "learning_rate": float(number_of(model.optimizer.learning_rate)),
    }
    row |= {name: float(value) for name, value in logs.items()}
    row["bits"] = average_bits(work_of(weights, {}))
    row[PARAMETER_BYTES] = size.rct
    for other in ("float32", "qat", "optimizer"):
        row[column(PARAMETER_BYTES, other)] = getattr(size, other)
    row |= meter.columns()
    for weight, state in zip(weights, states, strict=True):
        row |= {column(what, weight.label): number_of(getattr(weight, what)) for what in STATISTICS}
        row[column(T_MIN, weight.label)] = state.thresholds.t_min
        row[column(T_MAX, weight.label)] = state.thresholds.t_max
    return row


def number_of(variable: Any) -> Any:
    """Returns the value of a scalar variable as a plain number."""
    return variable.numpy().item()  # of several replicas, the first one's
