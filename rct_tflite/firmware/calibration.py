"""Writes the benchmark firmware that a user's board is calibrated with, and counts the instructions of its phases."""

import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.emulator.finder import Emulator, find_emulator
from rct_tflite.energy.calibration.schedule import COMPUTE, FLASH_ERASE, SCHEDULE_FILE, Phase, Schedule
from rct_tflite.errors import EmulatorError, TargetError, ToolchainError
from rct_tflite.firmware.instructions import op_class
from rct_tflite.firmware.project import (
    CORTEX_M,
    FIRMWARE_FOLDER,
    LINKER_TEMPLATE,
    copy_contents,
    emulated,
    linker_script,
    port_of,
    render,
)
from rct_tflite.firmware.session import kernel_instructions
from rct_tflite.firmware.toolchain import Toolchain, find_toolchain
from rct_tflite.spec.target import Target
from rct_tflite.spec.templates import templates_folder

IMAGE = Path("build", "calibration.elf")
PHASES_FILE = Path("calibration", "bench", "phases.def")
BOARD_LINKER_SCRIPT = Path("board", "link.ld")
PORTS = "calibration_ports"
"""Folder of what boards need, by the name of the target; without one, of what is to be filled in."""
ANY_PORT, STM32_PORT = "any.h", "stm32.h"
PORT_FILE = Path("board", "port.h")
INCLUDE_FOLDERS = ("bench", "runtime", "runtime/kernels", "ports/cortex-m")
DEFAULT_FLASH_BYTES = 4096
DEFAULT_FLASH_S_PER_BYTE = 1e-5
"""Of erasing or writing, where the target does not tell: 82 us for 8 bytes of an STM32L4."""
COUNTED_ITERATIONS = 8
WITHOUT_CYCLE_COUNTER = ("cortex-m0plus",)

_PHASE = re.compile(r"^RCT_PHASE\((\w+), (\w+), (\d+)\)$", re.MULTILINE)

OWN_FUNCTIONS = ("rct_phase", "rct_port_", "rct_board_", "rct_reset")
"""The benchmark's own, around the kernels."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the user chose.

    Attributes:
        seconds: Usual length of a phase.
        sleep_s: Sleep before, between and after the phases.
        flash: Whether the board's port erases and writes flash.
        toolchain: "auto", "gcc" or "zig".
        emulator: "auto", "qemu" or "unicorn".
    """

    seconds: float = 1.0
    sleep_s: float = 0.2
    flash: bool = False
    toolchain: str = "auto"
    emulator: str = "auto"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark firmware that was written.

    Attributes:
        folder: Where it lies.
        image: Of the board as generated: it neither marks nor prints where port.h is still to be filled in.
        schedule: What it does.
    """

    folder: Path
    image: Path
    schedule: Schedule


def write_benchmark(folder: Path, target: Target, options: BenchmarkOptions) -> Benchmark:
    """Writes the project into a folder, counts its phases on the emulated core, and builds it.

    Args:
        folder: An existing, empty folder.
        target: The board: its memory, clock, and the cycles per instruction that are believed so far.
        options: What the user chose.

    Raises:
        TargetError: If there are no compiler flags or no emulated board for the core.
        ToolchainError: If no compiler is found, or it refuses the code.
        EmulatorError: If no emulator is found, or the firmware fails on it.
    """
    if port_of(target.core) != CORTEX_M:
        raise TargetError(
            f"The benchmark starts on a Cortex-M only. Expected a target with such a core. Received: {target.core}. "
            "Measure the board with a workload of your own: see 'rct-tflite calibrate --help'."
        )
    compiler = find_toolchain(target.core, options.toolchain)
    firmware = folder / FIRMWARE_FOLDER
    _write_sources(firmware, target)
    phases = _phases(target, options)
    schedule = _schedule(target, options, compiler, phases)
    _write_schedule(firmware, target, schedule, phases)
    counts = _count(firmware, compiler, target, options.emulator, phases)
    timed = tuple(_timed(phase, counts[phase.name], target, options) for phase in phases)
    schedule = _schedule(target, options, compiler, timed)
    _write_schedule(firmware, target, schedule, timed)
    schedule.write(folder / SCHEDULE_FILE)
    image = folder / IMAGE
    compiler.build(
        _sources(firmware, "main.c"), _includes(firmware), image, linker_script=firmware / BOARD_LINKER_SCRIPT
    )
    return Benchmark(folder, image, schedule)


def _write_sources(firmware: Path, target: Target) -> None:
    templates = templates_folder()
    for source, part in (("runtime", "runtime"), ("ports/cortex-m", "ports/cortex-m")):
        copy_contents(templates / source, firmware / part)
    copy_contents(templates / "calibration", firmware)
    shutil.copyfile(templates / "app" / "rct_port.h", firmware / "bench" / "rct_port.h")
    _copy_port(templates / PORTS, firmware, target)
    link = templates / LINKER_TEMPLATE
    render(link, firmware / linker_script(target.core), target=emulated(target))
    render(link, firmware / BOARD_LINKER_SCRIPT, target=target)
    (firmware / "README.md").rename(firmware.parent / "README.md")


def _copy_port(ports: Path, firmware: Path, target: Target) -> None:
    known = ports / f"{target.name}.h"
    port = known if has_port(target) else ports / ANY_PORT
    shutil.copyfile(port, firmware / PORT_FILE)
    if f'"{STM32_PORT}"' in port.read_text(encoding="utf-8"):
        shutil.copyfile(ports / STM32_PORT, firmware / PORT_FILE.with_name(STM32_PORT))


def has_port(target: Target) -> bool:
    """Returns whether the benchmark comes with the registers of a target's board."""
    return (templates_folder() / PORTS / f"{target.name}.h").is_file()


def _phases(target: Target, options: BenchmarkOptions) -> tuple[Phase, ...]:
    """Returns the phases of the runtime's list, with one iteration and nothing counted."""
    text = (templates_folder() / PHASES_FILE).read_text(encoding="utf-8")
    size = target.writing.erase_bytes if target.writing else DEFAULT_FLASH_BYTES
    return tuple(
        Phase(
            name,
            kind,
            0 if kind != COMPUTE and not options.flash else 1,
            (),
            0 if kind == COMPUTE else size,
            int(percent) / 100 * options.seconds,
        )
        for name, kind, percent in _PHASE.findall(text)
    )


def _schedule(target: Target, options: BenchmarkOptions, compiler: Toolchain, phases: tuple[Phase, ...]) -> Schedule:
    taken = tuple(phase for phase in phases if phase.iterations)
    name = f"{compiler.name} {compiler.version}"
    return Schedule(target.name, target.clock_mhz.value, name, options.sleep_s, taken)


def _write_schedule(firmware: Path, target: Target, schedule: Schedule, phases: tuple[Phase, ...]) -> None:
    render(
        templates_folder() / "calibration" / "schedule.h.j2",
        firmware / "bench" / "schedule.h",
        target=target,
        clock_hz=round(schedule.clock_mhz * 1e6),
        sleep_ms=round(schedule.sleep_s * 1e3),
        flash_bytes=max(phase.bytes for phase in phases),
        has_cycle_counter=target.core not in WITHOUT_CYCLE_COUNTER,
        longest_s=int(2 * max(phase.seconds for phase in phases)) + 1,
        phases=phases,
    )


def _sources(firmware: Path, main: str) -> list[Path]:
    parts = [firmware / "bench" / main, firmware / "bench" / "phases.c", firmware / "runtime" / "memory.c"]
    parts += sorted((firmware / "runtime" / "kernels").glob("*.c")) + sorted((firmware / "ports/cortex-m").glob("*.c"))
    return parts if main == "count.c" else [*parts, firmware / "board" / "board.c"]


def _includes(firmware: Path) -> list[Path]:
    return [firmware / part for part in INCLUDE_FOLDERS]


def _count(
    firmware: Path, compiler: Toolchain, target: Target, emulator_name: str, phases: tuple[Phase, ...]
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Returns for each phase the instructions of one iteration by op class: the difference of many and none."""
    image = firmware.parent / "build" / "count.elf"
    compiler.build(
        _sources(firmware, "count.c"), _includes(firmware), image, linker_script=firmware / linker_script(target.core)
    )
    emulator = find_emulator(target.core, emulator_name, image)
    setup = _functions(emulator, image, 0, 0)
    found = {}
    for number, phase in enumerate(phases):
        counted = _functions(emulator, image, number, COUNTED_ITERATIONS)
        classes: Counter[str] = Counter()
        for name, count in counted.items():
            classes[_class_of(name)] += count - setup.get(name, 0)
        found[phase.name] = tuple(
            (name, count / COUNTED_ITERATIONS) for name, count in sorted(classes.items()) if count > 0
        )
    image.unlink()
    return found


def _class_of(function: str) -> str:
    """What is no kernel, such as the loop around it or the C library, moves data and controls."""
    is_kernel = function.startswith("rct_") and not function.startswith(OWN_FUNCTIONS)
    return op_class(function) if is_kernel else "move"


def _functions(emulator: Emulator, image: Path, phase: int, iterations: int) -> Mapping[str, int]:
    profile = emulator.profile(image, bytes([phase, iterations]))
    if profile.run.exit_code != 0:
        raise EmulatorError(
            f"The benchmark failed on {profile.run.emulator}. Expected exit code 0 of phase {phase}. "
            f"Received: {profile.run.exit_code}. {profile.run.console}"
        )
    return kernel_instructions(profile)


def _timed(phase: Phase, counts: tuple[tuple[str, float], ...], target: Target, options: BenchmarkOptions) -> Phase:
    """Returns the phase with as many iterations as fill its time."""
    if phase.kind != COMPUTE and not options.flash:
        return phase
    cpi = dict(target.op_cpi)
    cycles = sum(count * cpi.get(name, target.cycles_per_instruction).value for name, count in counts)
    seconds = cycles / (target.clock_mhz.value * 1e6)
    if phase.kind != COMPUTE and target.writing is not None:
        costs = target.writing
        per_byte = costs.erase_us_per_byte if phase.kind == FLASH_ERASE else costs.write_us_per_byte
        seconds += per_byte.value * 1e-6 * phase.bytes
    elif phase.kind != COMPUTE:
        seconds += DEFAULT_FLASH_S_PER_BYTE * phase.bytes
    if seconds <= 0:
        raise ToolchainError(f"Phase {phase.name} executes no instructions. Expected some. Report this compiler.")
    iterations = max(round(phase.seconds / seconds), 1)
    return Phase(phase.name, phase.kind, iterations, counts, phase.bytes, iterations * seconds)
