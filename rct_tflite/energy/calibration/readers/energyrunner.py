"""MLPerf Tiny: what EEMBC's EnergyRunner (rounds up to 1.2) and the Python runner (from 1.3) leave in a session.

`trace1-energy.bin`: byte 0xF1, float32 sample rate, float32 microjoules a sample, little-endian; beside it
`trace1-timestamps.json`, seconds: the boot, then start and stop of each window. `results.txt` and `results.json`
hold latency and energy of an inference, or what they follow from.
"""

import json
import re
from pathlib import Path
from statistics import median

import numpy as np

from rct_tflite.energy.calibration.trace import Digital, Floats, Trace, Workload, checked
from rct_tflite.errors import DataError

MAGIC = 0xF1
_HEAD = np.dtype([("magic", "u1"), ("rate", "<f4")])
SAMPLE_S = 1e-3
"""The Python runner's meters give one sample a millisecond."""

_ENERGY = re.compile(r"Energy/Inf\.?\s*:\s*([\d.]+)\s*uJ/inf")
_POWER = re.compile(r"\bPower\s*:\s*([\d.]+)\s*(u|m)W")
_PYTHON = re.compile(r"Per inference: time = ([\d.eE+-]+), energy = ([\d.eE+-]+)")


def read_energy_bin(path: Path) -> Trace:
    """Reads a trace of EnergyRunner; the windows of the timestamps beside it are its digital input 0.

    Raises:
        DataError: If it is damaged.
    """
    data = path.read_bytes()
    head = np.frombuffer(data[: _HEAD.itemsize].ljust(_HEAD.itemsize, b"\0"), _HEAD)[0]
    rate = float(head["rate"])
    if head["magic"] != MAGIC or not 0 < rate < 1e9:
        raise DataError(
            f"{path.name} is no trace of EnergyRunner. Expected byte 0xF1 and a sample rate. "
            f"Received: {data[:5].hex(' ')}. Take trace1-energy.bin of the session's folder."
        )
    body = data[_HEAD.itemsize :]
    power = np.frombuffer(body, "<f4", len(body) // 4).astype(np.float64) * 1e-6 * rate
    time_s = np.arange(len(power)) / rate
    stamps = path.with_name(path.name.replace("-energy.bin", "-timestamps.json"))
    digital = _windows(stamps, time_s) if stamps != path and stamps.is_file() else None
    return checked(Trace(time_s, power, digital, path.name))


def read_results_text(path: Path) -> tuple[Workload, ...]:
    """Reads `results.txt` of either runner: one row, the median of its windows.

    Raises:
        DataError: If it tells no energy.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    windows = [(float(time), float(energy)) for time, energy in _PYTHON.findall(text)]
    if not windows:
        energies = [float(energy) * 1e-6 for energy in _ENERGY.findall(text)]
        powers = [float(power) * {"u": 1e-6, "m": 1e-3}[prefix] for power, prefix in _POWER.findall(text)]
        # Windows and, at the end, their median: both lists have it.
        if len(energies) == len(powers) and all(power > 0 for power in powers):
            windows = [(energy / power, energy) for energy, power in zip(energies, powers, strict=True)]
    return (_workload(path, windows),)


def read_results_json(path: Path) -> tuple[Workload, ...]:
    """Reads `results.json` of the Python runner: one row, the median of its windows.

    Raises:
        DataError: If it is damaged, or no energy run.
    """
    windows = []
    try:
        for run in json.loads(path.read_text(encoding="utf-8")):
            power, iterations = run["power"], int(run["infer"]["iterations"])
            first, last = int(power["timestamps"][0][1]), int(power["timestamps"][-1][1])
            joules = float(np.sum(np.asarray(power["samples"][first:last], np.float64)))
            windows.append(((last - first) * SAMPLE_S / iterations, joules / iterations))
    except (OSError, KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(
            f"{path.name} is no result of an energy run. Expected runs with power.samples, power.timestamps and "
            f"infer.iterations. Received: {type(error).__name__}: {error}. Run the benchmark in energy mode."
        ) from error
    return (_workload(path, windows),)


def _workload(path: Path, windows: list[tuple[float, float]]) -> Workload:
    windows = [(time, energy) for time, energy in windows if time > 0 and energy > 0]
    if not windows:
        raise DataError(
            f"{path.name} tells no energy. Expected 'Energy/Inf. : N uJ/inf.' with 'Power : N uW', or "
            "'Per inference: time = ..., energy = ...'. Received: none. Take results.txt of an energy run."
        )
    latency, energy = (median(values) for values in zip(*windows, strict=True))
    return Workload(path.parent.name or path.stem, latency, energy)


def _windows(path: Path, time_s: Floats) -> Digital:
    try:
        stamps = [float(second) for second in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path.name} is damaged. Expected a list of seconds. Received: {error}.") from error
    pairs = stamps[1:]
    if not pairs or len(pairs) % 2 or pairs != sorted(pairs):
        raise DataError(
            f"{path.name} does not hold windows. Expected the boot, then start and stop of each window, rising. "
            f"Received: {len(stamps)} timestamps. A timestamp was lost: measure again."
        )
    levels = np.zeros(len(time_s), np.uint8)
    for start, stop in zip(pairs[::2], pairs[1::2], strict=True):
        levels[slice(*np.searchsorted(time_s, (start, stop)))] = 1
    return levels
