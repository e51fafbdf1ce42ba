"""Options of `rct-tflite export` that say what learns, and what a search for it found."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rct_tflite.cli.output import Number, Size
from rct_tflite.planning.search import Candidate, Limits, Search
from rct_tflite.planning.selection import told

_ABOVE_0 = Number(0, min_open=True)
_OPTIONS = (
    click.option(
        "--train",
        default="all",
        show_default=True,
        help="What learns on the device: all, last:N layers, bias, none, auto, or names of layers with commas between. "
        "NAME:bias are a layer's biases, NAME:K or NAME:0.25 also the weights of some of its output channels.",
    ),
    click.option(
        "--samples",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Labelled samples, .npz (x, y), that tell which layers and channels are worth learning.",
    ),
    click.option(
        "--weight-bits",
        metavar="BITS",
        help="Give the layers that learn up to 16 bits, so that smaller updates count; their weights are worth the "
        "same. NAME:BITS,... for some of them. Inference stays that of 8 bits.  [default: as they are]",
    ),
    click.option(
        "--ram",
        type=Size(),
        help="RAM that may be taken, stack included; 96K are 98,304 bytes.  [default: all that the target has]",
    ),
    click.option("--flash", type=Size(), help="With --train auto: flash; the build checks it."),
    click.option("--time-per-step", type=_ABOVE_0, metavar="MS", help="With --train auto: estimated."),
    click.option("--energy-per-step", type=_ABOVE_0, metavar="UJ", help="With --train auto: estimated."),
)


@dataclass(frozen=True)
class UpdateRequest:
    """What the user said of what learns; see `ExportOptions`."""

    train: str
    samples: Path | None
    limits: Limits
    weight_bits: str | None


def update_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command that takes them as one `update`."""

    @functools.wraps(command)
    def wrapped(
        train: str,
        samples: Path | None,
        weight_bits: str | None,
        ram: int | None,
        flash: int | None,
        time_per_step: float | None,
        energy_per_step: float | None,
        **others: Any,
    ) -> None:
        time_s = None if time_per_step is None else 1e-3 * time_per_step
        energy_j = None if energy_per_step is None else 1e-6 * energy_per_step
        command(update=UpdateRequest(train, samples, Limits(ram, flash, time_s, energy_j), weight_bits), **others)

    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), wrapped)


def print_search(search: Search) -> None:
    """Prints the table of what was tried."""
    click.echo(f"  searched  for the {search.criterion}")
    foretold = f"{'learnt':>9} {'held out':>9} " if search.best.forecast else ""
    click.echo(f"    {'':<24} {foretold}{'gain':>9} {'RAM, B':>8} {'ms':>8} {'uJ':>8}  learns")
    for candidate in search.candidates:
        mark = "*" if candidate is search.best else " " if candidate.fits else "-"
        cost = candidate.cost
        click.echo(
            f"  {mark} {_short(candidate.name):<24} {_promised(candidate)} {cost.ram:8} {1e3 * cost.time_s:8.3g} "
            f"{1e6 * cost.energy_j:8.3g}  {told(candidate.plan)}"
        )
    step = search.counts.step
    low, high = (end / step.value - 1.0 for end in (step.low, step.high))
    click.echo(
        "    * is taken, - does not fit; time and energy are estimated from what kernels took on the emulated core: "
        f"its instructions within {low:.0%} to {high:+.0%}"
    )
    if search.counts.guessed:
        click.echo(f"    never counted, and so guessed: {', '.join(search.counts.guessed)}")


def show_progress(done: int, of: int) -> None:
    """Shows on a terminal's stderr how many samples a search has looked at: a line that is written anew."""
    if sys.stderr.isatty():
        click.echo(f"\rsample {done} of {of} ", nl=done == of, err=True)


def _short(name: str) -> str:
    """Returns a name that fits its column: layers of converted models have long ones, which differ at their ends.

    Example:
        >>> _short("from functional_1_re_lu_1_Relu_conv2d_1")
        'from ..._1_Relu_conv2d_1'
    """
    width = 24
    return name if len(name) <= width else f"{name[:5]}...{name[8 - width :]}"


def _promised(candidate: Candidate) -> str:
    forecast = candidate.forecast
    losses = f"{forecast.learnt:9.3g} {forecast.held_out:9.3g} " if forecast else ""
    return f"{losses}{candidate.gain:9.3g}"
