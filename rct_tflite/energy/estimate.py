"""From counted instructions to cycles, time and energy on a target, each with its interval."""

from dataclasses import dataclass

from rct_tflite.spec.target import Quantity, Target

HZ_PER_MHZ = 1e6
JOULES_PER_CYCLE = 1e-9
"""1 mW per MHz: 1e-3 J/s over 1e6 cycles/s."""


@dataclass(frozen=True)
class Interval:
    """A non-negative number and the interval that it is believed to lie in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a number of instructions costs on a target.

    Attributes:
        cycles: Core clock cycles.
        time_s: Seconds at the target's clock.
        energy_j: Joules drawn from the supply while computing. Waiting and flash writes are not in it.
    """

    cycles: Interval
    time_s: Interval
    energy_j: Interval


def estimate(target: Target, instructions: int) -> Estimate:
    """Estimates cycles, time and energy of executing `instructions` on a target.

    `cycles = instructions * cycles_per_instruction`, `time = cycles / clock`, and
    `energy = time * active_mw_per_mhz * clock`. The clock cancels in the energy, so its interval widens the time
    only. The ends of an interval are the products of the ends that make them smallest and largest: they hold
    whether or not the errors of the factors are independent.

    Args:
        target: The target, whose numbers carry their intervals.
        instructions: Executed instructions, as counted by the emulator; at least 0.

    Returns:
        The estimate, in cycles, seconds and joules.

    Example:
        >>> from rct_tflite.spec.target_file import find_target
        >>> estimate(find_target("cortex-m7"), 1_000_000).cycles
        Interval(value=900000.0, low=600000.0, high=1500000.0)
    """
    if instructions < 0:
        raise ValueError(f"A count of instructions is at least 0. Received: instructions={instructions}.")
    cycles = _times(Interval(instructions, instructions, instructions), target.cycles_per_instruction)
    return Estimate(
        cycles=cycles,
        time_s=_seconds(cycles, target.clock_mhz),
        energy_j=_scaled(_times(cycles, target.active_mw_per_mhz), JOULES_PER_CYCLE),
    )


def _times(left: Interval, right: Quantity) -> Interval:
    return Interval(left.value * right.value, left.low * right.low, left.high * right.high)


def _seconds(cycles: Interval, clock_mhz: Quantity) -> Interval:
    return _scaled(
        Interval(cycles.value / clock_mhz.value, cycles.low / clock_mhz.high, cycles.high / clock_mhz.low),
        1.0 / HZ_PER_MHZ,
    )


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)
