"""Jobs: op classes, flash writes, days and batteries, by hand."""

import dataclasses

import pytest

from rct_tflite.energy.estimate import (
    NOTHING,
    Estimate,
    Interval,
    Work,
    at_operating_point,
    estimate,
    estimate_work,
    writing,
)
from rct_tflite.energy.jobs import Day, DutyCycle, FineTuning, battery_days, estimate_day, estimate_fine_tuning
from rct_tflite.errors import TargetError
from rct_tflite.spec.target import FlashWriting, Quantity
from rct_tflite.spec.target_file import find_target, list_targets


def exactly(value):
    return Quantity(value, value, value, "derived", "test")


def interval(value):
    return Interval(value, value, value)


@pytest.fixture
def target():
    """100 MHz, 2 cycles an instruction (4 for updates), 0.5 mW/MHz (half for elementwise), flash by the byte."""
    return dataclasses.replace(
        find_target("cortex-m7"),
        clock_mhz=exactly(100.0),
        cycles_per_instruction=exactly(2.0),
        active_mw_per_mhz=exactly(0.5),
        op_cpi=(("update", exactly(4.0)),),
        op_power=(("elementwise", exactly(0.5)),),
        voltage_v=exactly(3.0),
        linear_regulator=True,
        writing=FlashWriting(1024, 8, exactly(0.2), exactly(0.1), exactly(10.0), exactly(5.0)),
    )


def test_op_classes_have_their_own_cycles_and_power(target):
    work = estimate_work(target, Work((("mac", 1000), ("update", 1000), ("elementwise", 1000))))
    assert work.cycles == interval(2000 + 4000 + 2000)
    assert work.energy_j.value == pytest.approx((2000 + 4000 + 1000) * 0.5e-9)


def test_work_of_one_class_is_the_plain_estimate(target):
    assert estimate_work(target, Work((("mac", 12345),))) == estimate(target, 12345)


@pytest.mark.parametrize(("count", "erased", "written"), [(1, 1024, 8), (1024, 1024, 1024), (1025, 2048, 1032)])
def test_flash_is_erased_and_written_in_whole_units(target, count, erased, written):
    cost = writing(target, count)
    assert cost.energy_j.value == pytest.approx((erased * 0.2 + written * 0.1) * 1e-6)
    assert cost.time_s.value == pytest.approx((erased * 10 + written * 5) * 1e-6)
    assert cost.cycles == interval(0.0)
    assert estimate_work(target, Work((), flash_written=count)) == cost


@pytest.mark.parametrize("work", [Work((), flash_written=1), Work((), external_read=1)])
def test_what_the_target_does_not_say_is_an_error(work):
    with pytest.raises(TargetError, match="does not say"):
        estimate_work(find_target("cortex-m7"), work)


def test_external_reads(target):
    target = dataclasses.replace(target, external_nj_per_byte=exactly(2.0))
    assert estimate_work(target, Work((), external_read=500)).energy_j.value == pytest.approx(1e-6)


def test_fine_tuning_adds_steps_and_checkpoints(target):
    step = estimate(target, 1000)
    plain = estimate_fine_tuning(target, step, FineTuning(samples=10, epochs=3))
    saved = estimate_fine_tuning(target, step, FineTuning(10, 3, checkpoints=2, checkpoint_bytes=100))
    assert plain == step.scaled(30)
    assert saved.energy_j.value == pytest.approx(plain.energy_j.value + 2 * writing(target, 100).energy_j.value)


def test_a_day_and_a_battery():
    inference = Estimate(interval(0.0), interval(1.0), interval(0.1))
    day = estimate_day(inference, NOTHING, DutyCycle(43200, Interval(2.0, 1.0, 4.0)))
    assert day.duty.value == pytest.approx(0.5)
    assert day.energy_j.value == pytest.approx(4320 + 43.2 * 2)
    assert day.sleep_j.high == pytest.approx(43.2 * 4)
    assert day.average_mw.value == pytest.approx(1e3 * day.energy_j.value / 86400)
    life = battery_days(day, 1000, 3.0)
    assert life.low < life.value < life.high
    assert life.high == pytest.approx(1000 * 3.0 * 3.6 / day.energy_j.low)


def test_a_day_that_is_too_short_does_not_sleep():
    day = estimate_day(Estimate(interval(0.0), interval(1.0), interval(0.1)), NOTHING, DutyCycle(1e6, interval(1.0)))
    assert isinstance(day, Day)
    assert day.duty.value > 1
    assert day.sleep_j.value == 0


def test_supply_and_clock(target):
    half = at_operating_point(target, None, 1.5)
    assert half.active_mw_per_mhz.value == pytest.approx(0.25)  # a linear regulator keeps the current
    switched = at_operating_point(dataclasses.replace(target, linear_regulator=False), None, 1.5)
    assert switched.active_mw_per_mhz.value == 0.5
    assert switched.active_mw_per_mhz.high > 0.5
    slow = at_operating_point(target, 25.0, None)
    assert slow.clock_mhz.value == 25
    assert slow.active_mw_per_mhz.high == pytest.approx(2 * target.active_mw_per_mhz.high)


@pytest.mark.parametrize(("clock", "waits"), [(120, 5), (101, 5), (100, 4), (24, 1), (20, 0)])
def test_a_slower_clock_may_save_waiting(clock, waits):
    target = find_target("stm32l4r5")
    slow = at_operating_point(target, clock, None)
    assert slow.cycles_per_instruction.value == target.cycles_per_instruction.value
    least = 1 - 0.19 * (5 - waits) / 5
    assert slow.cycles_per_instruction.low == pytest.approx(least * target.cycles_per_instruction.low)
    assert dict(slow.op_cpi)["mac"].low == pytest.approx(least * dict(target.op_cpi)["mac"].low)
    assert dict(slow.op_cpi)["mac"].high == dict(target.op_cpi)["mac"].high


@pytest.mark.parametrize(
    ("clock", "voltage", "message"), [(101, None, "at most 100 MHz"), (0, None, "above 0"), (None, 3300, "at most 60")]
)
def test_impossible_clocks_and_supplies(target, clock, voltage, message):
    with pytest.raises(TargetError, match=message):
        at_operating_point(target, clock, voltage)


def test_a_supply_needs_the_target_s_own():
    with pytest.raises(TargetError, match="voltage_v in the target's file"):
        at_operating_point(find_target("cortex-m4"), None, 3.0)


@pytest.mark.parametrize("name", [name for name in list_targets() if find_target(name).writing])
def test_writing_costs_more_than_computing_on_every_target(name):
    """A byte written costs 20 to 1000 times a MAC: nobody may forget the checkpoints."""
    target = find_target(name)
    unit = target.writing.erase_bytes
    per_byte = writing(target, unit).energy_j.value / unit
    assert per_byte > 20 * estimate(target, 10).energy_j.value / 10
