"""Runs the experiments row by row; an interrupted run goes on where it stopped. Started by tools/reproduce."""

import argparse
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ and tools/ are no part of the installed package

from rct_tflite.errors import RCTError  # noqa: E402
from rct_tflite.training.comparison import Row, train  # noqa: E402
from rct_tflite.training.comparison_report import table  # noqa: E402
from rct_tflite.training.contenders import DEFAULT_METHODS, Measured, method_of  # noqa: E402
from tools.reproduction.experiments import EXPERIMENTS, Experiment  # noqa: E402


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="tools/reproduce", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny data and schedules, no download: minutes")
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--methods", nargs="+", default=list(DEFAULT_METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, help="trainings of each method  [default: 3, quick: 1]")
    parser.add_argument("--epochs", type=int, help="of each training  [default: the experiment's]")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="append rows as they finish, keep those in it; tables go into the .txt beside",
    )
    return parser.parse_args(arguments)


class Results:
    """The rows so far, and their file."""

    def __init__(self, file: Path | None, command: str):
        self.file, self.command = file, command
        self.rows: list[dict[str, Any]] = []
        if file is not None and file.exists():
            self.rows = list(json.loads(file.read_text())["rows"])

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the row with these settings, if it is there."""
        return next((row for row in self.rows if all(row.get(name) == value for name, value in key.items())), None)

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; the file is replaced whole, so that it can be read at any moment."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """Writes the rows and the command that gives them."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.file.with_suffix(".part")
            unfinished.write_text(
                json.dumps({"command": self.command, "rows": self.rows}, indent=1, allow_nan=False) + "\n"
            )
            unfinished.replace(self.file)


def run(name: str, experiment: Experiment, methods: list[str], seeds: int, results: Results) -> list[Row]:
    """Trains what is not in the results yet; returns all rows of the experiment."""
    rows = []
    for seed in range(seeds):  # all methods of the first seed first: an early stop leaves a whole table
        for method in methods:
            settings = {"experiment": name, "data": experiment.data, **asdict(experiment.schedule)}
            key = {**settings, "method": method, "seed": seed}
            known = results.find(key)
            if known is None:
                row = train(experiment.build, experiment.samples, method_of(method), experiment.schedule, seed)
                results.append({**settings, **asdict(row)})
                say = f"{row.score:.2f}" if row.score is not None else "diverged"
                print(f"{name}  {method}  seed {seed}  {say} %  {row.step_ms:.1f} ms/step", flush=True)
            else:
                row = row_of(known)
            rows.append(row)
    return sorted(rows, key=lambda row: methods.index(row.method))


def row_of(known: dict[str, Any]) -> Row:
    """Makes the row that was written to a file."""
    row = Row(**{field: known[field] for field in Row.__dataclass_fields__})
    return replace(row, measured=Measured(**known["measured"]))


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status."""
    options = options_of(arguments)
    command = shlex.join(["tools/reproduce", *(sys.argv[1:] if arguments is None else arguments)])
    results = Results(options.json, command)
    seeds = options.seeds or (1 if options.quick else 3)
    tables = []
    try:
        for name in options.only or EXPERIMENTS:
            experiment = EXPERIMENTS[name](options.quick)
            if options.epochs:
                experiment = replace(experiment, schedule=replace(experiment.schedule, epochs=options.epochs))
            rows = run(name, experiment, options.methods, seeds, results)
            tables.append(f"{name} on {experiment.data}, {experiment.schedule}\n{table(rows)}\n")
            print(f"\n{tables[-1]}", flush=True)
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    if options.json:
        results.write()
        options.json.with_suffix(".txt").write_text("\n".join([f"{command}\n", *tables]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
