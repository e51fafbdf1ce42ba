"""Any CSV whose header names quantities and units; also Otii and STM32CubeMonitor-Power, which write such.

Otii names its columns "<device> Main Current (A)", "<device> Main Voltage (V)" and "Timestamp (s)".
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rct_tflite.energy.calibration.columns import Column, Header, parse_column, read_columns, read_header
from rct_tflite.energy.calibration.trace import Digital, Floats, Trace, checked, make_trace
from rct_tflite.errors import DataError

HIGH = 0.5
"""A digital input is 1 above this: some tools write 0 and 1, some 0 and 3.3."""


def read_generic(path: Path, voltage: float | None, units: Mapping[str, str]) -> Trace:
    """Reads a table with a time, and a current or a power.

    Args:
        path: The file.
        voltage: Volts of the supply, where the file does not tell.
        units: Unit by column name, for columns whose name does not tell: "ms", "uA", "V", "mW" or "D0".

    Raises:
        DataError: If a column is missing or its unit unknown, or a row cannot be read.
    """
    return read_table(path, with_units(read_header(path), units), voltage)


def read_table(path: Path, header: Header, voltage: float | None) -> Trace:
    """Reads the columns of a header that is understood."""
    time = _wanted(path, header, "time")
    power = header.find("power")
    measured = power if power is not None and power.scale is not None else _wanted(path, header, "current")
    volts = header.find("voltage") if voltage is None and measured is not power else None
    if volts is not None and volts.scale is None:
        volts = None
    digital = tuple(column for column in header.columns if column.quantity == "digital")
    chosen = (time, measured, *([volts] if volts else []), *digital)
    values = read_columns(path, header, chosen)
    bits = _bits(values[len(chosen) - len(digital) :], digital)
    if measured is power:
        return checked(Trace(values[0], values[1], bits, path.name))
    return make_trace(values[0], values[1], values[2] if volts else voltage, bits, path.name)


def with_units(header: Header, units: Mapping[str, str]) -> Header:
    """Returns the header with what the user says of columns.

    Raises:
        DataError: If there is no such column, or a unit is unknown.
    """
    columns = list(header.columns)
    for name, unit in units.items():
        index = next((column.index for column in columns if column.name == name), None)
        known = parse_column(unit if unit.upper().startswith("D") else f"({unit})", 0)
        if index is None or known.scale is None:
            raise DataError(
                f"Cannot use --column {name}={unit}. Expected a column of the file, {header.names()}, and a unit such "
                f"as s, ms, us, A, mA, uA, V, W, mW or D0. Received: {name}={unit}. Correct the name or the unit."
            )
        columns[index] = replace(known, name=name, index=index)
    return replace(header, columns=tuple(columns))


def _wanted(path: Path, header: Header, quantity: str) -> Column:
    column = header.find(quantity)
    unit = {"time": "ms", "current": "mA"}[quantity]
    if column is None:
        raise DataError(
            f"{path.name} has no column that is known as {quantity}. Expected a header such as "
            f"'Time (ms),Current (mA)'. Received: {header.names()}. "
            f"Say which it is, with its unit: --column 'NAME={unit}'."
        )
    if column.scale is None:
        raise DataError(
            f"The unit of column {column.name!r} of {path.name} is not known. Expected a unit in the name, such as "
            f"'{quantity} ({unit})'. Received: {header.names()}. Give it: --column '{column.name}={unit}'."
        )
    return column


def _bits(levels: Floats, columns: tuple[Column, ...]) -> Digital | None:
    if not columns:
        return None
    bits = np.zeros(levels.shape[1], np.uint8)
    for level, column in zip(levels, columns, strict=True):
        bits |= (level > HIGH).astype(np.uint8) << np.uint8(column.bit)
    return bits
