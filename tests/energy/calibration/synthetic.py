"""Makes traces of a benchmark whose truth is known, and writes them as the meters do."""

import json
import struct
import zipfile
from dataclasses import dataclass, field, replace

import numpy as np

from rct_tflite.energy.calibration.schedule import COMPUTE, FLASH_ERASE, FLASH_WRITE, Phase, Schedule
from rct_tflite.energy.calibration.trace import Trace

CLOCK_MHZ = 100.0
CLASSES = ("move", "mac", "depthwise", "elementwise", "update")
SECONDS = (0.50, 0.83, 0.61, 1.10, 0.71, 0.95, 0.55, 0.77, 0.66, 0.58)
CPI = {"move": 1.0, "mac": 1.32, "depthwise": 1.71, "elementwise": 1.45, "update": 1.58}
POWER_SHARE = {"move": 1.0, "mac": 1.05, "depthwise": 0.98, "elementwise": 0.92, "update": 1.05}
VOLTAGE = 3.0


def make_schedule(default_cpi=1.4, sleep_s=0.1, flash=True, seconds=1.0):
    """Two phases for each class, forth and back, each second one with a tenth of its instructions in `move`."""
    phases = []
    for index, op_class in enumerate((*CLASSES, *reversed(CLASSES))):
        total = 1000.0 * (index + 3)
        mixed = index >= len(CLASSES) and op_class != "move"
        counts = ((op_class, 0.9 * total), ("move", 0.1 * total)) if mixed else ((op_class, total),)
        duration = SECONDS[index] * seconds
        iterations = round(duration * CLOCK_MHZ * 1e6 / (total * default_cpi))
        name = f"{op_class}_{'small' if index < len(CLASSES) else 'large'}"
        phases.append(Phase(name, COMPUTE, iterations, counts, 0, total * default_cpi * iterations / CLOCK_MHZ / 1e6))
    if flash:
        phases.append(Phase("flash_erase", FLASH_ERASE, 8, (("move", 200.0),), 4096, 0.4 * seconds))
        phases.append(Phase("flash_write", FLASH_WRITE, 4, (("move", 50000.0),), 16384, 0.3 * seconds))
    return Schedule("synthetic", CLOCK_MHZ, "gcc 12", sleep_s, tuple(phases))


@dataclass(frozen=True)
class Board:
    """The truth, and what the meter adds to it."""

    active_mw: float = 60.0
    sleep_mw: float = 3.0
    cpi: dict = field(default_factory=lambda: dict(CPI))
    power_share: dict = field(default_factory=lambda: dict(POWER_SHARE))
    flash_mw: float = 75.0
    write_s_per_byte: float = 6e-6
    erase_s_per_byte: float = 1.3e-5
    noise: float = 0.05
    offset_mw: float = 0.0
    drift: float = 0.0
    zero_s: float = 0.0
    seed: int = 1

    def duration(self, phase):
        cycles = sum(count * self.cpi[name] for name, count in phase.instructions) * phase.iterations
        per_byte = {COMPUTE: 0.0, FLASH_WRITE: self.write_s_per_byte, FLASH_ERASE: self.erase_s_per_byte}[phase.kind]
        return cycles / CLOCK_MHZ / 1e6 + per_byte * phase.bytes * phase.iterations

    def power_w(self, phase):
        if phase.kind != COMPUTE:
            return self.flash_mw * 1e-3
        cycles = {name: count * self.cpi[name] for name, count in phase.instructions}
        share = sum(cycles[name] * self.power_share[name] for name in cycles) / sum(cycles.values())
        return self.active_mw * 1e-3 * share


def record(schedule, board=Board(), rate=10_000.0, lead_s=0.3):
    """Returns the trace and the true (begin, end) of each phase in seconds. Digital input 2 is the mark."""
    edges, spans, levels = [0.0], [], []

    def add(seconds, power):
        edges.append(edges[-1] + seconds)
        levels.append(power)

    if board.zero_s:
        add(board.zero_s, 0.0)
    add(lead_s, board.sleep_mw * 1e-3)
    for phase in schedule.phases:
        add(board.duration(phase), board.power_w(phase))
        spans.append((edges[-2], edges[-1]))
        # The line that the firmware prints in the middle of its sleep.
        add(schedule.sleep_s / 2, board.sleep_mw * 1e-3)
        add(0.002, board.active_mw * 0.9e-3)
        add(schedule.sleep_s / 2, board.sleep_mw * 1e-3)
    time = np.arange(int(edges[-1] * rate)) / rate
    # A meter integrates: a sample that holds an edge is a mixture.
    energy = np.concatenate(([0.0], np.cumsum(np.diff(edges) * levels)))
    power = np.diff(np.interp(np.append(time, time[-1] + 1 / rate), edges, energy)) * rate
    random = np.random.default_rng(board.seed)
    power = power * (1 + board.drift * time / time[-1])
    power = power + random.normal(0, board.noise * board.active_mw * 1e-3, len(time)) + board.offset_mw * 1e-3
    marks = np.zeros(len(time), np.uint8)
    for begin, end in spans:
        marks[round(begin * rate) : round(end * rate)] = 1 << 2
    return Trace(time, power, marks, "synthetic"), spans


def shift_marks(trace, samples):
    return replace(trace, digital=np.roll(trace.digital, samples))


def lose_mark(trace, spans, phase):
    digital = trace.digital.copy()
    begin, end = np.searchsorted(trace.time_s, spans[phase])
    digital[begin - 2 : end + 2] = 0
    return replace(trace, digital=digital)


def write_ppk2_csv(path, trace):
    microamperes = trace.power_w / VOLTAGE * 1e6
    lines = [
        f"{1e3 * time:.6f},{current:.3f},{''.join(str(bits >> bit & 1) for bit in range(8))}"
        for time, current, bits in zip(trace.time_s, microamperes, trace.digital, strict=True)
    ]
    path.write_text("Timestamp(ms),Current(uA),D0-D7\n" + "\n".join(lines) + "\n")


def write_ppk2_file(path, trace):
    microamperes = trace.power_w / VOLTAGE * 1e6
    rate = round(1 / trace.interval_s)
    pairs = [sum((1 + (bits >> bit & 1)) << (2 * bit) for bit in range(8)) for bits in range(256)]
    raw = b"".join(
        struct.pack("<fH", current, pairs[bits]) for current, bits in zip(microamperes, trace.digital, strict=True)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"metadata": {"samplesPerSecond": rate}, "formatVersion": 2}))
        archive.writestr("session.raw", raw)
        archive.writestr("minimap.raw", "{}")


def write_joulescope(path, trace):
    np.savetxt(
        path,
        np.column_stack([trace.time_s, trace.power_w / VOLTAGE, np.full(len(trace.time_s), VOLTAGE)]),
        fmt="%.9g",
        delimiter=",",
        header="time,JS220-000123.i,JS220-000123.v",
    )


def write_statistics(path, trace):
    columns = [trace.time_s, trace.power_w / VOLTAGE, np.full(len(trace.time_s), VOLTAGE), trace.power_w]
    charge = np.cumsum(columns[1]) * trace.interval_s
    np.savetxt(
        path,
        np.column_stack([*columns, charge, charge * VOLTAGE]),
        fmt="%.9g",
        delimiter=",",
        header="time,current,voltage,power,charge,energy",
        comments="#",
    )


def write_lpm01a(path, trace):
    lines = ["PowerShield > ack volt 3000m", f"PowerShield > ack freq {round(1e-3 / trace.interval_s)}k"]
    level = 0
    for index, (power, bits) in enumerate(zip(trace.power_w, trace.digital, strict=True)):
        if index % 1000 == 0:
            lines.append(f"TimeStamp: {index // 1000:03d}s 000ms, buff 05%")
        if bits >> 2 & 1 != level:
            level = bits >> 2 & 1
            lines.append(f"event {index:02d} {'ris' if level else 'fal'}")
        lines.append(f"{max(round(power / VOLTAGE * 1e8), 0):04d}-08")
    path.write_text("\r\n".join(lines) + "\r\n")


def write_otii(path, trace):
    volts = np.full(len(trace.time_s), VOLTAGE)
    np.savetxt(
        path,
        np.column_stack([trace.time_s, trace.power_w / VOLTAGE, volts, trace.digital >> 2 & 1]),
        fmt="%.9g",
        delimiter=",",
        header='"Timestamp (s)","Arc Main Current (A)","Arc Main Voltage (V)","GPI1"',
        comments="",
    )


def write_german(path, trace):
    """Semicolons and decimal commas, as a spreadsheet in some countries saves."""
    rows = [f"{t * 1e3:.6f};{p * 1e3:.6f}".replace(".", ",") for t, p in zip(trace.time_s, trace.power_w, strict=True)]
    path.write_text("Recorded by a meter\nTime (ms);Power [mW]\n" + "\n".join(rows) + "\n")


def write_energyrunner(path, trace):
    rate = 1 / trace.interval_s
    joules = trace.power_w / rate * 1e6
    path.write_bytes(b"\xf1" + struct.pack("<f", rate) + joules.astype("<f4").tobytes())
    edges = np.flatnonzero(np.diff(trace.digital)) + 1
    stamps = [0.0, *trace.time_s[edges].tolist()]
    path.with_name(path.name.replace("-energy.bin", "-timestamps.json")).write_text(json.dumps(stamps))


WRITERS = {
    "ppk2-csv": ("ppk.csv", write_ppk2_csv),
    "ppk2": ("session.ppk2", write_ppk2_file),
    "joulescope": ("visible.csv", write_joulescope),
    "joulescope statistics": ("statistics.csv", write_statistics),
    "lpm01a": ("serial.log", write_lpm01a),
    "otii": ("otii.csv", write_otii),
    "csv": ("german.csv", write_german),
    "energyrunner": ("trace1-energy.bin", write_energyrunner),
}
