"""Options of the training step, from the words of the command line."""

import itertools
import math
from dataclasses import dataclass

from rct_tflite.errors import RecipeError
from rct_tflite.spec.aid_options import AidOptions
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.step_options import (
    DECAY_BITS,
    RATE_LIMIT,
    RATE_ONE,
    WEIGHT_LIMIT,
    WEIGHT_ONE,
    RatePoint,
    StepOptions,
)
from rct_tflite.spec.training_plan import Loss

HALVINGS = 8
COSINE_PIECES = 32
LARGEST_STEP = 2**32 - 1
LARGEST_NORM = 1e6
MOST_SLOTS = 2**16 - 1
MOST_SAMPLES = 2**16 - 1
MOMENTUM_ONE = 1 << DECAY_BITS
_SCHEDULES = "'manual', 'halve:STEPS', 'cosine:STEPS', or 'STEP=FACTOR,STEP=FACTOR,...' with rising steps"


@dataclass(frozen=True)
class StepRequest:
    """Options of the training step in the user's words; None where nothing was asked for.

    Attributes:
        class_weights: Numbers with commas, one for each output.
        schedule: Of the learning rate: `manual`, `halve:STEPS`, `cosine:STEPS` or `STEP=FACTOR,...`.
        clip_norm: Largest L2 norm of the loss' gradient at the tensor that the loss reads.
        accumulate: Samples whose gradients are summed for one update.
        momentum: 0 to below 1.
        evaluate: Whether the device counts what is right, and stops early.
        keep_best: Whether it also keeps the best weights.
        replay: Samples that it holds to replay.
    """

    class_weights: str | None = None
    schedule: str | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    momentum: float = 0.0
    evaluate: bool = False
    keep_best: bool = False
    replay: int | None = None


NO_REQUEST = StepRequest()


def step_options(graph: Graph, request: StepRequest) -> StepOptions:
    """Reads the options of a training step.

    Args:
        graph: The network.
        request: What the user asked for.

    Raises:
        RecipeError: If one of them cannot be read, or is out of range.
    """
    norm, weights, outputs = request.clip_norm, request.class_weights, graph.tensors[graph.output].size
    if norm is not None and not 1.0 / LARGEST_NORM <= norm <= LARGEST_NORM:
        raise RecipeError(
            f"Cannot clip to this norm. Expected {1.0 / LARGEST_NORM:g} to {LARGEST_NORM:g}. Received: {norm}."
        )
    if not 1 <= request.accumulate <= MOST_SAMPLES:
        raise RecipeError(
            f"Cannot add up the gradients of so many samples. Expected 1 to {MOST_SAMPLES}. "
            f"Received: {request.accumulate}."
        )
    decay = round(request.momentum * MOMENTUM_ONE) if 0.0 <= request.momentum < 1.0 else -1
    if not 0 <= decay < MOMENTUM_ONE or (decay == 0) != (request.momentum == 0.0):
        raise RecipeError(
            f"The momentum is out of range. Expected 0, or 1/{MOMENTUM_ONE} to {MOMENTUM_ONE - 1}/{MOMENTUM_ONE}. "
            f"Received: {request.momentum}."
        )
    return StepOptions(
        class_weights=() if weights is None else read_class_weights(weights, outputs),
        schedule=None if request.schedule is None else read_schedule(request.schedule),
        clip_norm=norm,
        accumulate=request.accumulate,
        momentum=decay,
    )


def aid_options(loss: Loss, request: StepRequest) -> AidOptions:
    """Reads the aids of learning.

    Args:
        loss: What is made smaller.
        request: What the user asked for.

    Raises:
        RecipeError: If the buffer has no size, or the loss has no classes to balance it by.
    """
    slots = request.replay
    if slots is not None and not (1 <= slots <= MOST_SLOTS and loss.takes_class):
        raise RecipeError(
            f"Cannot hold samples to replay. Expected 1 to {MOST_SLOTS} samples, and a loss of classes: the buffer is "
            f"balanced by them. Received: {slots} samples, {loss}."
        )
    return AidOptions(request.evaluate or request.keep_best, request.keep_best, slots or 0)


def read_class_weights(text: str, outputs: int) -> tuple[int, ...]:
    """Reads weights in units of 2**-8.

    Raises:
        RecipeError: If they are not as many as the outputs, or one is out of range.

    Example:
        >>> read_class_weights("1,0.5,3", outputs=3)
        (256, 128, 768)
    """
    values = [_number(word) for word in text.split(",")]
    weights = tuple(round(value * WEIGHT_ONE) if math.isfinite(value) else 0 for value in values)
    if len(weights) != outputs or not all(1 <= weight <= WEIGHT_LIMIT for weight in weights):
        raise RecipeError(
            f"Cannot weigh the classes. Expected {outputs} numbers of 1/{WEIGHT_ONE} to "
            f"{WEIGHT_LIMIT / WEIGHT_ONE:.5g} with commas, one for each output. Received: {text!r}."
        )
    return weights


def read_schedule(text: str) -> tuple[RatePoint, ...]:
    """Reads the changes of the learning rate.

    `halve:N` halves it every N steps, eight times. `cosine:N` lets it fall from 1 to nearly 0 within N steps, in 32
    pieces. `manual` leaves it to `rct_model_set_rate()`.

    Raises:
        RecipeError: If the text cannot be read, or a factor is out of range.

    Example:
        >>> read_schedule("0=0.5,100=1,200=0.25")
        (RatePoint(step=0, rate=32768), RatePoint(step=100, rate=65536), RatePoint(step=200, rate=16384))
    """
    if text == "manual":
        return ()
    kind, _, number = text.partition(":")
    if kind in ("halve", "cosine"):
        points = _named(kind, _count(number, text))
    else:
        pairs = [word.partition("=") for word in text.split(",")]
        points = [(_count(step, text), _number(factor)) for step, _, factor in pairs]
    rates = tuple(RatePoint(step, round(f * RATE_ONE) if 0.0 < f < math.inf else 0) for step, f in points)
    rising = bool(rates) and all(a.step < b.step for a, b in itertools.pairwise(rates))
    if not rising or rates[-1].step > LARGEST_STEP or not all(1 <= point.rate <= RATE_LIMIT for point in rates):
        raise _unreadable(text)
    return rates


def _named(kind: str, steps: int) -> list[tuple[int, float]]:
    if kind == "halve":
        return [(steps * count, 2.0**-count) for count in range(1, HALVINGS + 1)]
    pieces = min(COSINE_PIECES, steps)
    angles = [math.pi * (piece + 0.5) / pieces for piece in range(pieces)]
    return [(steps * piece // pieces, (1.0 + math.cos(angle)) / 2.0) for piece, angle in enumerate(angles)]


def _count(word: str, text: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise _unreadable(text)
    return int(word)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _unreadable(text: str) -> RecipeError:
    return RecipeError(
        f"Cannot read the schedule of the learning rate. Expected {_SCHEDULES}; steps up to {LARGEST_STEP}, factors of "
        f"1/{RATE_ONE} to {RATE_LIMIT / RATE_ONE:.5g}. Received: {text!r}."
    )
