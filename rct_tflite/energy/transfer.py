"""Carries measured costs over to another part, kernel build or model: a linear model of effects in the log space.

The logarithm of a cost is a sum of effects: of the core, of the part, of the kernels, each with a normal prior
around zero; some act on every model alike (a slower memory), some on one model of one kernel build (a kernel that
suits it). What is measured elsewhere fixes the effects that it shares with what is asked; the others stay at zero
with their prior as uncertainty. That is ridge regression in the log space, solved in its dual form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import around
from rct_tflite.errors import DataError

Array = npt.NDArray[np.float64]
EVERYWHERE = "everywhere"
"""A label that all observations share."""
SMALLEST_VARIANCE = 1e-6
"""Added to each observation: two that say the same must not make the equations singular."""


@dataclass(frozen=True)
class Effect:
    """One summand of the logarithm of a cost.

    Attributes:
        label: Name of the label whose equals share the effect, or `EVERYWHERE`.
        deviation: Standard deviation before anything is measured: 0.1 is about 10 %.
        by_model: Whether each model has its own, alike for models that are made of like ops.
    """

    label: str
    deviation: float
    by_model: bool = False


@dataclass(frozen=True)
class Setting:
    """What a model was run on.

    Attributes:
        labels: (name of the label, its value).
        model: Index of the model in the likeness matrix.
    """

    labels: tuple[tuple[str, str], ...]
    model: int


@dataclass(frozen=True, eq=False)
class Effects:
    """The effects, and how alike the models are.

    Attributes:
        terms: The summands.
        likeness: float64 (models, models), correlation of the effects of two models.
    """

    terms: tuple[Effect, ...]
    likeness: Array

    def predict(self, settings: Sequence[Setting], costs: Array, wanted: Setting) -> Interval:
        """Returns the cost in a setting, with the interval that holds 90 % of a log-normal.

        Args:
            settings: Where costs were measured; at least one.
            costs: float64 (n,), above 0, in the order of `settings`.
            wanted: The setting that is asked.

        Raises:
            DataError: If nothing was measured, or a cost is not above 0.
        """
        if len(settings) == 0 or np.any(costs <= 0):
            raise DataError(
                f"Cannot carry costs over. Expected at least one, each above 0. Received: {costs.tolist()}. "
                "Measure something first."
            )
        logs = np.log(costs)
        mean = float(logs.mean())
        covariance = self.covariance([*settings, wanted])
        among = covariance[:-1, :-1] + SMALLEST_VARIANCE * np.eye(len(settings))
        towards = covariance[-1, :-1]
        solved = np.linalg.solve(among, np.column_stack([logs - mean, towards]))
        variance = float(covariance[-1, -1] - towards @ solved[:, 1])
        return around(math.exp(mean + float(towards @ solved[:, 0])), math.sqrt(max(variance, SMALLEST_VARIANCE)))

    def covariance(self, settings: Sequence[Setting]) -> Array:
        """Returns how the logarithms of costs in these settings vary together, float64 (n, n)."""
        models = [setting.model for setting in settings]
        alike = self.likeness[np.ix_(models, models)]
        labels = [dict(setting.labels) for setting in settings]
        total = np.zeros((len(settings), len(settings)))
        for term in self.terms:
            numbers: dict[str, int] = {}  # compare faster than texts
            codes = np.array([numbers.setdefault(known.get(term.label, EVERYWHERE), len(numbers)) for known in labels])
            equal = codes[:, None] == codes[None, :]
            total += term.deviation**2 * equal * (alike if term.by_model else 1.0)
        return total
