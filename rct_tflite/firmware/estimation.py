"""Everything that `rct-tflite estimate` does with the instructions: cost on the target, jobs, days, memory."""

from dataclasses import dataclass
from pathlib import Path

from rct_tflite.energy.estimate import Estimate, Interval, Work, at_operating_point, estimate_work
from rct_tflite.energy.jobs import Day, DutyCycle, FineTuning, battery_days, estimate_day, estimate_fine_tuning
from rct_tflite.errors import DataError, TargetError
from rct_tflite.firmware.instructions import AUTO, Instructions, instructions_of
from rct_tflite.firmware.manifest import Project, read_project
from rct_tflite.firmware.run import Memory
from rct_tflite.planning.memory_map import MemoryMap, Piece, map_memory
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target

SECONDS_PER_DAY = 86400.0
MILLI_PER_MICRO = 1e-3
SLEEP_SPREAD = 1.2
"""The sleep power that a user gives is believed to a fifth."""


@dataclass(frozen=True)
class Phase:
    """A part of the work, such as the backward pass.

    Attributes:
        name: For people.
        classes: (op class, instructions).
        instructions: Of all classes.
        cost: On the target.
    """

    name: str
    classes: tuple[tuple[str, int], ...]
    instructions: Interval
    cost: Estimate


@dataclass(frozen=True)
class EstimateOptions:
    """What the user chose; None leaves a question unasked.

    Attributes:
        target: Another target than that of the export, of the same core.
        clock_mhz: Core clock.
        voltage_v: Supply.
        tuning: A job of learning, its `checkpoint_bytes` filled in here.
        per_day: Inferences a day.
        duty: Part of the time that is spent with inferences, instead of `per_day`.
        tunings_per_day: Jobs of learning a day.
        sleep_uw: Power of the board while waiting, in uW; None for that of the part alone, if the target tells.
        battery_mah: Printed capacity.
        battery_v: Mean voltage of the battery.
        toolchain: "auto", "gcc" or "zig".
        emulator: "auto", "qemu" or "unicorn".
        counts: Where instructions come from: one of `instructions.SOURCES`.
    """

    target: str | None = None
    clock_mhz: float | None = None
    voltage_v: float | None = None
    tuning: FineTuning | None = None
    per_day: float | None = None
    duty: float | None = None
    tunings_per_day: float = 0.0
    sleep_uw: float | None = None
    battery_mah: float | None = None
    battery_v: float = 3.0
    toolchain: str = "auto"
    emulator: str = "auto"
    counts: str = AUTO


@dataclass(frozen=True, eq=False)
class ProjectEstimate:
    """What an exported folder costs on a target; None where nothing was asked.

    `sleeps_alone` says that the day counts the sleep of the part alone, as the target tells it.
    """

    target: Target
    instructions: Instructions
    phases: tuple[Phase, ...]
    inference: Estimate
    step: Estimate
    tuning: Estimate | None
    day: Day | None
    battery_days: Interval | None
    memory: MemoryMap
    sleeps_alone: bool = False

    @property
    def instructions_inference(self) -> Interval:
        """Of one prediction."""
        return self.phases[0].instructions

    @property
    def instructions_step(self) -> Interval:
        """Of one training step, its prediction included."""
        return self.phases[0].instructions + self.phases[1].instructions


def estimate_project(folder: Path, options: EstimateOptions) -> ProjectEstimate:
    """Costs the instructions of an exported folder on a target, counted on the emulated core where that can be done.

    Args:
        folder: Of `rct-tflite export`.
        options: What the user chose.

    Raises:
        RCTError: If a file is wrong, the compiler or the emulator is missing, or an option cannot be.
    """
    project = read_project(folder)
    target = at_operating_point(_target(project, options.target), options.clock_mhz, options.voltage_v)
    _check(options, target)
    found = instructions_of(folder, project, options.counts, options.toolchain, options.emulator)
    phases = _phases(target, found)
    inference, step = phases[0].cost, phases[0].cost + phases[1].cost
    tuning = None
    if options.tuning is not None:
        saved = project.memory.parameter_bytes
        job = FineTuning(options.tuning.samples, options.tuning.epochs, options.tuning.checkpoints, saved)
        tuning = estimate_fine_tuning(target, step, job)
    day = _day(inference, tuning, options, target)
    life = None
    if day is not None and options.battery_mah is not None:
        life = battery_days(day, options.battery_mah, options.battery_v)
    return ProjectEstimate(
        target=target,
        instructions=found,
        phases=phases,
        inference=inference,
        step=step,
        tuning=tuning,
        day=day,
        battery_days=life,
        memory=_map(project, target, found.memory),
        sleeps_alone=day is not None and options.sleep_uw is None,
    )


def _check(options: EstimateOptions, target: Target) -> None:
    asks_for_day = options.per_day is not None or options.duty is not None
    if options.per_day is not None and options.duty is not None:
        raise DataError("Expected --per-day or --duty, as each gives the other. Received: both. Leave one out.")
    if asks_for_day and options.sleep_uw is None and target.sleep_uw is None:
        raise DataError(
            "A day cannot be estimated without the power of the waiting board. Expected --sleep-uw. Received: none. "
            "Measure it, or take the current of the chosen sleep mode from the data sheet, times the supply."
        )
    if options.battery_mah is not None and not asks_for_day:
        raise DataError("Battery life needs a day. Expected --per-day or --duty. Received: --battery alone. Add one.")
    if options.tunings_per_day and options.tuning is None:
        raise DataError("Expected --samples with --tunings-per-day. Received: none. Say how much is learnt.")


def _target(project: Project, name: str | None) -> Target:
    target = project.target if name is None else find_target(name)
    if target.core != project.target.core:
        raise TargetError(
            f"Instructions of one core say little of another. Expected a target with the core {project.target.core}. "
            f"Received: {target.name}, {target.core}. Export the model again with --target {target.name}."
        )
    return target


def _phases(target: Target, found: Instructions) -> tuple[Phase, ...]:
    """Costs the op classes; where instructions are estimated, their interval widens that of the cost."""
    phases = []
    for name, phase in (("forward", found.forward), ("backward and update", found.backward)):
        cost, total = estimate_work(target, Work(phase.classes)), phase.total
        if total.value:
            cost = cost.widened(total.low / total.value, total.high / total.value)
        phases.append(Phase(name, phase.classes, total, cost))
    return tuple(phases)


def _day(inference: Estimate, tuning: Estimate | None, options: EstimateOptions, target: Target) -> Day | None:
    if options.per_day is None and options.duty is None:
        return None
    per_day = options.per_day
    if per_day is None:
        per_day = (options.duty or 0.0) * SECONDS_PER_DAY / inference.time_s.value
    cycle = DutyCycle(per_day, _sleep_mw(options, target), options.tunings_per_day)
    return estimate_day(inference, tuning or inference.scaled(0.0), cycle)


def _sleep_mw(options: EstimateOptions, target: Target) -> Interval:
    if options.sleep_uw is not None:
        given = options.sleep_uw
        return Interval(given, given / SLEEP_SPREAD, given * SLEEP_SPREAD).scaled(MILLI_PER_MICRO)
    assert target.sleep_uw is not None  # checked
    return Interval(target.sleep_uw.value, target.sleep_uw.low, target.sleep_uw.high).scaled(MILLI_PER_MICRO)


def _map(project: Project, target: Target, memory: Memory) -> MemoryMap:
    flash = (Piece("weights", memory.weights_flash), Piece("code and tables", memory.code))
    ram = (
        Piece("arena", memory.arena),
        Piece("parameters", memory.parameters),
        Piece("state", memory.state),
        *(Piece(extra.name, extra.size) for extra in memory.extras),
        Piece("application", memory.application),
        Piece("stack", target.stack_bytes),
    )
    return map_memory(target, flash, ram, project.graph, project.plan)
