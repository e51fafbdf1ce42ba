"""What more bits give to updates that truncate: a dense network that learns digits on the device from random weights.

Each row is one bit-width and rounding of the same network, 64-32-10, at a learning rate at which most updates are
smaller than a step of 8 bits: accuracy on held digits after three epochs of 1200 samples, one by one, mean and spread
over three seeds, by the NumPy reference, whose bytes every device has; instructions of a training step (mean of one
epoch, gcc -O2) and RAM, stack included, on an emulated Cortex-M4.

python tools/update_widths.py [--json]
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/ is no part of the installed package

from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.reference.trainer import ReferenceTrainer  # noqa: E402
from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN, Rounding  # noqa: E402
from tests.graphs import dense_digits  # noqa: E402
from tools.bench_kernels import Workload, digits, measure_workload  # noqa: E402

LEARNING_RATE = 0.01
EPOCHS = 3
LEARNT = 1200
SEEDS = 3
CASES = (
    *((Rounding.TRUNCATE, bits) for bits in (8, 10, 12)),
    *((Rounding.STOCHASTIC, bits) for bits in (8, 12)),
)


@dataclass(frozen=True)
class Row:
    """One bit-width and rounding: accuracies in percent, instructions and bytes."""

    rounding: str
    bits: int
    accuracy: float
    spread: float
    instructions: int
    ram: int


def network(rounding: Rounding, bits: int, seed: int = 0) -> Graph:
    """Returns the network with random weights, which differ between bit-widths by their rounding alone."""
    graph = dense_digits(seed, bits)
    training = dataclasses.replace(graph.training, learning_rate=LEARNING_RATE, rounding=str(rounding))
    return dataclasses.replace(graph, training=training)


def accuracy(rounding: Rounding, bits: int, seed: int) -> float:
    """Returns the percent of held digits that are right after learning."""
    graph, (samples, labels) = network(rounding, bits, seed), digits()
    source = graph.tensors[graph.input]
    quantised = np.clip(np.rint(samples / source.scale) + source.zero_point, ACTIVATION_MIN, ACTIVATION_MAX)
    inputs, order = quantised.astype(np.int8), np.random.default_rng(seed).permutation(len(labels))
    trainer = ReferenceTrainer(graph, select(graph, "all"))
    for i in np.tile(order[:LEARNT], EPOCHS):
        trainer.step(inputs[i], int(labels[i]))
    held = order[LEARNT:]
    return 100.0 * float(np.mean(trainer.network.run(inputs[held]).argmax(axis=1) == labels[held]))


def measure(rounding: Rounding, bits: int) -> Row:
    """Learns with every seed; counts on the emulated core."""
    accuracies = [accuracy(rounding, bits, seed) for seed in range(SEEDS)]
    workload = Workload(lambda: network(rounding, bits), "cortex-m4", sizes=True)
    instructions, ram, _ = (figure.value for figure in measure_workload("step", workload))
    mean, spread = float(np.mean(accuracies)), float(np.std(accuracies))
    return Row(str(rounding), bits, round(mean, 1), round(spread, 1), instructions, ram)


def rows() -> Iterator[Row]:
    """Yields a row for each case."""
    yield from (measure(*case) for case in CASES)


def main() -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if not options.json:
        print(f"{'rounding':12}{'bits':>5}{'accuracy, %':>16}{'instructions a step':>22}{'RAM, B':>9}")
    for row in rows():
        if options.json:
            print(json.dumps(dataclasses.asdict(row)), flush=True)
        else:
            told = f"{row.accuracy:.1f} +- {row.spread:.1f}"
            print(f"{row.rounding:12}{row.bits:>5}{told:>16}{row.instructions:>22,}{row.ram:>9,}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
