"""ST X-NUCLEO-LPM01A: a capture of its serial line in the format `ascii_dec`.

Samples are lines such as `6409-07`, 6409e-07 amperes. Between them stand `TimeStamp: 001s 000ms, buff 05%`, events
such as `event 07 ris` on its input D7, and acknowledged commands such as `PowerShield > ack freq 1k`.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.calibration.trace import Digital, Floats, Trace, checked, make_trace
from rct_tflite.errors import DataError

SAMPLE_LINE = re.compile(rb"^\s*\d{1,9}[-+]\d{2}\s*$", re.MULTILINE)
LONGEST_LINE = 12
"""Nine digits, a sign and two digits."""
_NEWLINE = ord("\n")
_FREQUENCY = re.compile(rb"\bfreq (\d+)(k?)\b")
_VOLTAGE = re.compile(rb"\bvolt (\d+)(m?)\b")
_TIMESTAMP = re.compile(rb"TimeStamp: ?(\d+)s (\d+)ms")
_EVENT = re.compile(rb"event (\d+) (ris|fal)")
_ENERGY = re.compile(rb"\boutput energy\b")


def read_lpm01a(path: Path, voltage: float | None) -> Trace:
    """Reads a capture.

    Raises:
        DataError: If it holds no samples or damaged ones, or neither a rate nor timestamps.
    """
    text = path.read_bytes().replace(b"\r", b"")
    is_sample, others = _split(text)
    if not is_sample.any():
        raise DataError(
            f"{path.name} holds no samples. Expected lines such as '6409-07'. Received: {text[:60]!r}. "
            "Set the meter to 'format ascii_dec' before 'start'."
        )
    damaged = [line for line in others if line[:1].isdigit()]
    if damaged:
        raise DataError(
            f"{path.name} has damaged samples, so that time is lost. Expected lines such as '6409-07'. "
            f"Received: {len(damaged)} others, the first is {damaged[0][:40]!r}. Capture again, at a lower rate."
        )
    samples = _values(text, is_sample)
    # Lines that are no samples, with the number of samples before each.
    notes = [(line, int(before)) for line, before in zip(others, np.cumsum(is_sample)[~is_sample], strict=True)]
    commands = b"\n".join(others)
    rate = _rate(path, commands, notes)
    digital = _marks(notes, len(samples))
    time_s = np.arange(len(samples)) / rate
    if _ENERGY.search(commands):
        # Joules of each sample.
        return checked(Trace(time_s, samples * rate, digital, path.name))
    found = _VOLTAGE.findall(commands)
    if voltage is None and found:
        voltage = int(found[-1][0]) * (1e-3 if found[-1][1] else 1.0)
    return make_trace(time_s, samples, voltage, digital, path.name)


def _split(text: bytes) -> tuple[npt.NDArray[np.bool_], list[bytes]]:
    """Returns which lines are samples, (lines,), and the others. Looks at three bytes of each line."""
    data = np.frombuffer(text + b"\n", np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    signs = data[np.maximum(ends - 3, 0)]
    first = data[starts]
    digit = (first >= ord("0")) & (first <= ord("9"))
    is_sample = (
        digit & (ends - starts >= 4) & (ends - starts <= LONGEST_LINE) & ((signs == ord("-")) | (signs == ord("+")))
    )
    others = [text[start:end] for start, end in zip(starts[~is_sample], ends[~is_sample], strict=True)]
    return is_sample, others


def _values(text: bytes, is_sample: npt.NDArray[np.bool_]) -> Floats:
    data = np.frombuffer(text + b"\n", np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)[is_sample]
    exponents = (data[ends - 2] - ord("0")).astype(np.float64) * 10 + (data[ends - 1] - ord("0"))
    exponents[data[ends - 3] == ord("-")] *= -1
    mantissas = np.zeros(len(ends))
    place = np.ones(len(ends))
    inside = np.ones(len(ends), bool)
    for back in range(4, LONGEST_LINE + 1):  # digits before the sign, from the last
        at = ends - back
        inside &= (at >= 0) & (data[np.maximum(at, 0)] >= ord("0")) & (data[np.maximum(at, 0)] <= ord("9"))
        mantissas[inside] += place[inside] * (data[at[inside]] - float(ord("0")))
        place *= 10
    return np.asarray(mantissas * 10.0**exponents, np.float64)


def _rate(path: Path, commands: bytes, notes: list[tuple[bytes, int]]) -> float:
    found = _FREQUENCY.findall(commands)
    if found:
        return float(found[-1][0]) * (1000.0 if found[-1][1] else 1.0)
    stamps = [(match, before) for line, before in notes if (match := _TIMESTAMP.search(line))]
    if len(stamps) >= 2:
        seconds = [int(match.group(1)) + int(match.group(2)) * 1e-3 for match, _ in stamps]
        samples = stamps[-1][1] - stamps[0][1]
        if seconds[-1] > seconds[0] and samples > 0:
            return samples / (seconds[-1] - seconds[0])
    raise DataError(
        f"{path.name} does not tell its sample rate. Expected a line 'ack freq ...' or two lines 'TimeStamp: ...'. "
        "Received: neither. Capture the serial line from before the command 'freq' on."
    )


def _marks(notes: list[tuple[bytes, int]], samples: int) -> Digital | None:
    """Returns the level of the event input in bit 0; None unless both edges were recorded."""
    edges = [(match.group(2) == b"ris", before) for line, before in notes if (match := _EVENT.search(line))]
    if len({rising for rising, _ in edges}) < 2:
        return None
    levels = np.full(samples, not edges[0][0], np.uint8)
    for rising, before in edges:
        levels[before:] = rising
    return levels
