"""Nordic Power Profiler Kit II: the CSV that the Power Profiler app exports, and the `.ppk2` that it saves.

CSV: `Timestamp(ms),Current(uA),D0-D7`, the last eight characters 0, 1, X (changed) or - (not known), D0 first; or one
column each for D0 to D7. `.ppk2`: a zip of `metadata.json` and `session.raw`, 6 bytes a sample, little-endian: float32
microamperes and uint16 with two bits for each input, D0 lowest: 1 was low, 2 was high, 3 changed.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.calibration.columns import Header, load, read_header
from rct_tflite.energy.calibration.trace import Trace, make_trace
from rct_tflite.errors import DataError

PACKED = "D0-D7"
INPUTS = 8
FORMAT_VERSIONS = (1, 2)
"""Of `metadata.json`; both have this frame."""

_FRAME = np.dtype([("microamperes", "<f4"), ("inputs", "<u2")])
_ROW = np.dtype([("ms", "f8"), ("microamperes", "f8"), ("inputs", f"S{INPUTS}")])


def is_ppk2_header(header: Header) -> bool:
    """Returns whether a table is the app's export."""
    names = [column.name for column in header.columns]
    return names[:2] == ["Timestamp(ms)", "Current(uA)"] or PACKED in names


def read_ppk2_csv(path: Path, voltage: float | None) -> Trace:
    """Reads the app's CSV.

    Raises:
        DataError: If it lacks the timestamp or the current, or a row cannot be read.
    """
    header = read_header(path)
    index = {column.name: column.index for column in header.columns}
    if "Timestamp(ms)" not in index or "Current(uA)" not in index:
        raise DataError(
            f"{path.name} lacks a column. Expected Timestamp(ms) and Current(uA), and D0-D7 for marks. "
            f"Received: {header.names()}. Export it again with these boxes ticked."
        )
    wanted = [index["Timestamp(ms)"], index["Current(uA)"]]
    separate = [name for name in (f"D{bit}" for bit in range(INPUTS)) if name in index]
    if PACKED in index:
        rows = load(path, header, _ROW, [*wanted, index[PACKED]])
        digital = _from_text(rows["inputs"])
    else:
        fields = [("ms", "f8"), ("microamperes", "f8"), *((name, "S1") for name in separate)]
        rows = load(path, header, np.dtype(fields), [*wanted, *(index[name] for name in separate)])
        digital = np.zeros(len(rows), np.uint8)
        for name in separate:
            digital |= (rows[name] == b"1").astype(np.uint8) << np.uint8(int(name[1:]))
    known = digital if separate or PACKED in index else None
    return make_trace(rows["ms"] * 1e-3, rows["microamperes"] * 1e-6, voltage, known, path.name)


def read_ppk2_file(path: Path, voltage: float | None) -> Trace:
    """Reads a saved `.ppk2`.

    Raises:
        DataError: If it is no such file, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read("metadata.json"))
            raw = archive.read("session.raw")
        version = document["formatVersion"]
        rate = float(document["metadata"]["samplesPerSecond"])
        if version not in FORMAT_VERSIONS or not 0 < rate < 1e9:
            raise ValueError(f"format version {version}, {rate:g} samples per second")
    except (OSError, zipfile.BadZipFile, NotImplementedError, KeyError, TypeError, ValueError) as error:
        # zipfile raises NotImplementedError where damage looks like an unknown compression.
        raise DataError(
            f"{path.name} is no .ppk2 that we know. Expected a zip of metadata.json (formatVersion 1 or 2) and "
            f"session.raw. Received: {error}. Export it as CSV from the Power Profiler app."
        ) from error
    frames = np.frombuffer(raw, _FRAME, len(raw) // _FRAME.itemsize)
    digital = np.zeros(len(frames), np.uint8)
    for bit in range(INPUTS):
        digital |= (frames["inputs"] >> np.uint16(2 * bit) & np.uint16(3) == 2).astype(np.uint8) << np.uint8(bit)
    time_s = np.arange(len(frames)) / rate
    return make_trace(time_s, frames["microamperes"].astype(np.float64) * 1e-6, voltage, digital, path.name)


def _from_text(texts: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint8]:
    high = np.frombuffer(texts.tobytes(), np.uint8).reshape(-1, INPUTS) == ord("1")
    return np.packbits(high, axis=1, bitorder="little")[:, 0]
