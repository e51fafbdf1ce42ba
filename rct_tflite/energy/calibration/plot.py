"""Draws measured against predicted."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rct_tflite.energy.calibration.calibrate import Calibration
from rct_tflite.energy.calibration.fit import Point
from rct_tflite.errors import OutputFolderError

SUFFIXES = (".png", ".svg")
FITTED_COLOUR, LEFT_OUT_COLOUR, LINE_COLOUR = "#0072b2", "#d55e00", "#999999"

Value = Callable[[Point], tuple[float, float, float]]
"""Measured, predicted, predicted without the point."""


def draw_calibration(calibration: Calibration, path: Path) -> None:
    """Writes the picture: time and power of each point. The same calibration gives the same bytes.

    Args:
        calibration: What was found.
        path: A .png or .svg file.

    Raises:
        OutputFolderError: If the file is of another kind, or cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise OutputFolderError(
            f"Cannot draw a picture of this kind. Expected a name that ends in {' or '.join(SUFFIXES)}. "
            f"Received: {str(path)!r}."
        )
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels: tuple[tuple[str, Value], ...] = (
        ("Time of one iteration, us", lambda p: _scaled(1e6, p.seconds, p.seconds_predicted, p.seconds_left_out)),
        ("Power, mW", lambda p: _scaled(1e3, p.power_w, p.power_predicted, p.power_left_out)),
    )
    with mpl.rc_context({"svg.hashsalt": "rct-tflite"}):
        figure = Figure(figsize=(9.0, 4.5), layout="constrained")
        time_axis, power_axis = figure.subplots(1, 2)
        time_axis.loglog()
        for axis, (title, value) in zip((time_axis, power_axis), panels, strict=True):
            _draw(axis, title, [(point.name, *value(point)) for point in calibration.points])
        metadata = {"Software": None} if path.suffix == ".png" else {"Date": None}
        try:
            figure.savefig(path, dpi=120, metadata=metadata)
        except OSError as error:
            raise OutputFolderError(f"Cannot write the picture {str(path)!r}: {error.strerror}.") from error


def _scaled(factor: float, *values: float) -> tuple[float, float, float]:
    measured, predicted, left_out = (factor * value for value in values)
    return measured, predicted, left_out


def _draw(axis: Any, title: str, points: list[tuple[str, float, float, float]]) -> None:
    axis.set_title(title)
    axis.set_xlabel("predicted")
    axis.set_ylabel("measured")
    known = [point for point in points if not any(math.isnan(value) for value in point[1:])]
    if not known:
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes)
        return
    names, measured, predicted, left_out = zip(*known, strict=True)
    ends = (min(*measured, *predicted), max(*measured, *predicted))
    axis.plot(ends, ends, color=LINE_COLOUR, linewidth=1)
    axis.scatter(predicted, measured, color=FITTED_COLOUR, s=18, label="fit", zorder=3)
    axis.scatter(left_out, measured, edgecolors=LEFT_OUT_COLOUR, facecolors="none", s=36, label="left out")
    for number, (name, x, y) in enumerate(zip(names, predicted, measured, strict=True)):
        place = (5, -9) if number % 2 else (-5, 5)  # neighbours, which may be equal, to either side
        side = "left" if number % 2 else "right"
        axis.annotate(name, (x, y), fontsize=6, xytext=place, textcoords="offset points", ha=side)
    axis.margins(0.15)
    axis.legend(frameon=False)
