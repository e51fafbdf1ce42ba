"""Fits with a prior: known coefficients come back, few measurements stay near what was known."""

import numpy as np
import pytest

from rct_tflite.energy.shrinkage import LogNormal, Measurements, fit, predict, tied
from rct_tflite.errors import DataError

TRUE = np.array([2.0, 30.0, 0.5])
PRIOR = tied(np.array([1.0, 50.0, 1.0]), np.full(3, 0.7), common=0.5)
COUNTS = np.random.default_rng(1).integers(1, 100, (12, 3)).astype(float)


def measured(rows, error=0.01):
    return Measurements(COUNTS[:rows], COUNTS[:rows] @ TRUE, np.full(rows, error))


def test_many_exact_measurements_give_the_coefficients():
    assert fit(PRIOR, measured(12, 1e-3)).costs == pytest.approx(TRUE, rel=0.02)


def test_without_measurement_the_prior_stays():
    assert fit(PRIOR, measured(0)).mean == pytest.approx(PRIOR.mean)


def test_what_was_not_measured_moves_with_what_it_is_tied_to():
    only_first = Measurements(np.array([[1.0, 0.0, 0.0]]), np.array([4.0]), np.array([0.01]))
    moved = fit(PRIOR, only_first)
    loose = fit(LogNormal(PRIOR.mean, np.diag(np.diag(PRIOR.covariance))), only_first)
    assert moved.costs[0] == pytest.approx(4.0, rel=0.01)
    assert moved.costs[1] > PRIOR.costs[1] * 1.2
    assert loose.costs[1] == pytest.approx(PRIOR.costs[1])


def test_each_measurement_narrows_the_interval_and_keeps_the_truth_inside():
    wanted = np.array([10.0, 3.0, 5.0])
    widths = []
    for rows in (0, 1, 3, 12):
        interval = predict(fit(PRIOR, measured(rows)), wanted, 0.01)
        assert interval.low <= wanted @ TRUE <= interval.high
        widths.append(interval.high / interval.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1.1 < widths[0]


def test_intervals_hold_nine_of_ten_truths():
    random = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        truth = np.exp(random.multivariate_normal(PRIOR.mean, PRIOR.covariance))
        counts = random.integers(1, 50, (4, 3)).astype(float)
        noisy = counts[:3] @ truth * np.exp(random.normal(0, 0.05, 3))
        interval = predict(fit(PRIOR, Measurements(counts[:3], noisy, np.full(3, 0.05))), counts[3], 0.0)
        held += interval.low <= counts[3] @ truth <= interval.high
    assert 0.84 < held / 300 < 0.96


@pytest.mark.parametrize(
    ("counts", "cost", "error"),
    [([[1, 0, 0]], 0, 0.1), ([[1, 0, 0]], 1, 0), ([[0, 0, 0]], 1, 0.1), ([[-1, 2, 0]], 1, 1)],
)
def test_impossible_measurements_are_refused(counts, cost, error):
    with pytest.raises(DataError, match="Received"):
        fit(PRIOR, Measurements(np.array(counts, float), np.array([cost], float), np.array([error], float)))
