"""Fits costs to a few measurements without leaving what is known before: ridge regression in the log space.

Costs are positive and known to a factor, so their logarithms carry a normal prior (the shipped defaults with their
intervals), and measurements have relative errors. With no measurement the prior stays; where the measurements say
nothing of a cost, it moves only as far as the costs that it is tied to.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.estimate import Interval
from rct_tflite.errors import DataError

Array = npt.NDArray[np.float64]

ITERATIONS = 100
LARGEST_STEP = 0.5
"""Of a logarithm in one iteration: keeps Gauss-Newton where its linear picture holds."""
CONVERGED = 1e-9
DEVIATIONS_90 = 1.645
"""Of a normal distribution: 90 % lie within as many standard deviations."""


@dataclass(frozen=True, eq=False)
class LogNormal:
    """Positive costs that are known to a factor.

    Attributes:
        mean: float64 (k,), mean of the logarithms.
        covariance: float64 (k, k), of the logarithms.
    """

    mean: Array
    covariance: Array

    @property
    def costs(self) -> Array:
        """The medians, float64 (k,)."""
        return np.exp(self.mean)


@dataclass(frozen=True, eq=False)
class Measurements:
    """Work of which the cost was measured.

    Attributes:
        counts: float64 (n, k), how often each of the k cost items occurs; at least 0.
        costs: float64 (n,), measured; above 0.
        relative_error: float64 (n,), standard deviation of the measurement and of the model's form.
    """

    counts: Array
    costs: Array
    relative_error: Array


def tied(mean: Array, deviation: Array, common: float, groups: tuple[tuple[int, ...], ...] = ()) -> LogNormal:
    """Returns a prior whose costs move together.

    Args:
        mean: float64 (k,), the expected costs (not their logarithms).
        deviation: float64 (k,), standard deviation of each logarithm, beside the common one.
        common: Standard deviation of a factor that all costs share, such as a slower memory.
        groups: Indices of costs of like work. Within a group, four fifths of the smallest variance are shared.

    Example:
        >>> prior = tied(np.array([1.0, 2.0]), np.array([0.1, 0.1]), common=1.0)
        >>> prior.covariance.round(2).tolist()
        [[1.01, 1.0], [1.0, 1.01]]
    """
    covariance = np.diag(deviation**2)
    for group in groups:
        shared = 0.8 * float(np.min(deviation[list(group)])) ** 2
        for i in group:
            for j in group:
                if i != j:
                    covariance[i, j] += shared
    return LogNormal(np.log(mean), covariance + common**2)


def fit(prior: LogNormal, measured: Measurements) -> LogNormal:
    """Returns the costs after the measurements (the maximum of the posterior, with its curvature).

    Args:
        prior: What is known before.
        measured: Some work and what it cost; may be empty.

    Raises:
        DataError: If a measured cost or its error is not above 0, a count is negative, or work counts nothing.
    """
    _check(measured)
    precision = np.linalg.inv(prior.covariance)
    weights = 1.0 / measured.relative_error**2
    mean = prior.mean.copy()
    for _ in range(ITERATIONS):
        slopes, residuals = _linearised(mean, measured)
        curvature = (slopes * weights[:, None]).T @ slopes + precision
        downhill = (slopes * weights[:, None]).T @ residuals - precision @ (mean - prior.mean)
        step = np.clip(np.linalg.solve(curvature, downhill), -LARGEST_STEP, LARGEST_STEP)
        mean = mean + step
        if float(np.max(np.abs(step))) < CONVERGED:
            break
    slopes, _ = _linearised(mean, measured)
    return LogNormal(mean, np.linalg.inv((slopes * weights[:, None]).T @ slopes + precision))


def predict(known: LogNormal, counts: Array, relative_error: float) -> Interval:
    """Returns the cost of work, with the interval that holds 90 % of a log-normal.

    Args:
        known: The costs.
        counts: float64 (k,), of which at least one is above 0.
        relative_error: Of the model's form, beside that of the costs.
    """
    parts = counts * known.costs
    total = float(parts.sum())
    slopes = parts / total
    deviation = math.sqrt(float(slopes @ known.covariance @ slopes) + relative_error**2)
    return around(total, deviation)


def around(value: float, deviation: float) -> Interval:
    """Returns the 90 % interval of a log-normal by its median and the standard deviation of its logarithm."""
    factor = math.exp(DEVIATIONS_90 * deviation)
    return Interval(value, value / factor, value * factor)


def _linearised(mean: Array, measured: Measurements) -> tuple[Array, Array]:
    """Returns how the logarithm of each modelled cost changes with each parameter, and what it still misses."""
    parts = measured.counts * np.exp(mean)
    totals = parts.sum(axis=1)
    return parts / totals[:, None], np.log(measured.costs) - np.log(totals)


def _check(measured: Measurements) -> None:
    for name, values in (("cost", measured.costs), ("relative error", measured.relative_error)):
        if np.any(values <= 0) or not np.all(np.isfinite(values)):
            raise DataError(f"Each {name} must be a number above 0. Received: {values.tolist()}. Remove the others.")
    if np.any(measured.counts < 0) or np.any(measured.counts.sum(axis=1) <= 0):
        raise DataError("Work needs counts of at least 0, not all 0. Received: others. Remove what does nothing.")
