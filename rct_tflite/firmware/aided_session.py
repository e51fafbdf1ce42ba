"""Learning on the device with its aids: replay, held samples, early stopping, rollback."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, Request, Response
from rct_tflite.errors import DataError, RecipeError
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import FineTuning, Runner, exchange, fine_tuning_of, lessons_of
from rct_tflite.reference.aids import Verdict
from rct_tflite.spec.aid_options import AidOptions

HELD_SHARE = 5
"""Every fifth sample of a class is held."""


@dataclass(frozen=True)
class AidWishes:
    """What a run makes use of.

    Attributes:
        replays: Replayed samples after each new one; 0 leaves the buffer alone.
        patience: Evaluations without a better one before learning stops; None holds no samples.
    """

    replays: int = 0
    patience: int | None = None


NO_WISHES = AidWishes()


@dataclass(frozen=True, eq=False)
class AidReport:
    """What the aids did.

    Attributes:
        held: Samples that were held.
        scores: Per evaluation, held samples that were right, or the sum of the differences to their targets.
        stopped: Whether learning stopped early.
        best: Number of the best evaluation, from 0; the device went back to its weights.
        confusion: int64 (classes, classes) of the last evaluation, true class by largest output; None where nothing
            was held, or the loss takes targets.
        stored: Labels in the replay buffer at the end.
    """

    held: int
    scores: tuple[int, ...]
    stopped: bool
    best: int | None
    confusion: npt.NDArray[np.int64] | None
    stored: tuple[int, ...]


def check_wishes(wishes: AidWishes, aids: AidOptions, learn: Samples | None) -> None:
    """Refuses what the export does not have.

    Raises:
        RecipeError: If it has no buffer, or does not keep the best weights.
        DataError: If there is nothing to learn from.
    """
    for wished, there, option in (
        (wishes.replays > 0, aids.replay_slots > 0, "--replay SLOTS"),
        (wishes.patience is not None, aids.keeps_best, "--keep-best"),
    ):
        if wished and not there:
            raise RecipeError(
                f"This export cannot do that. Expected one that was made with {option}. Received: one without. "
                f"Export the model again with {option}."
            )
    if learn is None and wishes != NO_WISHES:
        raise DataError("Nothing to replay or to stop. Expected --learn. Received: none. Add it.")


def split(samples: Samples) -> tuple[Samples, Samples]:
    """Returns samples to learn from and samples to hold: every fifth of each class, or of all where there is none.

    Raises:
        DataError: If that leaves none to hold.
    """
    labels = np.zeros(len(samples.inputs), np.int64) if samples.labels is None else samples.labels
    held = np.zeros(labels.size, bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[HELD_SHARE - 1 :: HELD_SHARE]] = True
    if not held.any():
        raise DataError(
            f"Too few samples to hold some for --patience. Expected {HELD_SHARE} of one class. "
            f"Received: {labels.size} in all. Learn from more, or leave --patience out."
        )
    return _chosen(samples, ~held), _chosen(samples, held)


def _chosen(samples: Samples, mask: npt.NDArray[np.bool_]) -> Samples:
    labels = None if samples.labels is None else samples.labels[mask]
    targets = None if samples.targets is None else samples.targets[mask]
    return Samples(samples.inputs[mask], labels, targets)


def fine_tune_aided(
    runner: Runner, learn: Samples, test: Samples, epochs: int, wishes: AidWishes
) -> tuple[FineTuning, AidReport]:
    """Does what `fine_tune()` does, with replay and early stopping.

    Args:
        runner: Of the firmware.
        learn: Samples with labels or targets; some of them are held where patience is wished for.
        test: Samples to predict before and after.
        epochs: Passes over `learn`.
        wishes: What to make use of.

    Raises:
        DeviceError: If the firmware reports an error or answers something else.
        DataError: If there are too few samples to hold some.
    """
    taught, held = (learn, None) if wishes.patience is None else split(learn)
    requests = [request for _ in range(epochs) for request in _epoch(taught, held, wishes)]
    predictions = [protocol.predict(sample) for sample in test.inputs]
    ending = [Request(Command.ROLL_BACK)] if held else []
    ending += [Request(Command.READ_REPLAY)] if wishes.replays else []
    start = [Request(Command.INFO), Request(Command.SELF_TEST), *predictions]
    answers = list(exchange(runner, [*start, *requests, *ending, *predictions, Request(Command.READ_PARAMETERS)]))
    first, last = len(start), len(start) + len(requests)
    middle, stored = answers[first:last], answers[last : last + len(ending)]
    verdicts = [Verdict(answer.payload[0]) for answer in middle if answer.command is Command.JUDGE]
    epochs_done = min(verdicts.index(Verdict.STOP) + 1 if Verdict.STOP in verdicts else epochs, epochs)
    done = middle[: len(middle) // epochs * epochs_done]
    tuning = fine_tuning_of([*answers[:first], *done, *answers[last + len(ending) :]], len(predictions))
    return tuning, _report(held, done, stored)


def _epoch(taught: Samples, held: Samples | None, wishes: AidWishes) -> list[Request]:
    requests = []
    for lesson in lessons_of(taught):
        if wishes.replays:
            requests.append(Request(Command.REMEMBER, lesson.payload))
        requests += [lesson, *[Request(Command.REPLAY)] * wishes.replays]
    if held is not None:
        evaluate = Command.EVALUATE if held.targets is None else Command.EVALUATE_TARGET
        requests.append(Request(Command.BEGIN_EVALUATION))
        requests += [Request(evaluate, lesson.payload) for lesson in lessons_of(held)]
        requests.append(Request(Command.JUDGE, struct.pack("<H", wishes.patience)))
        if held.targets is None:
            requests.append(Request(Command.READ_CONFUSION))
    return requests


def _report(held: Samples | None, done: list[Response], ending: list[Response]) -> AidReport:
    scores, score, verdicts, counts = [], 0, [], None
    for answer in done:
        match answer.command:
            case Command.BEGIN_EVALUATION:
                score = 0
            case Command.EVALUATE | Command.EVALUATE_TARGET:
                score += int.from_bytes(answer.payload, "little")
            case Command.JUDGE:
                scores.append(score)
                verdicts.append(Verdict(answer.payload[0]))
            case Command.READ_CONFUSION:
                counts = np.frombuffer(answer.payload, "<u2").astype(np.int64)
    better = [number for number, verdict in enumerate(verdicts) if verdict is Verdict.BETTER]
    return AidReport(
        held=0 if held is None else len(held.inputs),
        scores=tuple(scores),
        stopped=Verdict.STOP in verdicts,
        best=better[-1] if better else None,
        confusion=None if counts is None else counts.reshape(round(counts.size**0.5), -1),
        stored=_stored_labels(ending),
    )


def _stored_labels(ending: list[Response]) -> tuple[int, ...]:
    payload = next((answer.payload for answer in ending if answer.command is Command.READ_REPLAY), b"")
    count = int.from_bytes(payload[:2], "little")
    return tuple(np.frombuffer(payload[2 : 2 + 2 * count], "<u2").tolist())
