"""What to learn in the same RAM: `--train auto` against the last N layers, on the real sets; writes `update_sets.json`.

python models/adaptation/update_sets.py [--only NAME ...] [--seeds 1] [--data FOLDER] [--models FOLDER] [--json FILE]

For each target and each N, the search gets the RAM of `last:N` as its limit, and the samples to learn from. Both learn
from the same weights, samples, rate and seed, in the integer reference, whose bytes are those of the device.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.adaptation import data  # noqa: E402
from models.adaptation.data import Part, Target  # noqa: E402
from rct_tflite.errors import RCTError  # noqa: E402
from rct_tflite.firmware.samples import quantize_inputs  # noqa: E402
from rct_tflite.planning.gains import measure_gains, reachable  # noqa: E402
from rct_tflite.planning.search import CRITERION, Candidate, Limits, search_updates  # noqa: E402
from rct_tflite.planning.selection import select, told  # noqa: E402
from rct_tflite.reference.random import DEFAULT_SEED  # noqa: E402
from rct_tflite.reference.trainer import ReferenceTrainer  # noqa: E402
from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.target_file import find_target  # noqa: E402
from rct_tflite.spec.training_plan import TrainingPlan  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402

DEVICE = "cortex-m7"
EPOCHS = 10
TESTED = 400
"""Samples of the test part, drawn once: the reference takes its time."""
RATES = {"bearings": 0.003}
"""What `adapt.py` found best for the whole network; of the other sets `RATE`."""
RATE = 0.01


@dataclass(frozen=True)
class Row:
    """One target, one seed, one limit.

    Attributes:
        target: Its name.
        seed: Of the order of the samples and of the stochastic rounding.
        layers: N of `last:N`, whose RAM is the limit.
        ram: Bytes that `last:N` and the search's set need.
        learns: What the search chose.
        score: Balanced accuracy in percent after learning, of `last:N` and of the search's set.
    """

    target: str
    seed: int
    layers: int
    ram: tuple[int, int]
    learns: str
    score: tuple[float, float]


def rows_of(graph: Graph, target: Target, seed: int, rate: float) -> Iterator[Row]:
    """Yields one row for each N that leaves a layer out."""
    device = find_target(DEVICE)
    everything = reachable(graph, select(graph, "all", rate))
    learn = quantize_inputs(target.learn.x, graph), target.learn.y.astype(np.int64)
    picked = np.random.default_rng(seed).permutation(len(target.test.y))[:TESTED]
    test = target.test.take(picked)
    gains = measure_gains(graph, everything, *learn)
    whole = {c.name: c for c in search_updates(graph, everything, gains, device, Limits()).candidates}
    for layers in range(1, len(everything.trained)):
        last: Candidate = whole[f"last:{layers}"]
        best = search_updates(graph, everything, gains, device, Limits(ram=last.cost.ram)).best
        scores = [_score(graph, plan, learn, test, seed) for plan in (last.plan, best.plan)]
        yield Row(target.name, seed, layers, (last.cost.ram, best.cost.ram), told(best.plan), (scores[0], scores[1]))


def _score(
    graph: Graph,
    plan: TrainingPlan,
    learn: tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]],
    test: Part,
    seed: int,
) -> float:
    """Returns the balanced accuracy in percent after learning."""
    trainer = ReferenceTrainer(graph, plan, DEFAULT_SEED + seed)
    for _ in range(EPOCHS):
        for sample, label in zip(*learn, strict=True):
            trainer.step(sample, int(label))
    predicted = trainer.network.run(quantize_inputs(test.x, graph)).argmax(axis=1)
    found = [np.mean(predicted[test.y == label] == label) for label in np.unique(test.y)]
    return round(100.0 * float(np.mean(found)), 2)


def summary(rows: list[Row]) -> dict[str, Any]:
    """Returns per N, and over all, the mean scores, their difference and its standard error."""
    result = {}
    for name, part in [
        *((f"last:{n}", [r for r in rows if r.layers == n]) for n in sorted({r.layers for r in rows})),
        ("all", rows),
    ]:
        scores = np.array([row.score for row in part])
        gain = scores[:, 1] - scores[:, 0]
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        result[name] = {
            "ram": [int(max(row.ram[i] for row in part)) for i in (0, 1)],
            "score": [round(float(mean), 2) for mean in scores.mean(axis=0)],
            "difference": round(float(gain.mean()), 2),
            "standard_error": round(error, 2),
        }
    return result


def table(content: dict[str, Any]) -> list[str]:
    """Returns the rows of the README's table from what `update_sets.json` holds."""
    return [
        f"| {name} | {limit} | {value['ram'][0]:,} | {value['score'][0]:.1f} | {value['score'][1]:.1f} "
        f"| {value['difference']:+.2f} +- {value['standard_error']:.2f} |"
        for name, result in content["results"].items()
        for limit, value in result["summary"].items()
    ]


def measure(name: str, seeds: int, folder: Path, models: Path) -> dict[str, Any]:
    """Measures one data set, and prints a line for each row."""
    rows: list[Row] = []
    rate = RATES.get(name, RATE)
    for seed in range(seeds):
        for number, domain in enumerate(data.load(name, seed, folder)):
            graph = read_graph(exported_network(models, name, seed, number, domain.source))
            for target in domain.targets:
                for row in rows_of(graph, target, seed, rate):
                    rows.append(row)
                    print(f"{name}, {row.target}, seed {seed}, last:{row.layers}: {row.score} {row.learns}", flush=True)
    return {"rate": rate, "summary": summary(rows), "rows": [asdict(row) for row in rows]}


def exported_network(models: Path, name: str, seed: int, number: int, source: Part) -> Path:
    """Returns the exported network of a source; trains it where `adapt.py --models` has not left one."""
    file = models / f"{name}-{seed}-{number}.tflite"
    if not file.is_file():
        # Imported here: networks that are there need no TensorFlow.
        from models.adaptation import networks
        from rct_tflite.export.tflite_export import export_tflite
        from rct_tflite.spec.graph import TrainingMetadata
        from rct_tflite.training.freeze import freeze

        trained = freeze(networks.trained(networks.NETWORKS[name], source, seed))
        file.write_bytes(export_tflite(trained, TrainingMetadata(rounding=trained.rounding)))
    return file


def main() -> int:
    """Measures, prints, writes; returns 1 if the search is not ahead on two sets, 2 if a data set cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=data.DATA_SETS, default=list(data.DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=data.SHARED, metavar="FOLDER", help="where the data sets are")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="networks, kept and reused")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("update_sets.json"), metavar="FILE")
    options = parser.parse_args()
    options.models.mkdir(parents=True, exist_ok=True)
    old = json.loads(options.json.read_text())["results"] if options.json.is_file() else {}
    try:
        for name in options.only:
            old[name] = measure(name, options.seeds, options.data, options.models)
            content = {
                "command": "python models/adaptation/update_sets.py --models FOLDER",
                "criterion": CRITERION,
                "epochs": EPOCHS,
                "tested": TESTED,
                "results": {key: old[key] for key in data.DATA_SETS if key in old},
            }
            options.json.write_text(json.dumps(content, indent=2) + "\n")
            print(name, json.dumps(old[name]["summary"]), flush=True)
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    return 0 if sum(result["summary"]["all"]["difference"] > 0 for result in old.values()) >= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
