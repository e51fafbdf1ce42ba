"""Options of `rct-tflite export` that change the training step."""

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
    click.option("--clip-norm", type=float, help="Largest L2 norm of the loss' gradient at the outputs."),
)


def step_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to a command that takes them as one `step`."""

    @functools.wraps(command)
    def wrapped(class_weights: str | None, schedule: str | None, clip_norm: float | None, **others: Any) -> None:
        command(step=StepRequest(class_weights, schedule, clip_norm), **others)

    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), wrapped)
