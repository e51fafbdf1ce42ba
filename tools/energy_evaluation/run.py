"""Tests the energy estimate on published measurements, leaving out what is asked. Started by tools/evaluate_energy."""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Small matrices: threads of the linear algebra only wait for each other. Read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is no part of the installed package

from rct_tflite.errors import DataError, RCTError  # noqa: E402
from tools.energy_evaluation.carrying import model_anywhere  # noqa: E402
from tools.energy_evaluation.counted import read_counts  # noqa: E402
from tools.energy_evaluation.protocols import Evaluation, Point  # noqa: E402
from tools.energy_evaluation.table import BENCHMARKS, LAYER_ENERGY, LAYERS, RESULTS, read_layers, read_results  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "energy"
"""The published tables, beside the checkout."""


@dataclass(frozen=True)
class Bar:
    """What an estimate must reach: limits in percent, None where there is none."""

    name: str
    question: str
    median: float | None = None
    p90: float | None = None
    worst: float | None = None
    factor: float | None = None
    covered: float | None = None


@dataclass(frozen=True)
class Measured:
    """A bar and what was measured, in percent of the truth."""

    bar: Bar
    points: tuple[Point, ...]

    @property
    def errors(self) -> list[float]:
        """Absolute relative errors in percent."""
        return [100 * abs(point.error) for point in self.points]

    @property
    def figures(self) -> dict[str, float]:
        """Median, 90th percentile, worst, worst factor, and the share of intervals that hold the truth (percent)."""
        return {
            "median": float(np.median(self.errors)),
            "p90": float(np.quantile(self.errors, 0.9)),
            "worst": max(self.errors),
            "factor": max(point.factor for point in self.points),
            "covered": 100 * float(np.mean([point.covered for point in self.points])),
        }

    @property
    def missed(self) -> list[str]:
        """The limits that are not reached."""
        figures = self.figures
        above = [n for n in ("median", "p90", "worst", "factor") if figures[n] > (getattr(self.bar, n) or np.inf)]
        return above + ["covered"] * (figures["covered"] < (self.bar.covered or 0))


def measure(evaluation: Evaluation) -> list[Measured]:
    """Asks every question; the data may have no point for some.

    Raises:
        DataError: If there is nothing to ask.
    """
    known = {f"{row.setup} {row.benchmark}" for row in evaluation.elsewhere}
    counted = {f"{row.setup} {row.benchmark}" for row in evaluation.asked if evaluation.counted.of(row) is not None}
    calibrated, uncalibrated = evaluation.calibrated(), evaluation.uncalibrated()
    asked = (
        (Bar("MACs alone", "one factor from the board's other models"), evaluation.by_macs()),
        (
            Bar("power known", "latency measured, power of the board's other models", median=3, worst=12),
            evaluation.by_power(),
        ),
        (
            Bar(
                "calibrated",
                "the board's other models; this one counted, or on other parts",
                5,
                12,
                20,
                covered=90,
            ),
            calibrated,
        ),
        (
            Bar("  stack known", "of these, where the stack ran on another part", 5, 12, 20, covered=90),
            [point for point in calibrated if point.name in known],
        ),
        (
            Bar("  model unseen", "the board's other models, this one never ran anywhere"),
            evaluation.calibrated(model_anywhere),
        ),
        (
            Bar("uncalibrated", "data sheet; cycles of other parts", median=35, factor=2, covered=90),
            uncalibrated,
        ),
        (
            Bar("  code counted", "of these, where the code was counted", median=35, factor=2, covered=90),
            [point for point in uncalibrated if point.name in counted],
        ),
        (Bar("layers", "from measured layers of the other models", median=10, p90=25), evaluation.by_layer()),
        (
            Bar("layers counted", "from instructions and the stack's totals of other models", median=10, p90=25),
            evaluation.by_counted_layer(),
        ),
    )
    if not evaluation.asked:
        raise DataError(
            f"No row can be asked. Expected a board and stack with the energy of {', '.join(BENCHMARKS)}, plain and "
            f"int8. Received: {len(evaluation.rows)} such rows, none with four energies. Add rows."
        )
    return [Measured(bar, tuple(points)) for bar, points in asked]


def table(results: list[Measured]) -> str:
    """Draws the table for people."""
    head = f"{'estimate':<15} {'points':>6} {'median':>7} {'p90':>6} {'worst':>6} {'factor':>7} {'covered':>8}  bar"
    lines = [head]
    for result in results:
        if not result.points:
            lines.append(f"{result.bar.name:<15} {0:>6}  not asked: no such rows in these tables")
            continue
        figures, bar = result.figures, result.bar
        names = ("median", "p90", "worst", "factor", "covered")
        limits = ", ".join(f"{name} {getattr(bar, name):g}" for name in names if getattr(bar, name))
        verdict = f"{limits}: {'missed: ' + ', '.join(result.missed) if result.missed else 'reached'}" if limits else ""
        lines.append(
            f"{bar.name:<15} {len(result.points):>6} {figures['median']:>6.1f}% {figures['p90']:>5.1f}% "
            f"{figures['worst']:>5.1f}% {figures['factor']:>7.2f} {figures['covered']:>7.0f}%  {verdict}".rstrip()
        )
    lines += ["", *(f"{result.bar.name.strip():<13} {result.bar.question}" for result in results)]
    return "\n".join(lines)


def as_json(results: list[Measured]) -> str:
    """Returns figures and points as one JSON object."""
    bars = [
        {
            "name": result.bar.name.strip(),
            "question": result.bar.question,
            "figures": result.figures if result.points else None,
            "missed": result.missed if result.points else [],
            "points": [
                {
                    "name": point.name,
                    "measured_uj": point.truth,
                    "estimated_uj": point.estimate.value,
                    "low_uj": point.estimate.low,
                    "high_uj": point.estimate.high,
                }
                for point in result.points
            ],
        }
        for result in results
    ]
    return json.dumps({"bars": bars}, indent=2, allow_nan=False)


def main(arguments: list[str] | None = None) -> int:
    """Runs the evaluation and prints it."""
    parser = argparse.ArgumentParser(prog="tools/evaluate_energy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="FOLDER", help=f"{RESULTS}, {LAYERS}, {LAYER_ENERGY}"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="CSV",
        nargs="+",
        help=f"other files with the columns of {RESULTS}, as one table",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every point")
    options = parser.parse_args(arguments)
    try:
        evaluation = Evaluation(
            rows=tuple(read_results(*(options.results or [options.data / RESULTS]))),
            shapes=tuple(read_layers(options.data / LAYERS)),
            measured=tuple(read_layers(options.data / LAYER_ENERGY)),
            counted=read_counts(),
        )
        results = measure(evaluation)
    except RCTError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(as_json(results) if options.json else table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
