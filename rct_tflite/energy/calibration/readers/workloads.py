"""A plain table: a workload in each row, with its latency and energy, perhaps its instructions."""

import csv
import math
from pathlib import Path

from rct_tflite.energy.calibration.columns import Header, read_header
from rct_tflite.energy.calibration.trace import Workload
from rct_tflite.errors import DataError

CLASS_SEPARATOR = ":"
"""In a column name such as "instructions:conv_2d"."""
EXAMPLE = "workload,latency_ms,energy_uj,instructions"


def read_workloads(path: Path) -> tuple[Workload, ...]:
    """Reads rows such as `kws,123.4,5600,9800000` below a header such as `workload,latency_ms,energy_uj,instructions`.

    Instructions may be split by op class in columns such as `instructions:conv_2d`.

    Raises:
        DataError: If a column or a number is missing, or a unit unknown.
    """
    header = read_header(path)
    quantities = _quantities(path, header)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter=header.delimiter))[header.lines :]
    found = []
    for number, row in enumerate((row for row in rows if any(row)), header.lines + 1):
        if len(row) != len(header.columns):
            raise DataError(
                f"Row {number} of {path.name} has another number of columns. Expected {len(header.columns)}. "
                f"Received: {len(row)}. Correct the row."
            )
        found.append(_workload(path, number, header, quantities, [cell.strip() for cell in row]))
    if not found:
        raise DataError(f"{path.name} holds no rows. Expected rows below '{EXAMPLE}'. Received: the header alone.")
    return tuple(found)


def is_workloads_header(header: Header) -> bool:
    """Returns whether a table has a workload in each row."""
    return header.find("workload") is not None and header.find("energy") is not None


def _quantities(path: Path, header: Header) -> dict[str, int]:
    """Returns the index of workload, latency and energy."""
    found: dict[str, int] = {}
    for column in header.columns:
        quantity = "latency" if column.quantity == "time" else column.quantity
        if quantity in ("latency", "energy"):
            if column.scale is None:
                raise DataError(
                    f"The unit of column {column.name!r} of {path.name} is not known. Expected a unit in the name, as "
                    f"in '{EXAMPLE}'. Received: {header.names()}. Write the unit into the header."
                )
            found.setdefault(quantity, column.index)
        elif quantity == "workload":
            found.setdefault(quantity, column.index)
        elif quantity != "instructions":
            raise DataError(
                f"{path.name} has an unknown column. Expected columns as in '{EXAMPLE}', or "
                f"'instructions{CLASS_SEPARATOR}conv_2d'. Received: {column.name!r}. Remove it."
            )
    missing = {"workload", "latency", "energy"} - set(found)
    if missing:
        raise DataError(
            f"{path.name} lacks {', '.join(sorted(missing))}. Expected a header such as '{EXAMPLE}'. "
            f"Received: {header.names()}. Add the column."
        )
    return found


def _workload(path: Path, row: int, header: Header, quantities: dict[str, int], cells: list[str]) -> Workload:
    def number(index: int) -> float:
        text = cells[index].replace(",", ".")
        try:
            value = float(text) if text else math.nan
        except ValueError:
            value = -1.0
        if value <= 0 or math.isinf(value):
            raise DataError(
                f"Row {row} of {path.name}, column {header.columns[index].name!r}, is no measurement. "
                f"Expected a number above 0, or nothing. Received: {cells[index]!r}. Correct the row."
            )
        return value * (header.columns[index].scale or 1.0)

    counts = []
    for column in header.columns:
        if column.quantity == "instructions" and cells[column.index]:
            op_class = column.name.partition(CLASS_SEPARATOR)[2].strip()
            counts.append((op_class, number(column.index)))
    name = cells[quantities["workload"]]
    return Workload(name, number(quantities["latency"]), number(quantities["energy"]), tuple(counts))
