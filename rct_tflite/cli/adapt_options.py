"""Options of `rct-tflite export` that let bit-widths follow the training on the device."""

import functools
from collections.abc import Callable
from typing import Any

import click

from rct_tflite.errors import RecipeError
from rct_tflite.planning.adaptation import DEFAULT_INTERVAL, AdaptationOptions

_OPTIONS = {
    "adapt_bits": click.option(
        "--adapt-bits", metavar="MIN:MAX", help="Let bit-widths follow the training on the device, within these."
    ),
    "adapt_layers": click.option(
        "--adapt-layers", metavar="NAMES", help="Layers whose width may change, with commas.  [default: all that learn]"
    ),
    "budget": click.option(
        "--budget", type=int, metavar="BYTES", help="Most bytes of the packed weights that learn.  [default: MAX bits]"
    ),
    "interval": click.option(
        "--interval", type=int, help=f"Training steps between two decisions.  [default: {DEFAULT_INTERVAL}]"
    ),
    "t_min": click.option(
        "--t-min",
        type=float,
        help="Gavg below which a layer gets a bit.  [default: 0.3 / learning rate; 4 where updates truncate]",
    ),
    "t_max": click.option("--t-max", type=float, help="Gavg above which it gives one back.  [default: 4 * --t-min]"),
}


def adaptation_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command that takes them as one `adaptation`, None where none is given."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in _OPTIONS}
        command(adaptation=_read({name: value for name, value in chosen.items() if value is not None}), **values)

    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS.values()), wrapped)


def _read(given: dict[str, Any]) -> AdaptationOptions | None:
    if not given:
        return None
    if "adapt_bits" not in given:
        options = ", ".join(f"--{name}".replace("_", "-") for name in given)
        raise RecipeError(
            "These options say how bit-widths follow the training, but none may change. Expected --adapt-bits MIN:MAX "
            f"beside them. Received: {options}. Try --adapt-bits 4:8."
        )
    names = given.pop("adapt_layers", "").split(",")
    layers = tuple(name.strip() for name in names if name.strip())
    return AdaptationOptions(given.pop("adapt_bits"), layers, given.pop("budget", None), **given)
