"""Reads text tables: finds the delimiter and the header, and what each column is by its name and unit."""

import itertools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError

DELIMITERS = (",", ";", "\t")
HEADER_LINES = 20
"""Where a header is looked for: some tools write a few lines about the recording first."""

_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "k": 1e3}
_QUANTITY_OF = {"s": "time", "a": "current", "v": "voltage", "w": "power", "j": "energy"}
_WORDS = {
    "timestamp": "time",
    "time": "time",
    "latency": "latency",
    "current": "current",
    "amps": "current",
    "voltage": "voltage",
    "volts": "voltage",
    "power": "power",
    "energy": "energy",
    "i": "current",
    "v": "voltage",
    "p": "power",
    "t": "time",
    "workload": "workload",
    "name": "workload",
    "benchmark": "workload",
    "instructions": "instructions",
}
_UNIT = re.compile(r"(?:\(|\[|/|_|\s)\s*([nuµμmk]?)(s|A|V|W|J|sec|seconds|amps|volts)\s*[\)\]]?$", re.IGNORECASE)
_FULL_UNITS = {"sec": "s", "seconds": "s", "amps": "a", "volts": "v"}
_DIGITAL = re.compile(r"(?:D|GPIO|GPI|DIO)(\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: As the header says.
        index: From 0.
        quantity: "time", "current", "voltage", "power", "energy", "latency", "workload", "instructions", "digital",
            or "" if not known.
        scale: Turns a value into seconds, amperes, volts, watts or joules; None if the header names no unit.
        bit: Of a digital input.
    """

    name: str
    index: int
    quantity: str
    scale: float | None
    bit: int = 0


@dataclass(frozen=True)
class Header:
    """The columns of a table, and where its numbers begin."""

    columns: tuple[Column, ...]
    delimiter: str
    lines: int

    def find(self, quantity: str) -> Column | None:
        """Returns the first column of a quantity."""
        return next((column for column in self.columns if column.quantity == quantity), None)

    def names(self) -> str:
        """Returns the names for a message."""
        return ", ".join(repr(column.name) for column in self.columns)


def parse_column(name: str, index: int) -> Column:
    """Finds what a column is by its name.

    Example:
        >>> parse_column("Arc Main Current (mA)", 1)
        Column(name='Arc Main Current (mA)', index=1, quantity='current', scale=0.001, bit=0)
        >>> parse_column("JS220-000123.i", 1).quantity
        'current'
    """
    digital = _DIGITAL.fullmatch(name)
    if digital:
        return Column(name, index, "digital", 1.0, int(digital.group(1)))
    found = _UNIT.search(name)
    scale = None
    by_unit = ""
    rest = name
    if found:
        unit = _FULL_UNITS.get(found.group(2).lower(), found.group(2).lower())
        by_unit = _QUANTITY_OF[unit]
        # "M" is mega: nobody measures a microcontroller so, and some tools write units in capitals.
        scale = _PREFIXES[found.group(1).lower()]
        rest = name[: found.start()]
    words = re.findall(r"[a-zµ]+", rest.lower())
    quantity = next((_WORDS[word] for word in reversed(words) if word in _WORDS), "") or by_unit
    if by_unit and quantity not in (by_unit, "latency") and quantity != "":
        scale = None  # "Current (V)" is no current that we could read
        quantity = ""
    return Column(name, index, quantity, scale)


def read_header(path: Path) -> Header:
    """Finds the header of a text table.

    Raises:
        DataError: If there is no line of names with a line of as many values below.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line.rstrip("\r\n") for _, line in zip(range(HEADER_LINES + 1), file, strict=False)]
    except OSError as error:
        raise DataError(f"Cannot read {str(path)!r}: {error.strerror}. Check the path.") from error
    for number, (line, below) in enumerate(itertools.pairwise(lines), 1):
        for delimiter in DELIMITERS:
            names = [name.strip().strip('"') for name in line.lstrip("# ").split(delimiter)]
            wide = len(names) > 1 and len(below.split(delimiter)) == len(names)
            if wide and not any(_is_number(name) for name in names):
                columns = tuple(parse_column(name, index) for index, name in enumerate(names))
                return Header(columns, delimiter, number)
    raise DataError(
        f"{path.name} is no table. Expected a line of column names, such as 'Timestamp(ms),Current(uA)', and numbers "
        f"below. Received: {[line[:60] for line in lines[:2]]}. Export the trace as CSV with its header."
    )


def read_columns(path: Path, header: Header, columns: tuple[Column, ...]) -> npt.NDArray[np.float64]:
    """Reads columns of numbers.

    Args:
        path: The table.
        header: Of the table.
        columns: Which.

    Returns:
        float64 (columns, n), in seconds, amperes, volts, watts and joules.

    Raises:
        DataError: If a row holds something else.
    """
    usecols = [column.index for column in columns]
    values = load(path, header, np.dtype(np.float64), usecols)
    scales = [column.scale or 1.0 for column in columns]
    scaled: npt.NDArray[np.float64] = np.ascontiguousarray(values.T) * np.array(scales)[:, None]
    return scaled


def load(path: Path, header: Header, dtype: np.dtype[Any], usecols: list[int]) -> npt.NDArray[Any]:
    """Reads rows with NumPy's reader in C; a table with `;` may have decimal commas.

    Raises:
        DataError: If a row does not hold what `dtype` wants.
    """
    source = _with_points(path, header.lines) if _has_decimal_commas(path, header) else str(path)
    skip = 0 if isinstance(source, Iterator) else header.lines
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty table is told by the callers
            return np.loadtxt(
                source,
                dtype=dtype,
                delimiter=header.delimiter,
                usecols=usecols,
                skiprows=skip,
                ndmin=2 if dtype.names is None else 1,
                quotechar='"',
                encoding="utf-8",
            )
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path.name} has a row that cannot be read. Expected numbers in the columns {header.names()}. "
            f"Received: {str(error)[:200].rstrip('.')}. Export the trace again; a recording that was cut off may end "
            "in half a row."
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _has_decimal_commas(path: Path, header: Header) -> bool:
    if header.delimiter == ",":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        rows = [line for _, line in zip(range(header.lines + 1), file, strict=False)]
    return "," in rows[-1]


def _with_points(path: Path, skip: int) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file):
            if number >= skip:
                yield line.replace(",", ".")
