"""What more bits give to updates that truncate, on real data; writes `truncation.json`.

python models/adaptation/truncation.py [--only NAME ...] [--seeds 2] [--data FOLDER] --models FOLDER [--json FILE]

The networks and targets of `adapt.py`, at the learning rate that it found best and at a tenth of it: the same C of the
firmware learns with weights as exported, of 8 bits, and with the same weights given more (`rct-tflite export
--weight-bits`).
"""

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.adaptation import data, networks  # noqa: E402
from models.adaptation.adapt import EPOCHS, score  # noqa: E402
from models.adaptation.fine_tuning import IntegerTuner  # noqa: E402
from models.adaptation.update_sets import DEVICE, RATE, RATES, exported_network  # noqa: E402
from rct_tflite.errors import RCTError  # noqa: E402
from rct_tflite.planning.fit import memory_need  # noqa: E402
from rct_tflite.planning.memory import plan_memory  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.quantization import Rounding  # noqa: E402
from rct_tflite.spec.target_file import find_target  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402
from rct_tflite.tflite.rescale import widen_weights  # noqa: E402

PARTS = (1.0, 0.1)
"""Of the best learning rate."""
METHODS = (
    *((Rounding.TRUNCATE, bits) for bits in (8, 10, 12)),
    (Rounding.STOCHASTIC, 8),
)


@dataclass(frozen=True)
class Row:
    """One target, one seed, one method.

    Attributes:
        target: Its name.
        seed: Of the source's training and of the order of the samples.
        rounding: Of the updates.
        bits: Of the weights that learn.
        rate: Learning rate.
        ram: Planned for the target, stack included, in bytes.
        before: Balanced accuracy in percent before learning.
        after: The same after learning.
    """

    target: str
    seed: int
    rounding: str
    bits: int
    rate: float
    ram: int
    before: float
    after: float


def method_graph(model: Path, train: str, rounding: Rounding, bits: int) -> Graph:
    """Returns an exported network whose layers that learn have at least `bits` bits."""
    content, graph = model.read_bytes(), read_graph(model)
    learning = select(graph, train).trained
    widths = {op.name: bits for op in graph.ops if op.name in learning and graph.bits_of(op) < bits}
    graph = read_graph(widen_weights(content, widths), graph.name)
    return dataclasses.replace(graph, training=dataclasses.replace(graph.training, rounding=str(rounding)))


def rows_of(name: str, seed: int, folder: Path, models: Path, work: Path) -> list[Row]:
    """Learns with every method on every target of a data set."""
    train, rows = networks.NETWORKS[name].train, []
    for number, domain in enumerate(data.load(name, seed, folder)):
        model = exported_network(models, name, seed, number, domain.source)
        for rounding, bits in METHODS:
            graph = method_graph(model, train, rounding, bits)
            ram = memory_need(graph, plan_memory(graph, select(graph, train)), find_target(DEVICE)).ram
            place = work / f"{name}-{seed}-{number}-{rounding}-{bits}"
            place.mkdir()
            tuner = IntegerTuner(graph, train, place)
            for target, part in itertools.product(domain.targets, PARTS):
                rate = part * RATES.get(name, RATE)
                predicted = tuner.tune(target.learn, target.test, rate, EPOCHS)
                before, after = (round(score(classes, target.test.y), 2) for classes in predicted)
                rows.append(Row(target.name, seed, str(rounding), bits, rate, ram, before, after))
                print(f"{name}, {rows[-1]}", flush=True)
    return rows


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """Returns per rate and method RAM, mean scores and how far they are from the last method's, with standard error."""
    cases = [(rate, *method) for rate in dict.fromkeys(row.rate for row in rows) for method in METHODS]
    scores = {case: [row for row in rows if (row.rate, row.rounding, row.bits) == case] for case in cases}
    result = []
    for (rate, rounding, bits), part in scores.items():
        reference = np.array([row.after for row in scores[rate, *METHODS[-1]]])
        gain = np.array([row.after for row in part]) - reference
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        result.append(
            {
                "rounding": str(rounding),
                "bits": bits,
                "rate": rate,
                "ram": max(row.ram for row in part),
                "before": round(float(np.mean([row.before for row in part])), 1),
                "after": round(float(np.mean([row.after for row in part])), 1),
                "difference": round(float(gain.mean()), 2),
                "standard_error": round(error, 2),
            }
        )
    return result


def table(content: dict[str, Any]) -> list[str]:
    """Returns the rows of the README's table from what `truncation.json` holds."""
    return [
        f"| {name} | {row['rate']:g} | {row['rounding']}, {row['bits']} bits | {row['ram']:,} | {row['before']:.1f} "
        f"| {row['after']:.1f} | {row['difference']:+.2f} +- {row['standard_error']:.2f} |"
        for name, result in content["results"].items()
        for row in result["summary"]
    ]


def main() -> int:
    """Measures, prints, writes; returns 2 if a data set cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=data.DATA_SETS, default=list(data.DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, default=data.SHARED, metavar="FOLDER", help="where the data sets are")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="networks, kept and reused")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("truncation.json"), metavar="FILE")
    options = parser.parse_args()
    options.models.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.json.read_text())["results"] if options.json.is_file() else {}
    try:
        for name in options.only:
            with tempfile.TemporaryDirectory() as work:
                rows = [
                    row
                    for seed in range(options.seeds)
                    for row in rows_of(name, seed, options.data, options.models, Path(work))
                ]
            results[name] = {"summary": summary(rows), "rows": [asdict(row) for row in rows]}
            content = {
                "command": "python models/adaptation/truncation.py --models FOLDER",
                "epochs": EPOCHS,
                "results": {key: results[key] for key in data.DATA_SETS if key in results},
            }
            options.json.write_text(json.dumps(content, indent=2) + "\n")
            print("\n".join(table({"results": {name: results[name]}})), flush=True)
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
