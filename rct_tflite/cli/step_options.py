"""Options of `rct-tflite export` that change the training step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from rct_tflite.planning.options import StepRequest

_OPTIONS = (
    click.option("--class-weights", metavar="W,W,...", help="Weight of each class in the loss, 1/256 to 255."),
    click.option(
        "--rate-schedule",
        "schedule",
        metavar="WHEN",
        help="Rate over the steps: halve:STEPS, cosine:STEPS, STEP=FACTOR,..., or manual (your program sets it).",
    ),
    click.option(
        "--accumulate", type=int, default=1, help="Samples whose gradients are summed for one update.  [default: 1]"
    ),
    click.option("--momentum", type=float, default=0.0, help="Momentum, held in 8 bits a weight.  [default: 0]"),
    click.option("--evaluate", is_flag=True, help="The device counts confusions on held samples, and stops early."),
    click.option("--keep-best", is_flag=True, help="It also keeps the best weights in RAM, to roll back to."),
    click.option(
        "--replay", type=int, metavar="SLOTS", help="It holds this many samples, balanced by class, to replay."
    ),
    click.option("--clip-norm", type=float, help="Largest L2 norm of the loss' gradient at the outputs."),
)


def step_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command that takes them as one `step`."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        step = StepRequest(**{field.name: values.pop(field.name) for field in dataclasses.fields(StepRequest)})
        command(step=step, **values)

    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), wrapped)
