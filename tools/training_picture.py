"""Draws how a quantised-only training went: loss, accuracy, bits per layer, underflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Three hues that stay apart for colour-blind readers; a layer keeps its colour in both lower panels.
LAYER_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
TRAIN_COLOUR, VALIDATION_COLOUR = "#999999", "#222222"


def draw_training(history: Mapping[str, Sequence[float]], layers: Sequence[str], path: Path) -> None:
    """Writes the picture.

    Args:
        history: Of `fit()` with an `RCTCallback` and validation data.
        layers: Names of the quantised layers.
        path: A .png or .svg file.
    """
    figure, panels = plt.subplots(2, 2, figsize=(9.0, 6.0), sharex=True, layout="constrained")
    (loss, accuracy), (bits, underflow) = panels
    _pair(loss, history, "loss", "Loss")
    loss.set_yscale("log")
    _pair(accuracy, history, "accuracy", "Accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.legend(loc="lower right", frameon=False)
    _per_layer(bits, history, layers, "bits", "Bits per weight")
    bits.yaxis.set_major_locator(MaxNLocator(integer=True))
    bits.legend(loc="lower right", frameon=False)
    _per_layer(underflow, history, layers, "underflow", "Updates smaller than one step")
    underflow.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for panel in (bits, underflow):
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle("Training with nothing but the quantised weights")
    # No date and no version of the drawing library: the same training gives the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
    plt.close(figure)


def _pair(panel: Any, history: Mapping[str, Sequence[float]], key: str, title: str) -> None:
    epochs = range(1, len(history[key]) + 1)
    panel.plot(epochs, history[key], color=TRAIN_COLOUR, label="training")
    panel.plot(epochs, history[f"val_{key}"], color=VALIDATION_COLOUR, label="validation")
    _style(panel, title)


def _per_layer(panel: Any, history: Mapping[str, Sequence[float]], layers: Sequence[str], key: str, title: str) -> None:
    for index, layer in enumerate(layers):
        values = history[f"{key}/{layer}"]
        style = "steps-post" if key == "bits" else "default"
        colour = LAYER_COLOURS[index % len(LAYER_COLOURS)]
        panel.plot(range(1, len(values) + 1), values, color=colour, label=layer, drawstyle=style, alpha=0.9)
    _style(panel, title)


def _style(panel: Any, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=11)
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.spines[["top", "right"]].set_visible(False)
