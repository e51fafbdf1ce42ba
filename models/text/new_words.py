"""A classifier of questions meets unseen words and learns them on the device; writes `new_words.json`.

Half of the vocabulary is left out of the training: those words are all "unknown" to the network. On the device each of
them has a row of its own, which starts as that of "unknown", and 800 labelled questions teach what they mean. The
firmware's integers (its C, built for this machine) learn beside float32 in Keras: same layers, weights, questions,
order and epochs.

python models/text/new_words.py [--seeds 2] [--data FILE] [--json FILE]
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.adaptation.cost import Cost, cost_of  # noqa: E402
from models.adaptation.data import SHARED, Part  # noqa: E402
from models.adaptation.fine_tuning import FineTuner, FloatTuner, IntegerTuner  # noqa: E402
from models.text.model import CONV_SCHEDULE, build_conv  # noqa: E402
from rct_tflite.errors import DataError, RCTError  # noqa: E402
from rct_tflite.export.tflite_export import export_tflite  # noqa: E402
from rct_tflite.planning.gains import measure_gains  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.spec.graph import Graph, TrainingMetadata  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402
from rct_tflite.training.freeze import freeze  # noqa: E402

import keras  # isort: skip  # noqa: E402

import rct_tflite as rct  # noqa: E402

UNKNOWN, COMMON = 1, 10
"""The id of every word that is not known, and how many of the first (most frequent) words stay known."""
LEARNT, VALIDATED, EPOCHS = 800, 200, 3
SOME_ROWS = 512
RATES = (0.003, 0.01)
SETS = {
    "dense layer": "dense",
    f"{SOME_ROWS} rows, conv, dense": f"embedding:{SOME_ROWS},conv,dense",
    "all": "all",
}
"""What learns; float32 has no rows to choose, and is left out there."""


@dataclass(frozen=True)
class Words:
    """The data, split: what the network is trained on does not know the new words."""

    known: Part
    learn: Part
    test: Part
    words: int


@dataclass(frozen=True)
class Row:
    """One seed: percent of the test questions that are right before and after, and the learning rate, by method."""

    update_set: str
    seed: int
    before: dict[str, float]
    after: dict[str, float]
    rates: dict[str, float]


def split(path: Path, seed: int) -> Words:
    """Reads TREC-6 and takes half of the rarer words away from four fifths of it.

    Raises:
        DataError: If the file is not there.
    """
    if not path.is_file():
        raise DataError(f"The data set is not there. Expected {path}. Received: no file. Give --data.")
    with np.load(path) as file:
        x, y, x_test, y_test = (file[name].astype(np.int32) for name in ("x_train", "y_train", "x_test", "y_test"))
    random = np.random.default_rng(seed)
    words = 1 + int(max(x.max(), x_test.max()))
    is_new = np.zeros(words, bool)
    is_new[COMMON + random.permutation(words - COMMON)[: (words - COMMON) // 2]] = True
    order = random.permutation(len(x))
    train, later = order[: len(x) * 4 // 5], order[len(x) * 4 // 5 :]
    known = np.where(is_new[x[train]], UNKNOWN, x[train]).astype(np.int32)
    learn = later[is_new[x[later]].any(axis=1)][:LEARNT]
    return Words(Part(known, y[train]), Part(x[learn], y[learn]), Part(x_test, y_test), words)


def trained(data: Words, seed: int) -> bytes:
    """Returns the `.tflite` of a network of 8 bits; the rows of new words are that of the unknown word."""
    model = rct.quantize(build_conv(seed, data.words, data.known.x.shape[1], 6), rct.Recipe(bits=8, max_bits=8))
    rate = keras.optimizers.schedules.CosineDecay(
        CONV_SCHEDULE.learning_rate, CONV_SCHEDULE.epochs * -(-len(data.known.y) // CONV_SCHEDULE.batch_size)
    )
    model.compile(rct.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ranges = rct.RCTCallback(min_bits=8, max_bits=8)  # keeps 8 bits, and doubles ranges that are crowded
    schedule = (CONV_SCHEDULE.batch_size, CONV_SCHEDULE.epochs)
    model.fit(data.known.x, data.known.y, *schedule, verbose=0, callbacks=[ranges])
    table = model.get_layer("embedding").integer_weights[0].integers
    rows = table.numpy()
    rows[np.setdiff1d(np.arange(data.words), data.known.x)] = rows[UNKNOWN]
    table.assign(rows)
    network = freeze(model)
    return export_tflite(network, TrainingMetadata(rounding=network.rounding))


def accuracy(classes: npt.NDArray[np.int64], part: Part) -> float:
    """Returns percent."""
    return 100.0 * float(np.mean(classes == part.y))


def learnt(tuner: FineTuner, data: Words) -> tuple[float, float, float]:
    """Returns the accuracy before and after, and the rate that was best on a quarter of what is learnt from."""
    whole = data.learn
    fit, held = whole.take(np.arange(LEARNT - VALIDATED)), whole.take(np.arange(LEARNT - VALIDATED, LEARNT))
    scores = {rate: accuracy(tuner.tune(fit, held, rate, EPOCHS)[1], held) for rate in RATES}
    best = max(scores, key=lambda rate: (scores[rate], -rate))
    before, after = tuner.tune(whole, data.test, best, EPOCHS)
    return accuracy(before, data.test), accuracy(after, data.test), best


def measure(graph: Graph, data: Words, name: str, seed: int, folder: Path) -> Row:
    """Learns with each method."""
    train = SETS[name]
    gains = measure_gains(graph, select(graph, "all"), data.learn.x, data.learn.y)
    folder.mkdir()
    tuners: dict[str, FineTuner] = {
        "integer": IntegerTuner(graph, train, folder, {layer: gain.weights for layer, gain in gains.items()})
    }
    if ":" not in train:
        tuners["float32"] = FloatTuner(graph, select(graph, train))
    found = {method: learnt(tuner, data) for method, tuner in tuners.items()}
    before, after, rates = ({method: values[i] for method, values in found.items()} for i in range(3))
    return Row(name, seed, before, after, rates)


def line(name: str, rows: list[Row], cost: Cost) -> str:
    """Returns a row of the table for people."""
    mean = {
        (what, method): np.mean([getattr(row, what)[method] for row in rows])
        for what in ("before", "after")
        for method in rows[0].after
    }
    floats = f"{mean['after', 'float32']:.1f}" if ("after", "float32") in mean else ""
    rates = ", ".join(f"{row.rates['integer']:g}" for row in rows)
    return (
        f"| {name} | {mean['before', 'integer']:.1f} | {mean['after', 'integer']:.1f} | {floats} | {rates} | "
        f"{cost.ram_bytes:,} | {cost.flash_bytes:,} | {cost.instructions:,} | {cost.energy_uj[0]:,.0f} "
        f"({cost.energy_uj[1]:,.0f} to {cost.energy_uj[2]:,.0f}) |"
    )


def main() -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, default=SHARED / "text_trec6.npz", metavar="FILE")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("new_words.json"), metavar="FILE")
    options = parser.parse_args()
    try:
        results = run(options.data, options.seeds)
    except RCTError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    command = "python models/text/new_words.py" + (f" --seeds {options.seeds}" if options.seeds != 2 else "")
    options.json.write_text(json.dumps({"command": command, **results}, indent=1) + "\n")
    return 0


def run(path: Path, seeds: int) -> dict[str, Any]:
    """Measures every update set with every seed; prints a row for each set."""
    rows: dict[str, list[Row]] = {name: [] for name in SETS}
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            data = split(path, seed)
            model = trained(data, seed)
            graph = read_graph(model, "questions")
            for number, name in enumerate(SETS):
                rows[name].append(measure(graph, data, name, seed, Path(folder, f"{seed}-{number}")))
                sys.stderr.write(f"{rows[name][-1]}\n")
                if name not in costs:
                    costs[name] = cost_of(model, data.learn, SETS[name], RATES[0], Path(folder, f"cost-{number}"))
    for name in SETS:
        sys.stdout.write(line(name, rows[name], costs[name]) + "\n")
    return {
        "rows": [asdict(row) for found in rows.values() for row in found],
        "costs": {name: asdict(cost) for name, cost in costs.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
