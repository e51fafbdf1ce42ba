"""A comparison as a table of text and as a picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rct_tflite.energy.paper_model import GemmModel
from rct_tflite.training.comparison import Row

_COLUMNS = ("method", "score %", "bits: mean", "end", "bytes", "of float32", "of QAT", "GEMM", "moving", "ms/step")


@dataclass(frozen=True)
class Summary:
    """The trainings of one method, over its seeds.

    Attributes:
        method: Its name.
        scores: Of each finished training.
        diverged: Number of trainings that diverged.
        average_bits: Mean over weights, epochs and seeds.
        final_bits: Mean over weights and seeds at the end; NaN in float32 and QAT.
        parameter_bytes: Mean over seeds.
        share_of_float32: `parameter_bytes` by those of float32.
        share_of_qat: `parameter_bytes` by those of QAT.
        gemm: Energy of the matrix products, as a share of float32, by the model `bits-product`; None for QAT.
        moving: Bits moved for the weights, as a share of QAT.
        step_ms: Shortest over seeds.
        notes: Different notes of the rows.
    """

    method: str
    scores: tuple[float, ...]
    diverged: int
    average_bits: float
    final_bits: float
    parameter_bytes: float
    share_of_float32: float
    share_of_qat: float
    gemm: float | None
    moving: float | None
    step_ms: float
    notes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean score; NaN if every training diverged."""
        return float(np.mean(self.scores)) if self.scores else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation of the score over seeds; 0 of a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Brings the rows of each method together, methods in the order of the rows."""
    return [_summary([row for row in rows if row.method == name]) for name in dict.fromkeys(row.method for row in rows)]


def _summary(rows: list[Row]) -> Summary:
    scores = tuple(row.score for row in rows if row.score is not None)

    def mean(values: Any) -> float:
        return float(np.mean(list(values)))

    return Summary(
        method=rows[0].method,
        scores=scores,
        diverged=len(rows) - len(scores),
        average_bits=mean(row.measured.average_bits for row in rows),
        final_bits=mean(row.measured.last_bits for row in rows),
        parameter_bytes=mean(row.parameter_bytes for row in rows),
        share_of_float32=mean(row.parameter_bytes / row.float32_bytes for row in rows),
        share_of_qat=mean(row.parameter_bytes / row.qat_bytes for row in rows),
        gemm=_mean_of_known(row.measured.gemm.get(GemmModel.BITS_PRODUCT) for row in rows),
        moving=_mean_of_known(row.measured.moving for row in rows),
        step_ms=min(row.step_ms for row in rows),
        notes=tuple(dict.fromkeys(row.note for row in rows if row.note)),
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def table(rows: Sequence[Row]) -> str:
    """Writes the comparison as text: one line a method, notes below.

    Returns:
        Lines without a newline at the end.
    """
    lines = [_COLUMNS, *(_cells(summary) for summary in summaries(rows))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    text = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(line))
        for line in (list(zip(cells, widths, strict=True)) for cells in lines)
    ]
    notes = [f"{summary.method}: {note}" for summary in summaries(rows) for note in summary.notes]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], *notes])


def _cells(summary: Summary) -> tuple[str, ...]:
    score = f"{summary.mean:.2f} +- {summary.spread:.2f}" if summary.scores else "-"
    return (
        summary.method,
        score + (f" ({summary.diverged} diverged)" if summary.diverged else ""),
        f"{summary.average_bits:.1f}",
        f"{summary.final_bits:.1f}",
        f"{summary.parameter_bytes:,.0f}",
        f"{summary.share_of_float32:.1%}",
        f"{summary.share_of_qat:.1%}",
        "-" if summary.gemm is None else f"{summary.gemm:.1%}",
        "-" if summary.moving is None else f"{summary.moving:.1%}",
        f"{summary.step_ms:.1f}",
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws score against parameter bytes, a point for each training, and the bits of each method.

    Args:
        rows: Of one comparison.
        path: A .png or .svg file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (scores, sizes) = plt.subplots(1, 2, figsize=(9.0, 3.6), sharey=True, layout="constrained")
    methods = summaries(rows)[::-1]
    for height, summary in enumerate(methods):
        scores.plot(summary.scores, [height] * len(summary.scores), "o", color="#999999", markersize=4)
        scores.plot(summary.mean, height, "|", color="#0072b2", markersize=16, markeredgewidth=2.5)
    sizes.barh(range(len(methods)), [summary.parameter_bytes / 1000 for summary in methods], color="#0072b2")
    scores.set_yticks(range(len(methods)), [summary.method for summary in methods])
    scores.set_title("Score, %: trainings and their mean", loc="left", fontsize=11)
    sizes.set_title("Parameters held while training, kB", loc="left", fontsize=11)
    for panel in (scores, sizes):
        panel.grid(axis="x", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    # No date and no version of the drawing library: the same rows give the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
    plt.close(figure)
