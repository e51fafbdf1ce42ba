"""From counted instructions to cycles, time and energy on a target, each with its interval."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Quantity, Target
from rct_tflite.spec.target_checks import LARGEST_VOLTAGE

HZ_PER_MHZ = 1e6
JOULES_PER_CYCLE = 1e-9
"""1 mW per MHz: 1e-3 J/s over 1e6 cycles/s."""
MICRO = 1e-6
NANO = 1e-9
DROPPED_LINEAR = 0.05
"""Part by which the current of a linear regulator changes between supplies: 206 to 208 uA/MHz were measured at
1.8 V and 3.0 V, and a board's jumpers move more than that."""
MOST_WAITING = 0.19
"""Part of its cycles that a network waits for the flash at most: a network of fully connected layers on an STM32L4R5
at full clock, twice the 9.5 % that reading twice as much at once saves (MLPerf Tiny v1.1, X-CUBE-AI 8.0 and 8.1)."""


@dataclass(frozen=True)
class Interval:
    """A non-negative number and the interval that it is believed to lie in."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        """Adds: the ends add up, so the errors need not be independent."""
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def scaled(self, factor: float) -> "Interval":
        """Multiplies by an exact number."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def widened(self, low: float, high: float) -> "Interval":
        """Multiplies by a number that is believed to lie in `low` to `high`, around 1."""
        return Interval(self.value, self.low * low, self.high * high)


ZERO = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """What a number of instructions costs on a target.

    Attributes:
        cycles: Core clock cycles.
        time_s: Seconds at the target's clock.
        energy_j: Joules drawn from the supply while computing, and while writing flash where the work does.
            Waiting is not in it.
    """

    cycles: Interval
    time_s: Interval
    energy_j: Interval

    def __add__(self, other: "Estimate") -> "Estimate":
        """Adds two pieces of work that follow each other."""
        return Estimate(self.cycles + other.cycles, self.time_s + other.time_s, self.energy_j + other.energy_j)

    def scaled(self, count: float) -> "Estimate":
        """Returns the cost of doing it `count` times."""
        return Estimate(self.cycles.scaled(count), self.time_s.scaled(count), self.energy_j.scaled(count))

    def widened(self, low: float, high: float) -> "Estimate":
        """Returns the cost of work whose amount is itself uncertain, by the factors `low` to `high`."""
        return Estimate(
            self.cycles.widened(low, high), self.time_s.widened(low, high), self.energy_j.widened(low, high)
        )


NOTHING = Estimate(ZERO, ZERO, ZERO)


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        instructions: (op class of `spec.target.OP_CLASSES`, executed instructions).
        flash_written: Bytes programmed into flash, each erased before.
        external_read: Bytes read from external memory.
    """

    instructions: tuple[tuple[str, int], ...]
    flash_written: int = 0
    external_read: int = 0


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
    return _computing(target, instructions, target.cycles_per_instruction, None)


def estimate_work(target: Target, work: Work) -> Estimate:
    """Estimates work that is known by op class: each has its own cycles per instruction and power.

    A class that the target says nothing of takes the mean over all kernels. Bytes written to flash and read from
    external memory add time and energy of their own.

    Args:
        target: The target, whose numbers carry their intervals.
        work: Instructions by op class, and bytes.

    Raises:
        TargetError: If the work writes flash or reads external memory, and the target does not say what that costs.
    """
    cpi, power = dict(target.op_cpi), dict(target.op_power)
    total = sum_estimates(
        _computing(target, count, cpi.get(name, target.cycles_per_instruction), power.get(name))
        for name, count in work.instructions
    )
    if work.flash_written:
        total += writing(target, work.flash_written)
    if work.external_read:
        total += _reading(target, work.external_read)
    return total


def writing(target: Target, count: int) -> Estimate:
    """Estimates erasing and programming flash: whole erase units, and whole write units within them.

    Raises:
        TargetError: If the target does not say what that costs.
    """
    costs = target.writing
    if costs is None:
        raise TargetError(
            f"Target '{target.name}' does not say what writing its flash costs. Expected flash.erase_bytes, "
            "flash.write_bytes and their costs in its file. Received: none. Add them to a target file of your own."
        )
    erased = -(-count // costs.erase_bytes) * costs.erase_bytes
    written = -(-count // costs.write_bytes) * costs.write_bytes
    energy = _interval(costs.erase_uj_per_byte).scaled(erased) + _interval(costs.write_uj_per_byte).scaled(written)
    time = _interval(costs.erase_us_per_byte).scaled(erased) + _interval(costs.write_us_per_byte).scaled(written)
    return Estimate(ZERO, time.scaled(MICRO), energy.scaled(MICRO))


def sum_estimates(parts: Iterable[Estimate]) -> Estimate:
    """Adds estimates of work that follows each other."""
    total = NOTHING
    for part in parts:
        total += part
    return total


def at_operating_point(target: Target, clock_mhz: float | None, voltage_v: float | None) -> Target:
    """Returns the target at another clock or supply.

    At another supply a linear regulator keeps the current, so power scales with the voltage, and a switched one
    keeps the power; the interval of the power widens by a twentieth of either. The power per MHz is taken as the
    same at every clock: below the full clock the share that does not scale with it makes it larger, so the upper
    end grows with the square root of the ratio of the clocks. The cycles stay, as they do in networks of convolutions
    (to 0.5 % between 60 and 160 MHz on an STM32U575); where the target tells its wait states, the lower end falls by
    what those saved at the slower clock may hide.

    Args:
        target: The target.
        clock_mhz: Core clock; None to leave it.
        voltage_v: Supply; None to leave it.

    Raises:
        TargetError: If the clock is faster than the part, or the target does not know its own supply.
    """
    power = target.active_mw_per_mhz
    if voltage_v is not None:
        power = _at_supply(target, voltage_v)
        target = dataclasses.replace(target, voltage_v=_given(voltage_v))
    if clock_mhz is not None:
        fastest = (target.clock_max_mhz or target.clock_mhz).high
        if not 0 < clock_mhz <= fastest:
            raise TargetError(
                f"Target '{target.name}' cannot run at this clock. Expected above 0, at most {fastest:g} MHz. "
                f"Received: {clock_mhz:g} MHz. Choose a clock of the part."
            )
        slower = max(target.clock_mhz.value / clock_mhz, 1.0)
        power = dataclasses.replace(power, high=power.high * math.sqrt(slower))
        target = dataclasses.replace(_with_fewer_waits(target, clock_mhz), clock_mhz=_given(clock_mhz))
    return dataclasses.replace(target, active_mw_per_mhz=power)


def _with_fewer_waits(target: Target, clock_mhz: float) -> Target:
    """Returns the target with the lower ends of its cycles where they may be at a slower clock."""
    timing = target.timing
    if timing is None or timing.wait_states == 0:
        return target
    waits = min(math.ceil(clock_mhz / timing.zero_wait_mhz.value) - 1, timing.wait_states)
    least = 1 - MOST_WAITING * (1 - waits / timing.wait_states)

    def lowered(cycles: Quantity) -> Quantity:
        return dataclasses.replace(cycles, low=cycles.low * least)

    return dataclasses.replace(
        target,
        cycles_per_instruction=lowered(target.cycles_per_instruction),
        op_cpi=tuple((name, lowered(cycles)) for name, cycles in target.op_cpi),
    )


def _at_supply(target: Target, voltage_v: float) -> Quantity:
    known = "none there" if target.voltage_v is None else f"{target.voltage_v.value:g} there"
    if target.voltage_v is None or not 0 < voltage_v <= LARGEST_VOLTAGE:
        raise TargetError(
            f"Cannot move target '{target.name}' to this supply. Expected volts above 0, at most "
            f"{LARGEST_VOLTAGE:g}, and voltage_v in the target's file. Received: {voltage_v:g} V, {known}. "
            "Give volts, or add voltage_v to a file of your own."
        )
    factor = voltage_v / target.voltage_v.value if target.linear_regulator else 1.0
    power = target.active_mw_per_mhz
    return dataclasses.replace(
        power,
        value=power.value * factor,
        low=power.low * factor * (1 - DROPPED_LINEAR),
        high=power.high * factor * (1 + DROPPED_LINEAR),
    )


def _given(value: float) -> Quantity:
    return Quantity(value, value, value, "derived", "Given by the user.")


def _computing(target: Target, instructions: int, cpi: Quantity, power: Quantity | None) -> Estimate:
    if instructions < 0:
        raise ValueError(f"A count of instructions is at least 0. Received: instructions={instructions}.")
    cycles = _times(Interval(instructions, instructions, instructions), cpi)
    energy = _times(cycles, target.active_mw_per_mhz).scaled(JOULES_PER_CYCLE)
    return Estimate(
        cycles=cycles,
        time_s=_seconds(cycles, target.clock_mhz),
        energy_j=energy if power is None else _times(energy, power),
    )


def _reading(target: Target, count: int) -> Estimate:
    cost = target.external_nj_per_byte
    if cost is None:
        raise TargetError(
            f"Target '{target.name}' does not say what reading external memory costs. Expected "
            f"external.read_nj_per_byte. Received: none, with {count} bytes to read. Add it to a file of your own."
        )
    return Estimate(ZERO, ZERO, _interval(cost).scaled(count * NANO))


def _interval(quantity: Quantity) -> Interval:
    return Interval(quantity.value, quantity.low, quantity.high)


def _times(left: Interval, right: Quantity) -> Interval:
    return Interval(left.value * right.value, left.low * right.low, left.high * right.high)


def _seconds(cycles: Interval, clock_mhz: Quantity) -> Interval:
    per_mhz = Interval(cycles.value / clock_mhz.value, cycles.low / clock_mhz.high, cycles.high / clock_mhz.low)
    return per_mhz.scaled(1.0 / HZ_PER_MHZ)
