"""The log of a training: one row an epoch, as JSON lines or CSV, with the same columns in both.

Columns:

| column | what |
|---|---|
| `epoch` | 1 for the first |
| `steps` | training steps so far, over all `fit()`s of the model |
| `learning_rate` | at the end of the epoch |
| `loss`, `accuracy`, `val_loss`, ... | the logs of Keras |
| `bits` | mean over the weights |
| `parameter_bytes` | of all parameters, weights packed; `parameter_bytes/float32` and `/qat`: held in those ways |
| `parameter_bytes/optimizer` | of the momentum, if there is any |
| `gemm_energy/<model>` | energy of the GEMMs so far, as a share of float32's, by a model of `energy/paper_model.py` |
| `moved_bits/3`, `moved_bits/4` | bits of weights moved so far in 3 and 4 accesses a step, as a share of QAT's |
| `step_joules/<model>` | joules of a training step at these bit-widths, by a model; with a budget in joules only |
| `bits/<weight>`, `gavg/<weight>` | bit-width, running mean of `abs(gradient) / scale` |
| `underflow/<weight>` | running share of the nonzero gradients that moved no integer |
| `saturated/<weight>` | share of the integers at either end of the range |
| `t_min/<weight>`, `t_max/<weight>` | the band that Gavg should lie in |

A number that is missing or not finite is null, in CSV an empty cell.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rct_tflite.errors import DataError, RecipeError

SUFFIXES = (".jsonl", ".csv")

EPOCH = "epoch"
OWN = (EPOCH, "steps", "learning_rate", "bits", "parameter_bytes")
"""Columns without `/` that are not of Keras."""

BITS, GAVG, UNDERFLOW, SATURATED, T_MIN, T_MAX = ("bits", "gavg", "underflow", "saturated", "t_min", "t_max")
STATISTICS = (BITS, GAVG, UNDERFLOW, SATURATED)
"""What is logged of each weight: the names of its variables."""

PARAMETER_BYTES, GEMM_ENERGY, MOVED_BITS = ("parameter_bytes", "gemm_energy", "moved_bits")
STEP_JOULES = "step_joules"

Row = Mapping[str, float | int]
Value = float | int | None


def column(what: str, name: object) -> str:
    """Returns the name of a column that belongs to a weight, a baseline or a model.

    Example:
        >>> column(GAVG, "lstm/recurrent_kernel")
        'gavg/lstm/recurrent_kernel'
    """
    return f"{what}/{name}"


@dataclass(frozen=True)
class RunLog:
    """The rows of one training, first epoch first.

    Attributes:
        rows: Column to value.
    """

    rows: tuple[Mapping[str, Value], ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order in which they appear."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the quantised weights."""
        return self._names(BITS)

    @property
    def gemm_models(self) -> tuple[str, ...]:
        """Names of the models of GEMM energy."""
        return self._names(GEMM_ENERGY)

    def _names(self, what: str) -> tuple[str, ...]:
        return tuple(name.partition("/")[2] for name in self.columns if name.startswith(f"{what}/"))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The logs of Keras but for the losses, without those of the validation."""
        plain = [name for name in self.columns if "/" not in name and name not in OWN]
        return tuple(name for name in plain if not name.startswith("val_") and not name.endswith("loss"))

    def values(self, name: str) -> list[float]:
        """Returns a column, NaN where it holds nothing."""
        cells = (row.get(name) for row in self.rows)
        return [math.nan if cell is None else cell for cell in cells]


class RunWriter:
    """Writes a log row by row, so that it is whole after every epoch.

    A training that goes on after a stop continues the file: earlier epochs stay, later ones are replaced.

    Args:
        path: A `.jsonl` or `.csv` file; its folder is made.

    Raises:
        RecipeError: If the file's name ends otherwise.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES:
            raise RecipeError(
                f"The log of a training is JSON lines or CSV. Expected a name that ends in {' or '.join(SUFFIXES)}. "
                f"Received: log={str(path)!r}."
            )
        self._columns: tuple[str, ...] = ()

    def start(self, epoch: int) -> Mapping[str, Value] | None:
        """Begins the file anew, or goes on with the rows before `epoch`; returns the last of them.

        Args:
            epoch: That the next row will have, 1 for the first.

        Raises:
            DataError: If a file that is to be continued is not a log.
        """
        earlier: tuple[Mapping[str, Value], ...] = ()
        if epoch > 1 and self.path.is_file() and self.path.stat().st_size:
            earlier = tuple(row for row in read_run_log(self.path).rows if (row[EPOCH] or 0) < epoch)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite(earlier)
        return earlier[-1] if earlier else None

    def append(self, row: Row) -> None:
        """Adds a row. New columns in a CSV rewrite its header."""
        clean = {name: value if math.isfinite(value) else None for name, value in row.items()}
        if self.path.suffix == ".csv" and not set(row) <= set(self._columns):
            earlier = read_run_log(self.path).rows if self._columns else ()
            self._rewrite((*earlier, clean))
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            if self.path.suffix == ".csv":
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(clean)
            else:
                file.write(json.dumps(clean) + "\n")

    def _rewrite(self, rows: Sequence[Mapping[str, Value]]) -> None:
        part = self.path.with_name(self.path.name + ".part")
        self._columns = RunLog(tuple(rows)).columns
        with part.open("w", encoding="utf-8", newline="") as file:
            if self.path.suffix == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            elif rows:
                writer = csv.DictWriter(file, self._columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        part.replace(self.path)  # a log that is cut short in between stays the old one


def find_run_log(run: Path) -> Path:
    """Returns the log that a user names: the file itself, or the only one in a folder.

    Raises:
        DataError: If a folder holds none, or several.
    """
    if not run.is_dir():
        return run
    found = sorted(path for path in run.iterdir() if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"Expected one log of a training in {str(run)!r}, a {' or '.join(SUFFIXES)} file that RCTCallback(log=...) "
            f"wrote. Received: {names}. Name the file."
        )
    return found[0]


def read_run_log(path: Path) -> RunLog:
    """Reads a log.

    Raises:
        DataError: If the file is missing, damaged or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        rows = _csv_rows(text) if path.suffix == ".csv" else _json_rows(text)
    except (OSError, ValueError, csv.Error) as error:
        raise _refusal(path, str(error)) from error
    if not rows:
        raise _refusal(path, "no row")
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get(EPOCH), int):
            raise _refusal(path, f"row {number} without an epoch")
    return RunLog(tuple(rows))


def _json_rows(text: str) -> list[Mapping[str, Value]]:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is no object")
        odd = next((name for name, value in row.items() if not _is_number(value)), None)
        if odd is not None:
            raise ValueError(f"row {number} holds no number at {odd!r}")
    return rows


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _csv_rows(text: str) -> list[Mapping[str, Value]]:
    rows = list(csv.DictReader(text.splitlines(), strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("rows of different lengths")
    return [{name: _number(cell) for name, cell in row.items()} for row in rows]


def _number(cell: str) -> Value:
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _refusal(path: Path, received: str) -> DataError:
    return DataError(
        f"Cannot read {str(path)!r}. Expected the log of a training that RCTCallback(log=...) wrote. "
        f"Received: {received}."
    )
