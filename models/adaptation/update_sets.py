"""What to learn in the same RAM: `--train auto` against the last N layers; writes `update_sets.jsonl`.

python models/adaptation/update_sets.py [--only NAME ...] [--seeds 12] [--first-seed 6] [--factor 1] [--data FOLDER]
    [--models FOLDER] [--rows FILE]

For each target and each N, the search gets the RAM of `last:N` as its limit, and the samples to learn from. Both learn
from the same weights, with the same rate and in the same orders of the samples, with the C code of the device; of each
seed there is a network of its own. The criterion of the search was chosen with sight of the scores of seeds 0 to 5, so
these are left out. A run that was interrupted goes on.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.adaptation import data  # noqa: E402
from models.adaptation.data import Part, Target  # noqa: E402
from models.adaptation.host_builds import HostBuilds  # noqa: E402
from rct_tflite.device import protocol  # noqa: E402
from rct_tflite.errors import RCTError  # noqa: E402
from rct_tflite.firmware.samples import Samples, quantize_inputs  # noqa: E402
from rct_tflite.firmware.session import exchange, lessons_of  # noqa: E402
from rct_tflite.planning.fit import memory_need  # noqa: E402
from rct_tflite.planning.gains import reachable  # noqa: E402
from rct_tflite.planning.memory import plan_memory  # noqa: E402
from rct_tflite.planning.prospects import measure_prospects  # noqa: E402
from rct_tflite.planning.search import Limits, search_updates  # noqa: E402
from rct_tflite.planning.selection import select, told  # noqa: E402
from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.target_file import find_target  # noqa: E402
from rct_tflite.spec.training_plan import TrainingPlan  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402

DEVICE = "cortex-m7"
EPOCHS = 10
ORDERS = 5
"""Each network learns the samples in so many orders, the same for both ways; scores are their mean."""
RATES = {"bearings": 0.003}
"""What `adapt.py` found best for the whole network; of the other sets `RATE`."""
RATE = 0.01
FIRST_SEED = 6


@dataclass(frozen=True)
class Row:
    """One target, one seed, one limit.

    Attributes:
        set: The data set.
        rate: At which both learn.
        target: Its name.
        seed: Of the network and of the orders of the samples.
        layers: N of `last:N`, whose RAM is the limit.
        ram: Bytes that `last:N` and the search's set need.
        learns: What the search chose.
        score: Balanced accuracy in percent after learning, of `last:N` and of the search's set; means over the orders.
    """

    set: str
    rate: float
    target: str
    seed: int
    layers: int
    ram: tuple[int, int]
    learns: str
    score: tuple[float, float]


def rows_of(
    name: str, graph: Graph, everything: TrainingPlan, target: Target, seed: int, builds: HostBuilds
) -> Iterator[Row]:
    """Yields one row for each N that leaves out a layer of those that may learn."""
    device, rate = find_target(DEVICE), everything.learning_rate
    learn = Samples(quantize_inputs(target.learn.x, graph), target.learn.y.astype(np.int64))
    prospects = measure_prospects(graph, everything, learn.inputs, learn.labelled())
    for layers in range(1, len(everything.trained)):
        last = select(graph, f"last:{layers}", rate)
        ram = memory_need(graph, plan_memory(graph, last), device).ram
        best = search_updates(graph, everything, prospects, device, Limits(ram=ram)).best
        before = _score(graph, last, learn, target.test, seed, builds)
        after = before if best.plan == last else _score(graph, best.plan, learn, target.test, seed, builds)
        yield Row(name, rate, target.name, seed, layers, (ram, best.cost.ram), told(best.plan), (before, after))


def _score(graph: Graph, plan: TrainingPlan, learn: Samples, test: Part, seed: int, builds: HostBuilds) -> float:
    """Returns the balanced accuracy in percent after learning, the mean over the orders."""
    runner = builds.runner(graph, plan, learn.inputs[:1])
    predictions = [protocol.predict(sample) for sample in quantize_inputs(test.x, graph)]
    found = []
    for number in range(ORDERS):
        order = np.random.default_rng((seed, number)).permutation(len(learn.inputs))
        lessons = lessons_of(Samples(learn.inputs[order], learn.labelled()[order])) * EPOCHS
        answers = list(exchange(runner, [*lessons, *predictions]))[len(lessons) :]
        predicted = np.array([np.frombuffer(answer.payload, np.int8).argmax() for answer in answers])
        found += [np.mean(predicted[test.y == label] == label) for label in np.unique(test.y)]
    return round(100.0 * float(np.mean(found)), 3)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns per N, and over all, the mean scores, their difference, its standard error, and who gains.

    A target with one seed counts once: over all, its difference is the mean over N, and the error is that of these
    means.

    Args:
        rows: Of one data set at one rate.
    """
    result = {}
    for name, part in [
        *((f"last:{n}", [r for r in rows if r.layers == n]) for n in sorted({r.layers for r in rows})),
        ("all", rows),
    ]:
        targets = sorted({row.target for row in part})
        seeds = sorted({row.seed for row in part})
        gain = np.array([[_gain(part, target, seed) for seed in seeds] for target in targets])
        error = float(gain.std(ddof=1)) / gain.size**0.5 if gain.size > 1 else 0.0
        result[name] = {
            "ram": [int(max(row.ram[i] for row in part)) for i in (0, 1)],
            "score": [round(float(mean), 2) for mean in np.mean([row.score for row in part], axis=0)],
            "difference": round(float(gain.mean()), 2) + 0.0,  # -0.0 is 0
            "standard_error": round(error, 2),
            "targets_ahead": [int((gain.mean(axis=1) > 0).sum()), len(targets)],
        }
    return result


def _gain(rows: Sequence[Row], target: str, seed: int) -> float:
    return float(np.mean([r.score[1] - r.score[0] for r in rows if (r.target, r.seed) == (target, seed)]))


def table(rows: Sequence[Row]) -> list[str]:
    """Returns the rows of the README's tables: of all limits at each set's own rate, and of all rates."""
    lines, rates = [], []
    for name in data.DATA_SETS:
        found = by_rate(rows, name)
        for limit, value in found.get(RATES.get(name, RATE), {}).items():
            lines.append(
                f"| {name} | {limit} | {value['ram'][0]:,} | {value['score'][0]:.1f} | {value['score'][1]:.1f} "
                f"| {_difference(value)} | {value['targets_ahead'][0]} of {value['targets_ahead'][1]} |"
            )
        if len(found) > 1:
            differences = [f"{_difference(found[rate]['all'])} at {rate:g}" for rate in sorted(found)]
            rates.append(f"| {name} | {' | '.join(differences)} |")
    return lines + rates


def by_rate(rows: Sequence[Row], name: str) -> dict[float, dict[str, Any]]:
    """Returns the summaries of a data set by the rate."""
    own = [row for row in rows if row.set == name]
    return {rate: summary([row for row in own if row.rate == rate]) for rate in {row.rate for row in own}}


def _difference(value: dict[str, Any]) -> str:
    return f"{value['difference']:+.2f} +- {value['standard_error']:.2f}"


def measure(name: str, seeds: range, factor: float, folder: Path, models: Path, known: Sequence[Row]) -> Iterator[Row]:
    """Measures one data set at so many times its rate; yields the rows that are not known yet."""
    rate = round(factor * RATES.get(name, RATE), 9)
    done = {(row.seed, row.target, row.layers) for row in known if (row.set, row.rate) == (name, rate)}
    with tempfile.TemporaryDirectory() as work:
        builds = HostBuilds(Path(work))
        for seed in seeds:
            for number, domain in enumerate(data.load(name, seed, folder)):
                graph = read_graph(exported_network(models, name, seed, number, domain.source))
                everything = reachable(graph, select(graph, "all", rate))
                for target in domain.targets:
                    wanted = {(seed, target.name, layers) for layers in range(1, len(everything.trained))}
                    if not wanted <= done:
                        yield from rows_of(name, graph, everything, target, seed, builds)


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


def read_rows(file: Path) -> list[Row]:
    """Reads what was measured before, a row a line."""
    lines = file.read_text().splitlines() if file.is_file() else []
    found = [json.loads(line) for line in lines]
    return [Row(**{**row, "ram": tuple(row["ram"]), "score": tuple(row["score"])}) for row in found]


def main() -> int:
    """Measures, prints, writes; returns 1 if the search is not ahead on two sets, 2 if a data set cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=data.DATA_SETS, default=list(data.DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=12, help="how many networks")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--factor", type=float, default=1.0, help="times the rate of a set")
    parser.add_argument("--data", type=Path, default=data.SHARED, metavar="FOLDER", help="where the data sets are")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="networks, kept and reused")
    parser.add_argument("--rows", type=Path, default=Path(__file__).with_name("update_sets.jsonl"), metavar="FILE")
    options = parser.parse_args()
    options.models.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.rows)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    try:
        for name in options.only:
            for row in measure(name, seeds, options.factor, options.data, options.models, tuple(rows)):
                rows.append(row)
                with options.rows.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(json.dumps(asdict(row)), flush=True)
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    print("\n".join(table(rows)))
    ahead = [by_rate(rows, name).get(RATES.get(name, RATE)) for name in data.DATA_SETS]
    return 0 if sum(is_ahead(value["all"]) for value in ahead if value) >= 2 else 1


def is_ahead(over_all: dict[str, Any]) -> bool:
    """Whether a difference is above 0 by two standard errors."""
    return bool(over_all["difference"] > 2 * over_all["standard_error"])


if __name__ == "__main__":
    sys.exit(main())
