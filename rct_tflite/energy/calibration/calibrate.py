"""The whole way from a trace or a table to the numbers of a user's own board."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rct_tflite.energy.calibration.fit import Coefficient, Fit, Observation, Point, fit_target
from rct_tflite.energy.calibration.phases import Measurement, PhaseMeasurement, find_phases
from rct_tflite.energy.calibration.schedule import COMPUTE, FLASH_ERASE, Phase, Schedule
from rct_tflite.energy.calibration.trace import Trace, Workload, negative_notes, without_zero
from rct_tflite.errors import DataError
from rct_tflite.spec.target import Quantity, Target

TABLE_SD = 0.005
"""Relative standard deviation of a number in a table: it does not say."""
FAR_OFF = 0.1
"""A phase that differs so much from the fit is told."""
FLASH_REACH = 0.1
"""Relative reach of what was measured of the flash: it depends on the data, and on the temperature."""


@dataclass(frozen=True)
class TraceOptions:
    """How to read the phases of a trace.

    Attributes:
        input_bit: Digital input of the marks; None to find it.
        use_marks: False to ignore digital inputs.
        zero_s: Seconds at the start with the board disconnected: the meter's zero.
    """

    input_bit: int | None = None
    use_marks: bool = True
    zero_s: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        source: What was measured, for the target file.
        clock_mhz: Core clock of the board.
        coefficients: Fitted numbers, named as in a target file.
        points: Each phase or workload beside the fit.
        sleep_mw: Power between the phases; NaN if not measured.
        notes: What a person should know.
    """

    source: str
    clock_mhz: float
    coefficients: tuple[Coefficient, ...]
    points: tuple[Point, ...]
    sleep_mw: float
    notes: tuple[str, ...]

    @property
    def stayed(self) -> tuple[str, ...]:
        """Names of the numbers that the data do not tell."""
        return tuple(coefficient.name for coefficient in self.coefficients if not coefficient.is_fitted)


def calibrate_trace(target: Target, schedule: Schedule, trace: Trace, options: TraceOptions) -> Calibration:
    """Calibrates with a trace of the benchmark firmware.

    Args:
        target: What is believed so far.
        schedule: Of the firmware.
        trace: The recording of one whole benchmark.
        options: How to read it.

    Raises:
        DataError: If the trace does not show the benchmark, or contradicts itself or the target.
    """
    trace = without_zero(trace, options.zero_s)
    measured = find_phases(trace, schedule, options.input_bit, options.use_marks)
    found = {phase.name: phase for phase in schedule.phases}
    computing = [phase for phase in measured.phases if found[phase.name].kind == COMPUTE]
    observations = [_observation(found[phase.name], phase, measured) for phase in computing]
    source = f"Measured with the benchmark firmware: {trace.source}, {schedule.clock_mhz:g} MHz, {schedule.compiler}."
    fit = fit_target(target, schedule.clock_mhz, observations, source)
    more = [
        coefficient
        for phase in measured.phases
        if found[phase.name].kind != COMPUTE
        for coefficient in _flash(found[phase.name], phase, fit, schedule.clock_mhz, source)
    ]
    if trace.volts is not None:
        supply = Quantity(trace.volts, 0.99 * trace.volts, 1.01 * trace.volts, "measured", source)
        more.append(Coefficient("voltage_v", supply, 1.0))
    notes = [*negative_notes(trace), *measured.notes]
    if abs(fit.drift) >= FAR_OFF / 10:
        notes.append(f"the meter's gain drifts by {fit.drift:+.1%} over the benchmark: taken off")
    return _calibration(fit, more, source, schedule.clock_mhz, measured.sleep_w * 1e3, notes)


def calibrate_table(
    target: Target, schedule: Schedule | None, workloads: Sequence[Workload], clock_mhz: float, source: str
) -> Calibration:
    """Calibrates with a table of workloads.

    Args:
        target: What is believed so far.
        schedule: Of the benchmark firmware, for workloads that are named as its phases; None without.
        workloads: The rows.
        clock_mhz: Core clock of the board.
        source: The file.

    Raises:
        DataError: If nothing can be fitted, or the numbers are implausible.
    """
    known = {} if schedule is None else {phase.name: phase.instructions for phase in schedule.phases}
    observations = []
    for row in workloads:
        instructions = row.instructions or known.get(row.name, ())
        power = row.energy_j / row.latency_s  # NaN where either is
        observations.append(
            Observation(
                row.name,
                tuple((name or "all", count) for name, count in instructions),
                row.latency_s,
                TABLE_SD,
                power,
                TABLE_SD,
            )
        )
    source = f"Measured workloads: {source}, {clock_mhz:g} MHz."
    fit = fit_target(target, clock_mhz, observations, source)
    unknown = [point.name for point in observations if not point.instructions]
    notes = [f"instructions not known, used for the power alone: {', '.join(unknown)}"] if unknown else []
    return _calibration(fit, [], source, clock_mhz, math.nan, notes)


def _observation(phase: Phase, found: PhaseMeasurement, measured: Measurement) -> Observation:
    return Observation(
        name=phase.name,
        instructions=phase.instructions,
        seconds=found.seconds / phase.iterations,
        seconds_sd=found.seconds_sd / found.seconds,
        power_w=found.power_w,
        power_sd=found.power_sd / found.power_w,
        place=(found.begin_s + found.seconds / 2) / measured.length_s,
    )


def _flash(phase: Phase, found: PhaseMeasurement, fit: Fit, clock_mhz: float, source: str) -> list[Coefficient]:
    """Returns time and energy per byte of writing or erasing, less what the loop around it computes."""
    deed = "erase" if phase.kind == FLASH_ERASE else "write"
    size = phase.bytes * phase.iterations
    cpi = {c.name.removeprefix("cpi."): c.quantity.value for c in fit.coefficients if c.name.startswith("cpi.")}
    cycles = sum(count * cpi.get(name, 1.0) for name, count in phase.instructions) * phase.iterations
    seconds = found.seconds - cycles / (clock_mhz * 1e6)
    if seconds <= 0:
        raise DataError(
            f"Phase {phase.name} is shorter than the instructions of its loop take. Expected more than "
            f"{cycles / (clock_mhz * 1e6):.3g} s. Received: {found.seconds:.3g} s. Does the port write the flash?"
        )
    return [
        Coefficient(f"flash.{deed}_{unit}_per_byte", _measured(value, source), 1.0)
        for unit, value in (("us", seconds / size * 1e6), ("uj", seconds * found.power_w / size * 1e6))
    ]


def _measured(value: float, source: str) -> Quantity:
    return Quantity(value, value * (1 - FLASH_REACH), value * (1 + FLASH_REACH), "measured", source)


def _calibration(
    fit: Fit, more: Sequence[Coefficient], source: str, clock_mhz: float, sleep_mw: float, notes: list[str]
) -> Calibration:
    for point in fit.points:
        for what, value, predicted in (
            ("time", point.seconds, point.seconds_predicted),
            ("power", point.power_w, point.power_predicted),
        ):
            if abs(value / predicted - 1) > FAR_OFF:
                notes.append(
                    f"the {what} of {point.name} is {value / predicted - 1:+.0%} off the fit: another workload in its "
                    "place, a wrong mark, or code in slow memory"
                )
    return Calibration(source, clock_mhz, (*fit.coefficients, *more), fit.points, sleep_mw, tuple(notes))
