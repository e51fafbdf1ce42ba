"""The aids of learning on the device (ARITHMETIC.md 8): the oracle of `rct_aids.h`."""

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.random import RandomGenerator

REPLAY_SEED = 0x9E3779B9
COUNT_LIMIT = 2**16 - 1

Int8Array = npt.NDArray[np.int8]


class Verdict(enum.IntEnum):
    """What an evaluation says; mirrors `rct_verdict_t`."""

    BETTER = 0
    WAIT = 1
    STOP = 2


@dataclass(frozen=True, eq=False)
class Kept:
    """What learns, to go back to.

    Attributes:
        weights: int64 (channels, depth), by the name of the op.
        biases: int64 (channels,), by the name of the op.
        widths: Bit-width and octave of each op where they follow the training, else empty.
    """

    weights: dict[str, npt.NDArray[np.int64]]
    biases: dict[str, npt.NDArray[np.int64]]
    widths: dict[str, tuple[int, int]]


class EarlyStopping:
    """Stops when evaluations no longer get better.

    Args:
        more_is_better: Whether a score counts what is right; else it sums differences.

    Attributes:
        best: Score of the best evaluation; None before the first.
        stopped: Whether the patience ran out: from then on every verdict is STOP.

    Example:
        >>> stopping = EarlyStopping()
        >>> [stopping.judge(score, patience=2).name for score in (5, 7, 7, 6, 9)]
        ['BETTER', 'BETTER', 'WAIT', 'STOP', 'STOP']
    """

    def __init__(self, more_is_better: bool = True) -> None:
        self._sign = 1 if more_is_better else -1
        self._waited = 0
        self.best: int | None = None
        self.stopped = False

    def judge(self, score: int, patience: int) -> Verdict:
        """Takes the score of an evaluation.

        Args:
            score: Samples that were right, or the sum of all differences.
            patience: Evaluations in a row that may be no better than the best one, this one included.
        """
        if self.stopped:
            return Verdict.STOP
        if self.best is None or self._sign * score > self._sign * self.best:
            self.best, self._waited = score, 0
            return Verdict.BETTER
        self._waited += 1
        self.stopped = self._waited >= patience
        return Verdict.STOP if self.stopped else Verdict.WAIT


def confusion(labels: npt.NDArray[np.int64], outputs: Int8Array) -> npt.NDArray[np.int64]:
    """Counts samples by true class (rows) and largest output (columns); counts stop at 65535.

    Args:
        labels: int64 (n,).
        outputs: int8 (n, classes).

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([[5, 2], [1, 1], [0, 9]], np.int8)).tolist()
        [[1, 0], [1, 1]]
    """
    classes = outputs.shape[1]
    counts = np.bincount(labels * classes + outputs.argmax(axis=1), minlength=classes * classes)
    return np.minimum(counts, COUNT_LIMIT).reshape(classes, classes)


class ReplayBuffer:
    """A class-balanced reservoir of labelled samples.

    Each class gets as many slots as there is room for all of them, and each sample of a class that has had its share
    the same chance to be in the buffer.

    Args:
        slots: Samples that it holds.
        classes: Of the network.

    Attributes:
        samples: In use, by slot.
        labels: Of the samples.
    """

    def __init__(self, slots: int, classes: int) -> None:
        self._slots = slots
        self._random = RandomGenerator(REPLAY_SEED)
        self._seen, self._stored, self._full = [0] * classes, [0] * classes, [False] * classes
        self.samples: list[Int8Array] = []
        self.labels: list[int] = []

    def remember(self, sample: Int8Array, label: int) -> None:
        """Offers a sample.

        Args:
            sample: int8, the input's shape without batch.
            label: Its class.
        """
        self._seen[label] = min(self._seen[label] + 1, COUNT_LIMIT)
        if len(self.labels) < self._slots:
            self.samples.append(sample.copy())
            self.labels.append(label)
            self._stored[label] += 1
            return
        most = max(self._stored)
        self._full = [full or stored == most for full, stored in zip(self._full, self._stored, strict=True)]
        donor = label if self._full[label] else self._stored.index(most)
        index = self._draw(self._seen[label] if self._full[label] else most)
        if index < self._stored[donor]:
            slot = [number for number, there in enumerate(self.labels) if there == donor][index]
            self._stored[donor] -= 1
            self._stored[label] += 1
            self.samples[slot], self.labels[slot] = sample.copy(), label

    def draw(self) -> int:
        """Returns the slot of the sample to learn from next; the buffer is not empty."""
        return self._draw(len(self.labels))

    def _draw(self, count: int) -> int:
        return (int(self._random.draw(1)[0]) >> 16) * count >> 16
