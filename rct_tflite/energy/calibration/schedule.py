"""What the benchmark firmware does, in which order, and how many instructions each phase executes."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rct_tflite.errors import DataError

FORMAT = 1
SCHEDULE_FILE = "schedule.json"

COMPUTE, FLASH_WRITE, FLASH_ERASE = "compute", "flash_write", "flash_erase"
KINDS = (COMPUTE, FLASH_WRITE, FLASH_ERASE)


@dataclass(frozen=True)
class Phase:
    """A stretch of the benchmark, between two stretches of sleep.

    Attributes:
        name: Of the phase.
        kind: `COMPUTE`, `FLASH_WRITE` or `FLASH_ERASE`.
        iterations: How often the device repeats the work.
        instructions: Op class and executed instructions of one iteration, as counted by the emulator.
        bytes: Of flash that one iteration writes or erases; 0 where it computes.
        seconds: That the phase is expected to last by the numbers of the target so far.
    """

    name: str
    kind: str
    iterations: int
    instructions: tuple[tuple[str, float], ...]
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Schedule:
    """The whole benchmark.

    Attributes:
        target: Name of the target that it was made for.
        clock_mhz: Core clock that the board is to run at.
        compiler: That counted instructions are true for.
        sleep_s: Seconds of sleep before, between and after the phases.
        phases: In their order.
    """

    target: str
    clock_mhz: float
    compiler: str
    sleep_s: float
    phases: tuple[Phase, ...]

    def write(self, path: Path) -> None:
        """Writes the schedule as JSON. The same schedule gives the same bytes."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n", encoding="utf-8")


def read_schedule(path: Path) -> Schedule:
    """Reads what `Schedule.write()` wrote.

    Raises:
        DataError: If it is no schedule, or holds impossible numbers.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        phases = tuple(_phase(phase) for phase in values.pop("phases"))
        schedule = Schedule(phases=phases, **values)
        if not phases or not schedule.clock_mhz > 0 or not schedule.sleep_s > 0:
            raise ValueError("no phases, or a clock or sleep of 0")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no schedule of the benchmark firmware. Expected the {SCHEDULE_FILE} that "
            f"'rct-tflite calibrate firmware' wrote. Received: {error}. Give the folder of that firmware."
        ) from error
    return schedule


def _phase(values: Mapping[str, object]) -> Phase:
    counts = tuple((str(name), float(count)) for name, count in values["instructions"])  # type: ignore[attr-defined]
    phase = Phase(**{**values, "instructions": counts})  # type: ignore[arg-type]
    numbers = (phase.iterations, phase.seconds, *(count for _, count in counts))
    if phase.kind not in KINDS or not all(0 < number < math.inf for number in numbers) or phase.bytes < 0:
        raise ValueError(f"phase {phase}")
    return phase
