"""Finds the format of a file by its content, and reads it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from rct_tflite.energy.calibration.columns import read_header
from rct_tflite.energy.calibration.readers.energyrunner import (
    MAGIC,
    read_energy_bin,
    read_results_json,
    read_results_text,
)
from rct_tflite.energy.calibration.readers.generic import read_generic
from rct_tflite.energy.calibration.readers.joulescope import is_joulescope_header, read_joulescope_csv, refuse_jls
from rct_tflite.energy.calibration.readers.lpm01a import SAMPLE_LINE, read_lpm01a
from rct_tflite.energy.calibration.readers.ppk2 import is_ppk2_header, read_ppk2_csv, read_ppk2_file
from rct_tflite.energy.calibration.readers.serial import CLOCK, read_serial
from rct_tflite.energy.calibration.readers.workloads import is_workloads_header, read_workloads
from rct_tflite.energy.calibration.trace import Trace, Workload
from rct_tflite.errors import DataError

TRACES = ("ppk2-csv", "ppk2", "joulescope", "lpm01a", "otii", "energyrunner", "csv")
TABLES = ("results-txt", "results-json", "serial", "table")
FORMATS = (*TRACES, *TABLES)
_PROBED_BYTES = 4096


def read_measurement(
    path: Path, voltage: float | None = None, form: str = "auto", units: Mapping[str, str] | None = None
) -> Trace | tuple[Workload, ...]:
    """Reads what a meter or a runner wrote.

    Args:
        path: The file.
        voltage: Volts of the supply, where the file does not tell.
        form: One of `FORMATS`, or "auto" to find it by the content.
        units: Unit by column name, for a CSV whose header does not tell.

    Returns:
        A trace, or the rows of a table.

    Raises:
        DataError: If the file cannot be read, or is of an unknown format.
    """
    if not path.is_file():
        raise DataError(f"There is no such file. Received: {str(path)!r}. Check the path.")
    form = find_format(path, units) if form == "auto" else form
    match form:
        case "ppk2-csv":
            return read_ppk2_csv(path, voltage)
        case "ppk2":
            return read_ppk2_file(path, voltage)
        case "joulescope":
            return read_joulescope_csv(path, voltage)
        case "lpm01a":
            return read_lpm01a(path, voltage)
        case "energyrunner":
            return read_energy_bin(path)
        case "results-txt":
            return read_results_text(path)
        case "results-json":
            return read_results_json(path)
        case "serial":
            return read_serial(path)
        case "table":
            return read_workloads(path)
        case "csv" | "otii":
            return read_generic(path, voltage, units or {})
    raise DataError(f"Unknown format. Expected auto or one of {', '.join(FORMATS)}. Received: {form!r}.")


def find_format(path: Path, units: Mapping[str, str] | None = None) -> str:
    """Returns the format of a file by its content.

    Raises:
        DataError: If it is none that is read.
    """
    with path.open("rb") as file:
        start = file.read(_PROBED_BYTES)
    if start.startswith(b"jlsfmt") or path.suffix.lower() == ".jls":
        raise refuse_jls(path)
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".ppk2":
        return "ppk2"
    if start[:1] == bytes([MAGIC]):
        return "energyrunner"
    if start.lstrip()[:1] in (b"[", b"{"):
        return "results-json"
    if b"uJ/inf" in start or b"Per inference: time" in start:
        return "results-txt"
    if CLOCK.search(start.decode(errors="replace")):
        return "serial"
    if b"PowerShield" in start or b"TimeStamp:" in start or len(SAMPLE_LINE.findall(start)) > 3:
        return "lpm01a"
    header = read_header(path)
    if units:
        return "csv"
    if is_ppk2_header(header):
        return "ppk2-csv"
    if is_joulescope_header(header):
        return "joulescope"
    if is_workloads_header(header):
        return "table"
    return "otii" if any(" Main " in f" {column.name}" for column in header.columns) else "csv"
