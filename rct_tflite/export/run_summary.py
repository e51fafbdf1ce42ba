"""What came out of a quantised-only training, read from its log."""

from collections.abc import Mapping
from dataclasses import dataclass

from rct_tflite.spec.run_log import (
    BITS,
    EPOCH,
    GAVG,
    GEMM_ENERGY,
    MOVED_BITS,
    OWN,
    PARAMETER_BYTES,
    SATURATED,
    T_MAX,
    T_MIN,
    UNDERFLOW,
    RunLog,
    Value,
    column,
)


@dataclass(frozen=True)
class WeightSummary:
    """One weight tensor after the last epoch; None for what the log lacks.

    Attributes:
        name: Of the weight.
        first_bits: Bit-width after the first epoch.
        bits: Bit-width after the last one.
        gavg: Running mean of `abs(gradient) / scale`.
        t_min: Below this Gavg the weight gets a bit.
        t_max: Above it, it gives one back.
        underflow: Share of the nonzero gradients that moved no integer.
        saturated: Share of the integers at either end of the range.
    """

    name: str
    first_bits: Value
    bits: Value
    gavg: Value
    t_min: Value
    t_max: Value
    underflow: Value
    saturated: Value


@dataclass(frozen=True)
class RunSummary:
    """A training after its last epoch; None for what the log lacks.

    Attributes:
        epochs: Number of the last epoch.
        steps: Training steps.
        learning_rate: At the end.
        logs: Losses and metrics of Keras.
        bits: Mean over the weights.
        parameter_bytes: Of all parameters, weights packed.
        float32_bytes: The same in float32.
        qat_bytes: The same at 8 + 32 bits a weight.
        optimizer_bytes: Of the momentum.
        gemm_energy: Model of the papers to the energy of the whole training's GEMMs, as a share of float32's.
        moved_bits: Accesses in a step ("3", "4") to the bits moved in the whole training, as a share of QAT's.
        weights: Each quantised weight.
    """

    epochs: int
    steps: Value
    learning_rate: Value
    logs: Mapping[str, Value]
    bits: Value
    parameter_bytes: Value
    float32_bytes: Value
    qat_bytes: Value
    optimizer_bytes: Value
    gemm_energy: Mapping[str, Value]
    moved_bits: Mapping[str, Value]
    weights: tuple[WeightSummary, ...]


def summarize(run: RunLog) -> RunSummary:
    """Reads the result of a training from its log.

    Args:
        run: The log, of at least one epoch.

    Example:
        >>> row = {"epoch": 1, "loss": 0.5, "bits": 6.0, "bits/dense": 6}
        >>> summary = summarize(RunLog((row, {**row, "epoch": 2, "loss": 0.25, "bits/dense": 8})))
        >>> summary.logs, summary.weights[0].first_bits, summary.weights[0].bits
        ({'loss': 0.25}, 6, 8)
    """
    first, last = run.rows[0], run.rows[-1]
    moved = {accesses: last.get(column(MOVED_BITS, accesses)) for accesses in ("3", "4")}
    return RunSummary(
        epochs=int(last[EPOCH] or 0),
        steps=last.get("steps"),
        learning_rate=last.get("learning_rate"),
        logs={name: last.get(name) for name in run.columns if "/" not in name and name not in OWN},
        bits=last.get(BITS),
        parameter_bytes=last.get(PARAMETER_BYTES),
        float32_bytes=last.get(column(PARAMETER_BYTES, "float32")),
        qat_bytes=last.get(column(PARAMETER_BYTES, "qat")),
        optimizer_bytes=last.get(column(PARAMETER_BYTES, "optimizer")),
        gemm_energy={model: last.get(column(GEMM_ENERGY, model)) for model in run.gemm_models},
        moved_bits={accesses: share for accesses, share in moved.items() if share is not None},
        weights=tuple(_weight(first, last, name) for name in run.weights),
    )


def _weight(first: Mapping[str, Value], last: Mapping[str, Value], name: str) -> WeightSummary:
    return WeightSummary(
        name,
        first.get(column(BITS, name)),
        *(last.get(column(what, name)) for what in (BITS, GAVG, T_MIN, T_MAX, UNDERFLOW, SATURATED)),
    )
