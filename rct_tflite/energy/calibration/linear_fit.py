"""Least squares with shrinkage: coefficients that the data do not tell stay at what is believed of them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A fit.

    Attributes:
        value: (coefficients,).
        covariance: (coefficients, coefficients), data and belief together.
        scatter: How many times further than `sigma` the points scatter; at least 1.
        predicted: (points,), by the fit.
        left_out: (points,), by a fit without that point.
    """

    value: Floats
    covariance: Floats
    scatter: float
    predicted: Floats
    left_out: Floats

    def sd(self, weights: Floats) -> float:
        """Returns the standard deviation of a sum of coefficients, (coefficients,) weights."""
        return math.sqrt(max(float(weights @ self.covariance @ weights), 0.0)) * self.scatter


def fit_shrunk(design: Floats, target: Floats, sigma: Floats, prior: Floats, prior_sd: Floats) -> Shrunk:
    """Fits `design @ value` to `target`.

    In units of the beliefs and of the errors of the points the design has singular values s: along each of their
    directions the data tell the share s^2 / (1 + s^2), and belief the rest.

    Args:
        design: (points, coefficients).
        target: (points,).
        sigma: (points,), standard deviation of each point.
        prior: (coefficients,), what is believed.
        prior_sd: (coefficients,), standard deviation of that.

    Returns:
        The fit. Leaving a point out is exact, without fitting again.

    Example:
        >>> fit = fit_shrunk(np.array([[1.0, 0.0]]), np.array([3.0]), np.array([0.01]), np.ones(2), np.ones(2))
        >>> [round(float(value), 2) for value in (*fit.value, *np.diag(fit.covariance))]
        [3.0, 1.0, 0.0, 1.0]
    """
    scaled = design * prior_sd / sigma[:, None]
    residual = (target - design @ prior) / sigma
    left, singular, right = np.linalg.svd(scaled, full_matrices=False)
    told = singular**2 / (1 + singular**2)
    value = prior + prior_sd * (right.T @ (singular / (1 + singular**2) * (left.T @ residual)))
    covariance = np.outer(prior_sd, prior_sd) * (np.eye(len(prior)) - (right.T * told) @ right)
    hat = np.clip((left**2) @ told, 0.0, 1.0 - 1e-12)
    predicted = design @ value
    error = target - predicted
    free = max(len(target) - float(told.sum()), 1.0)
    scatter = float(np.sqrt(max(np.sum((error / sigma) ** 2) / free, 1.0)))
    return Shrunk(value, covariance, scatter, predicted, target - error / (1 - hat))
