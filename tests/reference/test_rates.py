"""The factor of the error at the loss, against real numbers."""

import dataclasses
import math

import numpy as np
import pytest

from rct_tflite.errors import RecipeError
from rct_tflite.planning.selection import select
from rct_tflite.reference.gradients import ScaledError
from rct_tflite.reference.rates import Clip, check_schedule, factor_of, rate_limits, scale_error, weigh_outputs
from rct_tflite.spec.step_options import RATE_ONE, WEIGHT_ONE, RatePoint, StepOptions
from tests.graphs import dense_digits


def real(error):
    return error.values * 2.0**-error.exponent


def errors(seed, count=40, size=10):
    random = np.random.default_rng(seed)
    for _ in range(count):
        values = random.integers(-127, 128, size)
        values[random.integers(size)] = random.choice([-1, 1]) * random.integers(64, 128)
        yield ScaledError(values, int(random.integers(-1, 14)))


def test_a_rate_and_a_weight_of_one_change_nothing():
    for error in errors(0):
        scaled = scale_error(error, RATE_ONE, WEIGHT_ONE, None)
        assert scaled.exponent == error.exponent
        np.testing.assert_array_equal(scaled.values, error.values)


@pytest.mark.parametrize("rate", [1, 3, 40_000, RATE_ONE * 7 + 5, 2**32 - 1])
@pytest.mark.parametrize("weight", [1, 200, 65_535])
def test_the_error_is_multiplied(rate, weight):
    for error in errors(rate):
        scaled = scale_error(error, rate, weight, None)
        wanted = real(error) * rate / RATE_ONE * weight / WEIGHT_ONE
        assert np.abs(scaled.values).max() in range(64, 128)
        # A step of 7 bits (128 saturates), and two mantissas of 15 bits that are cut off.
        np.testing.assert_allclose(real(scaled), wanted, rtol=2.0**-12, atol=1.01 * 2.0**-scaled.exponent)


@pytest.mark.parametrize("norm", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("weight", [1, 256, 999])
def test_the_norm_is_clipped_after_the_weight_and_before_the_rate(norm, weight):
    exponent = math.frexp(norm)[1]
    clip = Clip(factor_of(round(norm * 2.0 ** (30 - exponent)), 30 - exponent), 10)
    clipped = 0
    for error in errors(5):
        weighted = real(error) * weight / WEIGHT_ONE
        length = float(np.linalg.norm(weighted))
        wanted = weighted * min(1.0, norm / length) * 3.0
        clipped += length > norm
        scaled = scale_error(error, 3 * RATE_ONE, weight, clip)
        np.testing.assert_allclose(real(scaled), wanted, rtol=0.002, atol=1.01 * 2.0**-scaled.exponent)
    assert clipped > 0 or norm > 1.0


def test_wide_errors_are_multiplied_and_clipped():
    clip = Clip(factor_of(3 << 28, 30), 10)  # 0.75
    for error in errors(7):
        wide = ScaledError(error.values * 257, error.exponent + 8)
        wanted = real(wide) * 0.9
        wanted *= min(1.0, 0.75 / np.linalg.norm(wanted))
        scaled = scale_error(wide, RATE_ONE, round(0.9 * WEIGHT_ONE), clip, error_bits=16)
        assert np.abs(scaled.values).max() in range(2**14, 2**15)
        np.testing.assert_allclose(real(scaled), wanted, rtol=0.006, atol=2.0**-scaled.exponent)


def test_each_output_has_its_weight():
    weights = (256, 1, 65_535, 512, 128, 77, 900, 256, 256, 3)
    for error in errors(6):
        scaled = weigh_outputs(error, weights)
        wanted = real(error) * np.array(weights) / WEIGHT_ONE
        np.testing.assert_allclose(real(scaled), wanted, atol=1.01 * 2.0**-scaled.exponent)


@pytest.mark.parametrize("rate", [1e-9, 1e5])
def test_a_learning_rate_beyond_the_integers_is_refused_with_the_range(rate):
    graph = dense_digits()
    with pytest.raises(
        RecipeError, match=r"'layer1' an update that integers cannot hold. Expected \S+ to \S+. Received"
    ):
        check_schedule(graph, select(graph, "all", rate))


def test_rates_of_a_schedule_are_held_to_the_range():
    graph = dense_digits()
    plan = select(graph, "all", 0.05)
    low, high = rate_limits(graph, plan)
    assert low < RATE_ONE / 100
    assert high > RATE_ONE * 100
    for point, fits in (
        (RatePoint(4, low), True),
        (RatePoint(4, high), True),
        (RatePoint(4, high + 1), high == 2**32 - 1),
    ):
        chosen = dataclasses.replace(plan, options=StepOptions(schedule=(point,)))
        if fits:
            check_schedule(graph, chosen)
        else:
            with pytest.raises(RecipeError, match=r"times the learning rate of 0.05. Received: .* from step 4 on"):
                check_schedule(graph, chosen)
