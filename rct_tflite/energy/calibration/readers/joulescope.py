"""Joulescope: the UI's CSV of visible data, and its statistics CSV. A `.jls` holds more than we read.

Visible data: `# time,JS220-000123.i,JS220-000123.v`, seconds, signals i, v, p in SI units. Statistics:
`#time,current,voltage,power,charge,energy`, SI units, charge and energy from the start; newer UIs append columns.
"""

import re
from dataclasses import replace
from pathlib import Path

from rct_tflite.energy.calibration.columns import Column, Header, read_header
from rct_tflite.energy.calibration.readers.generic import read_table
from rct_tflite.energy.calibration.trace import Trace
from rct_tflite.errors import DataError

_STATISTICS = ("time", "current", "voltage", "power")
_SIGNAL = re.compile(r".+\.([ivp])")
_QUANTITY = {"i": "current", "v": "voltage", "p": "power"}
_DIGITAL = re.compile(r".+\.(?:gpi\[)?(\d)\]?")


def is_joulescope_header(header: Header) -> bool:
    """Returns whether a table is one of the UI's exports."""
    names = [column.name for column in header.columns]
    signals = [name for name in names[1:] if _SIGNAL.fullmatch(name)]
    return names[0] == "time" and (tuple(names[:4]) == _STATISTICS or bool(signals))


def read_joulescope_csv(path: Path, voltage: float | None) -> Trace:
    """Reads a CSV of the Joulescope UI.

    Raises:
        DataError: If it has no time, or a row cannot be read.
    """
    header = read_header(path)
    if header.columns[0].name != "time":
        raise DataError(
            f"{path.name} has no time. Expected '#time,current,voltage,power,...'. Received: {header.names()}. "
            "Switch the time on in the statistics recorder of the Joulescope UI."
        )
    return read_table(path, replace(header, columns=tuple(map(_understood, header.columns))), voltage)


def refuse_jls(path: Path) -> DataError:
    """Returns the error for a `.jls`."""
    return DataError(
        f"{path.name} is a Joulescope recording, which is not read directly. Expected its CSV. Received: a .jls file. "
        "Open it in the Joulescope UI, mark the whole benchmark, and choose Export > CSV; see that the export has at "
        "least 1000 points per second."
    )


def _understood(column: Column) -> Column:
    signal = _SIGNAL.fullmatch(column.name)
    if signal:
        return replace(column, quantity=_QUANTITY[signal.group(1)], scale=1.0)
    digital = _DIGITAL.fullmatch(column.name)
    if digital:
        return replace(column, quantity="digital", scale=1.0, bit=int(digital.group(1)))
    known = column.name in _STATISTICS
    return replace(column, quantity=column.name if known else "", scale=1.0 if known else None)
