"""The serial line of the benchmark firmware: what its own cycle counter says of each phase."""

import re
from pathlib import Path

from rct_tflite.energy.calibration.trace import Workload
from rct_tflite.errors import DataError

CLOCK = re.compile(r"rct calibration clock_hz (\d+)")
_PHASE = re.compile(r"rct phase (\w+) iterations (\d+) cycles (\d+)(?! failed)\s*$", re.MULTILINE)


def read_serial(path: Path) -> tuple[Workload, ...]:
    """Reads a log of the serial line: the latency of one iteration of each phase.

    Raises:
        DataError: If it tells no clock, or no phase with a count of cycles.
    """
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r", "")
    clock = CLOCK.search(text)
    found = [(name, int(iterations), int(cycles)) for name, iterations, cycles in _PHASE.findall(text)]
    rows = [(name, iterations, cycles) for name, iterations, cycles in found if iterations and cycles]
    if clock is None or not int(clock.group(1)) or not rows:
        raise DataError(
            f"{path.name} tells no cycles. Expected 'rct calibration clock_hz N' and lines such as "
            f"'rct phase dense iterations 10 cycles 1000'. Received: {len(found)} phases, all without cycles. "
            "A core without a cycle counter needs the trace of a power meter."
        )
    hertz = int(clock.group(1))
    return tuple(Workload(name, cycles / iterations / hertz, float("nan")) for name, iterations, cycles in rows)
