"""The picture of a quantised-only training, drawn from its log."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rct_tflite.errors import OutputFolderError
from rct_tflite.export.energy_picture import EnergyCurve, draw_energy_curve, energy_curve
from rct_tflite.spec.run_log import (
    BITS,
    EPOCH,
    GAVG,
    GEMM_ENERGY,
    MOVED_BITS,
    PARAMETER_BYTES,
    SATURATED,
    T_MAX,
    T_MIN,
    UNDERFLOW,
    RunLog,
    column,
)

SUFFIXES = (".png", ".svg")
CURVE_HEIGHT = 1.15
"""Of accuracy against energy, in heights of the other panels."""

# Hues that stay apart for colour-blind readers; a weight keeps its colour in all panels.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
TRAIN_COLOUR, VALIDATION_COLOUR, LIMIT_COLOUR = "#999999", "#222222", "#bbbbbb"

Panel = tuple[str, Callable[[Any], None]]
"""A title, and what draws into the axes."""


def draw_run(run: RunLog, path: Path, title: str = "Training with nothing but the quantised weights") -> None:
    """Writes the picture; the same log gives the same bytes.

    Args:
        run: The log. What it lacks is left out.
        path: A .png or .svg file.
        title: Above the panels.

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
    from matplotlib.ticker import MaxNLocator

    panels, curve = _Panels(run).all(), energy_curve(run)
    rows = max(math.ceil(len(panels) / 2), 1)
    height = rows + (CURVE_HEIGHT if curve else 0.0)
    with mpl.rc_context({"svg.hashsalt": "rct-tflite"}):
        figure = Figure(figsize=(9.0, 3.0 * height), layout="constrained")
        grid = figure.add_gridspec(
            rows + (1 if curve else 0), 2, height_ratios=[1.0] * rows + [CURVE_HEIGHT] * bool(curve)
        )
        axes: list[Any] = []
        for place, (name, draw) in enumerate(panels):
            axes.append(figure.add_subplot(grid[place // 2, place % 2], sharex=axes[0] if axes else None))
            draw(axes[-1])
            _style(axes[-1], name)
            axes[-1].xaxis.set_tick_params(labelbottom=place >= len(panels) - 2)
        for axis in axes[-2:]:
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(run.weights) > len(COLOURS):
            _legend_of_many(figure, axes, run)
        if curve:
            axis = figure.add_subplot(grid[rows, :])
            draw_energy_curve(figure, axis, curve)
            _style(axis, f"{_name_of(curve)} for its energy, by epoch")
        figure.suptitle(title)
        # No date and no version of the drawing library.
        metadata = {"Software": None} if path.suffix == ".png" else {"Date": None}
        try:
            figure.savefig(path, dpi=120, metadata=metadata)
        except OSError as error:
            raise OutputFolderError(f"Cannot write the picture {str(path)!r}: {error.strerror}.") from error


class _Panels:
    """The panels that a log has numbers for."""

    def __init__(self, run: RunLog):
        self.run = run
        self.epochs = run.values(EPOCH)

    def all(self) -> list[Panel]:
        """Returns them in the order of reading."""
        panels: list[Panel] = [("Loss", self._loss)] if "loss" in self.run.columns else []
        if self.run.metrics:
            name = next((name for name in self.run.metrics if "acc" in name), self.run.metrics[0])
            panels.append((name.replace("_", " ").capitalize(), lambda axis: self._metric(axis, name)))
        if self.run.weights:
            panels += [
                ("Bits per weight", self._bits),
                ("Gavg, and the band where bits stay", self._gavg),
                ("Updates smaller than one step", lambda axis: self._share(axis, UNDERFLOW)),
                ("Weights at the end of their range", lambda axis: self._share(axis, SATURATED)),
            ]
        if PARAMETER_BYTES in self.run.columns:
            panels.append(("Parameters, kB", self._bytes))
        if self.run.gemm_models or column(MOVED_BITS, 4) in self.run.columns:
            panels.append(("The paper's energy models, so far", self._energy))
        return panels

    def _loss(self, axis: Any) -> None:
        self._pair(axis, "loss")
        if all(not value <= 0.0 for value in (*self.run.values("loss"), *self.run.values("val_loss"))):
            axis.set_yscale("log")

    def _metric(self, axis: Any, name: str) -> None:
        self._pair(axis, name)
        if "acc" in name:
            axis.yaxis.set_major_formatter(_percent())
        axis.legend(frameon=False)

    def _pair(self, axis: Any, name: str) -> None:
        axis.plot(self.epochs, self.run.values(name), color=TRAIN_COLOUR, label="training")
        if f"val_{name}" in self.run.columns:
            axis.plot(self.epochs, self.run.values(f"val_{name}"), color=VALIDATION_COLOUR, label="validation")

    def _bits(self, axis: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        self._per_weight(axis, BITS, drawstyle="steps-post")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(self.run.weights) <= len(COLOURS):
            axis.legend(loc="lower right", frameon=False)

    def _gavg(self, axis: Any) -> None:
        for what in (T_MIN, T_MAX):
            for values in sorted({tuple(self.run.values(column(what, name))) for name in self.run.weights}):
                axis.plot(self.epochs, values, color=LIMIT_COLOUR, linestyle="--", linewidth=1.0)
        self._per_weight(axis, GAVG)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    def _share(self, axis: Any, what: str) -> None:
        self._per_weight(axis, what)
        axis.yaxis.set_major_formatter(_percent())

    def _per_weight(self, axis: Any, what: str, drawstyle: str = "default") -> None:
        for name, colour in zip(self.run.weights, _colours(len(self.run.weights)), strict=True):
            values = self.run.values(column(what, name))
            axis.plot(self.epochs, values, color=colour, label=name, drawstyle=drawstyle, alpha=0.9)

    def _bytes(self, axis: Any) -> None:
        values = [value / 1000 for value in self.run.values(PARAMETER_BYTES)]
        axis.plot(self.epochs, values, color=VALIDATION_COLOUR, drawstyle="steps-post")
        axis.set_ylim(0.0, 1.1 * max((value for value in values if value > 0.0), default=1.0))

    def _energy(self, axis: Any) -> None:
        lines = [(column(GEMM_ENERGY, model), f"GEMM, {model}, of float32") for model in self.run.gemm_models]
        lines.append((column(MOVED_BITS, 4), "moved bits, of QAT"))
        for (name, label), colour in zip(lines, _colours(len(lines)), strict=True):
            axis.plot(self.epochs, self.run.values(name), color=colour, label=label)
        axis.set_ylim(bottom=0.0)
        axis.yaxis.set_major_formatter(_percent())
        axis.legend(frameon=False, fontsize=8)


def _colours(count: int) -> Iterable[Any]:
    """Returns the hues, or for many lines a scale from dark to light."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    import matplotlib as mpl

    scale = mpl.colormaps["viridis"]
    return [scale(0.95 * index / (count - 1)) for index in range(count)]


def _percent() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda share, _: f"{100 * share:.3g}%")


def _legend_of_many(figure: Any, axes: Iterable[Any], run: RunLog) -> None:
    lines = next(axis.get_lines() for axis in axes if axis.get_title(loc="left") == "Bits per weight")
    figure.legend(lines, run.weights, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _name_of(curve: EnergyCurve) -> str:
    return curve.metric.removeprefix("val_").replace("_", " ").capitalize()


def _style(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=11)
    axis.grid(axis="y", color="#dddddd", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
