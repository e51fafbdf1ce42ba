"""Chooses how far effects may differ by what they foretell: the deviations of `transfer.Effects`.

Nothing is judged by how well it is fitted. Each of a list of questions hides some measurements and asks for others,
as a user will ask; the deviations under which the answers are nearest are kept. The estimate of what is really asked
must not be among the measurements given here.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rct_tflite.energy.shrinkage import DEVIATIONS_90
from rct_tflite.energy.transfer import EVERYWHERE, SMALLEST_VARIANCE, Array, Effect, Effects, Setting
from rct_tflite.errors import DataError

STEP = 2.0
"""Factor by which a deviation is changed at once."""
SWEEPS = 2
"""Most times that every deviation is tried."""
SMALLEST, LARGEST = 0.005, 1.0
"""Deviations of a logarithm that are tried."""
BETTER = 0.999
"""A change must lower the loss to this part of it: noise must not wander."""
CONFIDENCE = 0.9
"""Part of the questions whose answer must lie in its interval."""


@dataclass(frozen=True)
class Question:
    """Some measurements that are asked for, and what must not be seen then.

    Attributes:
        asked: Indices of the measurements.
        hidden: Indices, those of `asked` among them.
    """

    asked: tuple[int, ...]
    hidden: tuple[int, ...]


def tuned(effects: Effects, settings: Sequence[Setting], costs: Array, questions: Sequence[Question]) -> Effects:
    """Returns the effects with the deviations that answer the questions best.

    Coordinate descent on the mean absolute error of the logarithm, by factors of `STEP`. The loss does not know the
    common scale of the deviations, so that is set last: `CONFIDENCE` of the answers lie in their 90 % interval.

    Args:
        effects: Where to start. The one that everything shares stays as it is: it is the level.
        settings: Where costs were measured.
        costs: float64 (n,), above 0, in the order of `settings`.
        questions: At least one; each leaves some measurement visible.

    Raises:
        DataError: If there is no question.
    """
    if not questions:
        raise DataError("Cannot choose deviations. Expected at least one question. Received: none. Measure more.")
    logs = np.log(costs)
    search = _Search(effects, settings, logs - logs.mean(), questions)
    search.run()
    return dataclasses.replace(effects, terms=search.terms())


class _Search:
    """The state of the descent."""

    def __init__(self, effects: Effects, settings: Sequence[Setting], logs: Array, questions: Sequence[Question]):
        self.effects = effects
        self.logs = logs
        self.asked = [np.isin(question.hidden, question.asked) for question in questions]
        self.hidden = [np.array(question.hidden) for question in questions]
        units = [dataclasses.replace(term, deviation=1.0) for term in effects.terms]
        self.shapes = [dataclasses.replace(effects, terms=(unit,)).covariance(settings) for unit in units]
        self.deviations = [term.deviation for term in effects.terms]
        level = SMALLEST_VARIANCE * np.eye(len(logs))
        self.total = sum((d**2 * shape for d, shape in zip(self.deviations, self.shapes, strict=True)), level)
        self.free = [i for i, term in enumerate(effects.terms) if term.by_model or term.label != EVERYWHERE]

    def run(self) -> None:
        """Descends until nothing helps, then sets the scale."""
        loss = self._loss(self.total)
        for _ in range(SWEEPS):
            before = loss
            for index in self.free:
                loss = self._step(index, loss)
            if loss == before:
                break
        scale = self._scale()
        for index in self.free:
            self.deviations[index] *= scale

    def terms(self) -> tuple[Effect, ...]:
        """The effects as they are now."""
        pairs = zip(self.effects.terms, self.deviations, strict=True)
        return tuple(dataclasses.replace(term, deviation=deviation) for term, deviation in pairs)

    def _step(self, index: int, loss: float) -> float:
        now = self.deviations[index]
        for factor in (STEP, 1 / STEP):
            tried = now * factor
            if SMALLEST <= tried <= LARGEST:
                total = self.total + (tried**2 - now**2) * self.shapes[index]
                found = self._loss(total)
                if found < BETTER * loss:
                    self.deviations[index], self.total = tried, total
                    return found
        return loss

    def _loss(self, total: Array) -> float:
        precision = np.linalg.inv(total)
        solved = precision @ self.logs
        # What the others foretell of hidden ones misses them by the inverse of their part of the precision.
        errors = (
            np.linalg.solve(precision[np.ix_(hidden, hidden)], solved[hidden])[asked]
            for hidden, asked in zip(self.hidden, self.asked, strict=True)
        )
        return float(np.mean([np.mean(np.abs(error)) for error in errors]))

    def _scale(self) -> float:
        """Returns by what the deviations must grow for the intervals to hold as many answers as they say."""
        precision = np.linalg.inv(self.total)
        solved = precision @ self.logs
        ratios: list[float] = []
        for hidden, asked in zip(self.hidden, self.asked, strict=True):
            covariance = np.linalg.inv(precision[np.ix_(hidden, hidden)])
            errors, variances = covariance @ solved[hidden], np.diag(covariance)
            ratios += list(np.abs(errors[asked]) / np.sqrt(variances[asked]))
        return max(float(np.quantile(ratios, CONFIDENCE)) / DEVIATIONS_90, 1.0)
