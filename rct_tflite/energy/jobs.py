"""What a whole job costs: fine-tuning, a day of an application, the life of a battery."""

from dataclasses import dataclass

from rct_tflite.energy.estimate import NOTHING, Estimate, Interval, writing
from rct_tflite.spec.target import Target

SECONDS_PER_DAY = 86400.0
JOULES_PER_MAH_AND_VOLT = 3.6
BATTERY_USABLE = (0.85, 0.7, 1.0)
"""Part of the printed capacity that a load gets (value, low, high): self-discharge, cut-off voltage, temperature.
An assumption that is told with the result; the printed capacity itself is the upper end."""


@dataclass(frozen=True)
class FineTuning:
    """A job of learning on the device.

    Attributes:
        samples: Training samples.
        epochs: Passes over them.
        checkpoints: How often the parameters are written to flash.
        checkpoint_bytes: What one checkpoint writes.
    """

    samples: int
    epochs: int = 1
    checkpoints: int = 0
    checkpoint_bytes: int = 0


@dataclass(frozen=True)
class DutyCycle:
    """A day of an application.

    Attributes:
        inferences_per_day: Predictions.
        fine_tunings_per_day: Jobs of learning; a fraction for less than daily ones.
        sleep_mw: Power of the whole board while it waits, in mW.
    """

    inferences_per_day: float
    sleep_mw: Interval
    fine_tunings_per_day: float = 0.0


@dataclass(frozen=True)
class Day:
    """A day of an application.

    Attributes:
        duty: Part of the time that is spent computing; above 1 the application cannot keep up.
        energy_j: Joules a day, sleep included.
        sleep_j: Part of it that is drawn while waiting.
        average_mw: Mean power in mW.
    """

    duty: Interval
    energy_j: Interval
    sleep_j: Interval
    average_mw: Interval


def estimate_fine_tuning(target: Target, step: Estimate, job: FineTuning) -> Estimate:
    """Estimates a job of learning: every step, and every checkpoint's erasing and programming.

    Args:
        target: Says what writing flash costs; asked only if there are checkpoints.
        step: Cost of one training step.
        job: What is learnt.

    Raises:
        TargetError: If there are checkpoints and the target does not say what writing flash costs.
    """
    saved = writing(target, job.checkpoint_bytes).scaled(job.checkpoints) if job.checkpoints else NOTHING
    return step.scaled(job.samples * job.epochs) + saved


def estimate_day(inference: Estimate, tuning: Estimate, cycle: DutyCycle) -> Day:
    """Estimates a day: what is computed, and the sleep between.

    Args:
        inference: Cost of one prediction.
        tuning: Cost of one job of learning.
        cycle: How often.

    Example:
        >>> one = Interval(1.0, 1.0, 1.0)
        >>> day = estimate_day(Estimate(one, one, one), NOTHING, DutyCycle(8640, Interval(1.0, 1.0, 1.0)))
        >>> round(day.duty.value, 3), round(day.energy_j.value, 2)
        (0.1, 8717.76)
    """
    active = inference.scaled(cycle.inferences_per_day) + tuning.scaled(cycle.fine_tunings_per_day)
    duty = active.time_s.scaled(1.0 / SECONDS_PER_DAY)
    asleep = Interval(max(0.0, 1 - duty.value), max(0.0, 1 - duty.high), max(0.0, 1 - duty.low))
    milli_days = SECONDS_PER_DAY / 1e3
    sleep = Interval(
        asleep.value * cycle.sleep_mw.value, asleep.low * cycle.sleep_mw.low, asleep.high * cycle.sleep_mw.high
    ).scaled(milli_days)
    energy = active.energy_j + sleep
    return Day(duty, energy, sleep, energy.scaled(1.0 / milli_days))


def battery_days(day: Day, capacity_mah: float, voltage_v: float) -> Interval:
    """Returns how many days a battery lasts, with `BATTERY_USABLE` of its printed capacity.

    Args:
        day: What one day draws; more than nothing.
        capacity_mah: As printed on the battery, in mAh.
        voltage_v: Its mean voltage.
    """
    joules = capacity_mah * voltage_v * JOULES_PER_MAH_AND_VOLT
    value, low, high = (joules * usable for usable in BATTERY_USABLE)
    return Interval(value / day.energy_j.value, low / day.energy_j.high, high / day.energy_j.low)
