"""Fine-tunes on what a device meets: the firmware's integers against float32 in Keras; writes `results.json`.

python models/adaptation/adapt.py [--only NAME ...] [--seeds 2] [--data FOLDER] [--models FOLDER] [--json FILE]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.adaptation import data, networks  # noqa: E402
from models.adaptation.cost import Cost, cost_of  # noqa: E402
from models.adaptation.data import Domain, Target  # noqa: E402
from models.adaptation.fine_tuning import Classes, FineTuner, FloatTuner, IntegerTuner  # noqa: E402
from models.adaptation.networks import Network  # noqa: E402
from rct_tflite.errors import RCTError  # noqa: E402
from rct_tflite.export.tflite_export import export_tflite  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.spec.graph import TrainingMetadata  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402
from rct_tflite.training.freeze import freeze  # noqa: E402

RATES = (0.001, 0.003, 0.01, 0.03)
EPOCHS = 10
LARGEST_LOSS = 1.0
"""Points that integers may lose to float32."""
METHODS = ("integer", "float32")


@dataclass(frozen=True)
class Row:
    """One target, with one seed.

    Attributes:
        target: Its name.
        seed: Of the source's training and of the order of the samples.
        learnt: Number of samples learnt from.
        tested: Number of samples tested on.
        before: Per method, percent of the test part that were right (balanced accuracy).
        after: The same after learning.
    """

    target: str
    seed: int
    learnt: int
    tested: int
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Result:
    """One data set.

    Attributes:
        rates: Per method, the learning rate that was best in the mean over targets and seeds.
        validation: Per method, the mean score in percent of each rate in a cross-validation on what is learnt from.
        rows: One for each target and seed.
        train: What learns.
        cost: Of a training step on the device.
    """

    rates: dict[str, float]
    validation: dict[str, dict[str, float]]
    rows: tuple[Row, ...]
    train: str
    cost: Cost


@dataclass(frozen=True, eq=False)
class Case:
    """One target, and the two ways to fine-tune the network of its source."""

    target: Target
    seed: int
    model: Path
    tuners: dict[str, FineTuner]


def score(predicted: Classes, labels: Any) -> float:
    """Returns the balanced accuracy in percent: the mean over the classes of the share of each that was found."""
    return 100.0 * float(np.mean([np.mean(predicted[labels == label] == label) for label in np.unique(labels)]))


def cases_of(domains: Sequence[Domain], network: Network, seed: int, names: Path, work: Path) -> list[Case]:
    """Trains a network on each source, exports it, and pairs it with the source's targets.

    Args:
        domains: Sources with their targets.
        network: What to train.
        seed: Of the training.
        names: Path and start of the name of the exported networks; those that are there are taken as they are.
        work: An empty folder.
    """
    cases = []
    for number, domain in enumerate(domains):
        file = names.with_name(f"{names.name}-{seed}-{number}.tflite")
        if not file.is_file():
            trained = freeze(networks.trained(network, domain.source, seed))
            file.write_bytes(export_tflite(trained, TrainingMetadata(rounding=trained.rounding)))
        graph = read_graph(file)
        folder = work / f"{seed}-{number}"
        folder.mkdir()
        tuners: dict[str, FineTuner] = {
            "integer": IntegerTuner(graph, network.train, folder),
            "float32": FloatTuner(graph, select(graph, network.train)),
        }
        cases += [Case(target, seed, file, tuners) for target in domain.targets]
    return cases


def validation_scores(cases: Sequence[Case], method: str, rates: Sequence[float]) -> dict[float, float]:
    """Returns the mean score of each rate in a cross-validation on the samples to learn from; the test is not read."""
    scores: dict[float, list[float]] = {rate: [] for rate in rates}
    for case in cases:
        for learn, held in case.target.folds():
            for rate in rates:
                scores[rate].append(score(case.tuners[method].tune(learn, held, rate, EPOCHS)[1], held.y))
    return {rate: float(np.mean(values)) for rate, values in scores.items()}


def row_of(case: Case, rates: dict[str, float]) -> Row:
    """Fine-tunes on all samples to learn from, and tests."""
    target = case.target
    before, after = {}, {}
    for method, rate in rates.items():
        predicted = case.tuners[method].tune(target.learn, target.test, rate, EPOCHS)
        before[method], after[method] = (round(score(classes, target.test.y), 2) for classes in predicted)
    return Row(target.name, case.seed, len(target.learn.y), len(target.test.y), before, after)


def measure(cases: Sequence[Case], train: str, folder: Path, rates: Sequence[float] = RATES) -> Result:
    """Chooses each method's learning rate, fine-tunes every case, and counts the cost of a step."""
    validation = {method: validation_scores(cases, method, rates) for method in METHODS}
    best = {method: max(scores, key=lambda rate: scores[rate]) for method, scores in validation.items()}
    first = cases[0]
    return Result(
        rates=best,
        validation={
            method: {f"{rate:g}": round(value, 2) for rate, value in scores.items()}
            for method, scores in validation.items()
        },
        rows=tuple(row_of(case, best) for case in cases),
        train=train,
        cost=cost_of(first.model.read_bytes(), first.target.learn, train, best["integer"], folder),
    )


def difference(rows: Sequence[Row]) -> tuple[float, float]:
    """Returns what integers gain over float32 after learning, in points: the mean, and its standard error."""
    gains = [row.after["integer"] - row.after["float32"] for row in rows]
    spread = float(np.std(gains, ddof=1)) if len(gains) > 1 else float("nan")
    return float(np.mean(gains)), spread / len(gains) ** 0.5


def run(name: str, seeds: int, folder: Path, models: Path | None) -> Result:
    """Measures one data set and prints a line for each target."""
    network = networks.NETWORKS[name]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        cases = [
            case
            for seed in range(seeds)
            for case in cases_of(data.load(name, seed, folder), network, seed, (models or work) / name, work)
        ]
        result = measure(cases, network.train, work / "cost")
    for row in result.rows:
        print(f"{name}, {row.target}, seed {row.seed}: before {row.before}, after {row.after}")
    mean, error = difference(result.rows)
    print(
        f"{name}: integers against float32 {mean:+.2f} points, standard error {error:.2f}; {result.rates}", flush=True
    )
    return result


def main() -> int:
    """Measures and prints; returns 1 if integers lose more than the bar somewhere, 2 if a data set cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=data.DATA_SETS, default=list(data.DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, default=data.SHARED, metavar="FOLDER", help="where the data sets are")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep the exported networks, and reuse them")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results.json"), metavar="FILE")
    options = parser.parse_args()
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
    results: dict[str, Result] = {}
    try:
        for name in options.only:
            results[name] = run(name, options.seeds, options.data, options.models)
            write(options.json, options.seeds, results)  # at once: what is measured stays when the next one fails
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    return 0 if all(difference(result.rows)[0] >= -LARGEST_LOSS for result in results.values()) else 1


def write(file: Path, seeds: int, results: dict[str, Result]) -> None:
    """Writes the results as JSON; those of other data sets that the file holds stay."""
    old = json.loads(file.read_text())["results"] if file.is_file() else {}
    rows = {**old, **{name: asdict(result) for name, result in results.items()}}
    content = {
        "command": "python models/adaptation/adapt.py",
        "seeds": seeds,
        "epochs": EPOCHS,
        "rates": RATES,
        "results": {name: rows[name] for name in data.DATA_SETS if name in rows},
    }
    file.write_text(json.dumps(content, indent=2) + "\n")


def table(content: dict[str, Any]) -> list[str]:
    """Returns the rows of the README's table: a data set each, from what `results.json` holds."""
    return [_table_row(name, result) for name, result in content["results"].items()]


def _table_row(name: str, result: dict[str, Any]) -> str:
    rows = [Row(**row) for row in result["rows"]]
    before, integer, floating = (
        float(np.mean(values))
        for values in (
            [row.before["integer"] for row in rows],
            [row.after["integer"] for row in rows],
            [row.after["float32"] for row in rows],
        )
    )
    mean, error = difference(rows)
    cost = Cost(**result["cost"])
    energy, low, high = cost.energy_uj
    learnt = sorted({row.learnt for row in rows})
    cells = [
        name,
        f"{len({row.target for row in rows})} x {len({row.seed for row in rows})}",
        f"{learnt[0]} to {learnt[-1]}" if len(learnt) > 1 else str(learnt[0]),
        f"{before:.1f}",
        f"{integer:.1f}",
        f"{floating:.1f}",
        f"{mean:+.2f} +- {error:.2f}",
        f"{result['rates']['integer']:g}, {result['rates']['float32']:g}",
        f"{cost.ram_bytes:,}",
        f"{cost.instructions:,}",
        f"{energy:,.0f} ({low:,.0f} to {high:,.0f})",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
