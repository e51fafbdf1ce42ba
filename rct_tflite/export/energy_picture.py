"""Bits against energy against accuracy: what a quantised-only training got for the energy of the papers' model."""

import math
from dataclasses import dataclass
from typing import Any

from rct_tflite.spec.run_log import GEMM_ENERGY, RunLog, column

LINE_COLOUR = "#999999"
COLOUR_MAP = "viridis"
MOST_LABELLED = 12
"""Epochs of a longer run are labelled every few."""


@dataclass(frozen=True)
class EnergyCurve:
    """One point an epoch; what the log lacks is left out.

    Attributes:
        metric: What the accuracy is called in the log.
        model: Of the papers' energy.
        epochs: Their numbers.
        energy: So far, as a share of what the whole training would have taken in float32.
        bits: Mean over the weights.
        accuracy: Of the validation, where there is one.
    """

    metric: str
    model: str
    epochs: tuple[int, ...]
    energy: tuple[float, ...]
    bits: tuple[float, ...]
    accuracy: tuple[float, ...]


def energy_curve(run: RunLog) -> EnergyCurve | None:
    """Reads the curve from a log.

    The log holds the energy so far as a share of float32's so far. Each step is worth the same in float32, so that
    the share times the steps is a share of the whole.

    Returns:
        The curve; None where the log lacks steps, bits, an energy model or a metric.

    Example:
        >>> row = {"epoch": 1, "steps": 10, "bits": 6.0, "accuracy": 0.5, "gemm_energy/bits-product": 0.1}
        >>> curve = energy_curve(RunLog((row, {**row, "epoch": 2, "steps": 20, "gemm_energy/bits-product": 0.2})))
        >>> curve.energy
        (0.05, 0.2)
    """
    metric = next((name for name in run.metrics if "acc" in name), next(iter(run.metrics), None))
    if metric is None or not run.gemm_models:
        return None
    model = run.gemm_models[0]
    told = f"val_{metric}" if f"val_{metric}" in run.columns else metric
    names = ("epoch", "steps", "bits", column(GEMM_ENERGY, model), told)
    rows = [row for row in zip(*(run.values(name) for name in names), strict=True) if all(map(math.isfinite, row))]
    if not rows or not rows[-1][1] > 0:
        return None
    whole = rows[-1][1]
    return EnergyCurve(
        metric=told,
        model=model,
        epochs=tuple(int(row[0]) for row in rows),
        energy=tuple(row[3] * row[1] / whole for row in rows),
        bits=tuple(row[2] for row in rows),
        accuracy=tuple(row[4] for row in rows),
    )


def draw_energy_curve(figure: Any, axis: Any, curve: EnergyCurve) -> None:
    """Draws the curve: energy to the right, accuracy upwards, the average bits as colour."""
    axis.plot(curve.energy, curve.accuracy, color=LINE_COLOUR, linewidth=1.0, zorder=1)
    low, high = min(curve.bits), max(curve.bits)
    spread = max(high - low, 0.5)  # one bit-width all through gets one colour, not the noise of its last digit
    points = axis.scatter(
        curve.energy,
        curve.accuracy,
        c=curve.bits,
        cmap=COLOUR_MAP,
        vmin=(low + high - spread) / 2,
        vmax=(low + high + spread) / 2,
        s=28,
        zorder=2,
    )
    bar = figure.colorbar(points, ax=axis, pad=0.01)
    bar.set_label("average bits")
    bar.outline.set_visible(False)
    every = math.ceil(len(curve.epochs) / MOST_LABELLED)
    for place in range(0, len(curve.epochs), every):
        axis.annotate(
            str(curve.epochs[place]),
            (curve.energy[place], curve.accuracy[place]),
            xytext=(0, -12),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color="#666666",
        )
    axis.set_xlim(left=0.0)
    axis.margins(y=0.2)
    axis.xaxis.set_major_formatter(_percent)
    if "acc" in curve.metric:
        axis.yaxis.set_major_formatter(_percent)
    axis.set_xlabel(f"energy of the GEMMs so far, of the whole training in float32 (the papers' model, {curve.model})")
    axis.set_ylabel(curve.metric.removeprefix("val_").replace("_", " "))


def _percent(share: float, _: object) -> str:
    return f"{100 * share:.3g}%"
