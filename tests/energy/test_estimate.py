"""Cycles, time and energy from instructions."""

import dataclasses

import pytest

from rct_tflite.energy.estimate import Interval, estimate
from rct_tflite.spec.target import Quantity
from rct_tflite.spec.target_file import find_target, list_targets


def exactly(value):
    return Quantity(value, value, value, "derived", "test")


@pytest.fixture
def target():
    """100 MHz, 2 cycles an instruction, 0.5 mW/MHz, all exact."""
    return dataclasses.replace(
        find_target("cortex-m7"),
        clock_mhz=exactly(100.0),
        cycles_per_instruction=exactly(2.0),
        active_mw_per_mhz=exactly(0.5),
    )


def test_by_hand(target):
    result = estimate(target, 1_000_000)
    for interval, expected in ((result.cycles, 2e6), (result.time_s, 0.02), (result.energy_j, 0.02 * 0.050)):
        assert dataclasses.astuple(interval) == pytest.approx((expected,) * 3)


def test_each_factor_widens_what_it_enters(target):
    wide = Quantity(2.0, 1.0, 4.0, "derived", "test")
    by_cpi = estimate(dataclasses.replace(target, cycles_per_instruction=wide), 1000)
    by_power = estimate(dataclasses.replace(target, active_mw_per_mhz=wide), 1000)
    by_clock = estimate(dataclasses.replace(target, clock_mhz=wide), 1000)
    assert by_cpi.cycles == Interval(2000, 1000, 4000)
    assert by_cpi.energy_j.high == pytest.approx(4 * by_cpi.energy_j.low)
    assert by_power.time_s == estimate(target, 1000).time_s
    assert by_power.energy_j.high == pytest.approx(4 * by_power.energy_j.low)
    assert (by_clock.time_s.low, by_clock.time_s.high) == pytest.approx((2000 / 4e6, 2000 / 1e6))
    assert by_clock.energy_j == estimate(target, 1000).energy_j  # the clock cancels


@pytest.mark.parametrize("name", list_targets())
def test_intervals_hold_the_value_and_grow_with_the_work(name):
    small, large = (estimate(find_target(name), instructions) for instructions in (1000, 3000))
    for field in ("cycles", "time_s", "energy_j"):
        one, three = getattr(small, field), getattr(large, field)
        assert 0 < one.low < one.value < one.high
        assert dataclasses.astuple(three) == pytest.approx([3 * x for x in dataclasses.astuple(one)])


def test_measured_power_is_reproduced():
    """The STM32H7A3 drew 123 to 160 mW while inferring at 280 MHz: energy over time must lie there."""
    result = estimate(find_target("stm32h7a3"), 10_000_000)
    milliwatts = [1e3 * getattr(result.energy_j, end) / getattr(result.time_s, end) for end in ("low", "value", "high")]
    assert milliwatts == pytest.approx([123, 140, 160], rel=0.01)


def test_no_negative_instructions(target):
    with pytest.raises(ValueError, match="Received: instructions=-1"):
        estimate(target, -1)
