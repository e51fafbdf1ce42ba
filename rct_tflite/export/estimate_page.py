"""One HTML page of an estimate: where the energy goes, and where the bytes lie. Nothing is loaded from elsewhere."""

import html
import io
from collections.abc import Sequence
from pathlib import Path

from rct_tflite.energy.estimate import Interval, Work, estimate_work
from rct_tflite.errors import DataError, OutputFolderError
from rct_tflite.export.energy_picture import draw_energy_curve, energy_curve
from rct_tflite.firmware.estimation import ProjectEstimate
from rct_tflite.planning.memory_map import MemoryUse
from rct_tflite.spec.run_log import GEMM_ENERGY, RunLog, column
from rct_tflite.spec.target import OP_CLASSES

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
FREE_COLOUR = "#dddddd"
MICRO = 1e6
KIB = 1024


def write_estimate_page(
    result: ProjectEstimate, path: Path, rows: Sequence[tuple[str, str]], run: RunLog | None = None
) -> None:
    """Writes the page; the same estimate gives the same bytes.

    Args:
        result: The estimate.
        path: An .html file.
        rows: (what, figure) of the table, as the command prints them.
        run: Log of the training that the network comes from, if its bits, energy and accuracy are to be drawn.

    Raises:
        DataError: If the log holds no energy, or no metric.
        OutputFolderError: If the file cannot be written.
    """
    training = "" if run is None else f"<h2>What the training got for its energy</h2>\n{_training_picture(run)}\n"
    table = "\n".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
    title = f"Estimate for {html.escape(result.target.name)}"
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
th {{ text-align: left; padding-right: 2em; }}
svg {{ max-width: 100%; height: auto; }}</style></head>
<body><h1>{title}</h1>
<p>{html.escape(result.target.description)}. Instructions are {html.escape(result.instructions.source)}; time and
energy are estimates with their intervals.</p>
<table>
{table}
</table>
<h2>Where the energy goes</h2>
{_energy_picture(result)}
<h2>Where the bytes lie</h2>
{_memory_picture((result.memory.flash, result.memory.ram))}
{training}</body></html>
"""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputFolderError(f"Cannot write the page {str(path)!r}: {error.strerror}. Choose another.") from error


def _energy_picture(result: ProjectEstimate) -> str:
    """Draws a bar for each phase, cut by op class, with the interval of the phase."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 2.4), layout="constrained")
    axis = figure.subplots()
    names = [phase.name for phase in result.phases]
    lefts = [0.0] * len(names)
    for colour, op_class in zip(COLOURS, OP_CLASSES, strict=True):
        widths = [
            estimate_work(result.target, Work(((op_class, dict(phase.classes).get(op_class, 0)),))).energy_j.value
            * MICRO
            for phase in result.phases
        ]
        axis.barh(names, widths, left=lefts, color=colour, label=op_class)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axis.errorbar(lefts, names, xerr=_errors([p.cost.energy_j for p in result.phases]), fmt="none", ecolor="#222222")
    axis.invert_yaxis()
    axis.set_xlabel("energy (uJ)")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return _svg(figure)


def _errors(intervals: Sequence[Interval]) -> tuple[list[float], list[float]]:
    below = [(interval.value - interval.low) * MICRO for interval in intervals]
    above = [(interval.high - interval.value) * MICRO for interval in intervals]
    return below, above


def _memory_picture(uses: Sequence[MemoryUse]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 2.6), layout="constrained")
    for axis, use in zip(figure.subplots(len(uses), 1), uses, strict=True):
        left = 0.0
        for colour, piece in zip(COLOURS, use.pieces, strict=False):
            axis.barh([use.name], [piece.size / KIB], left=left, color=colour, label=piece.name)
            left += piece.size / KIB
        if use.free > 0:
            axis.barh([use.name], [use.free / KIB], left=left, color=FREE_COLOUR, label="free")
        axis.axvline(use.size / KIB, color="#222222")
        axis.set_xlabel("KiB")
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.2), frameon=False, fontsize="small")
    return _svg(figure)


def _training_picture(run: RunLog) -> str:
    """Draws bits against energy against accuracy, by the papers' model."""
    from matplotlib.figure import Figure

    curve = energy_curve(run)
    if curve is None:
        raise DataError(
            "The training's log tells no energy. Expected the columns steps, bits, a metric and "
            f"{column(GEMM_ENERGY, '...')}, as rct.RCTCallback(log=...) writes them. Received: {[*run.columns]}. "
            "Train with metrics=['accuracy'], or leave out --run."
        )
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    axis = figure.subplots()
    draw_energy_curve(figure, axis, curve)
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _svg(figure: object) -> str:
    """Returns the picture as text, without date and without its XML head."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "rct-tflite"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
