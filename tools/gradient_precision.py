"""How precise gradients are on the device: cosine similarity of each layer's integer weight gradient with TensorFlow's.

TensorFlow differentiates the fake-quantised network in float at the same weights, sample by sample; the integers have
errors of 8 and of 16 bits. Layers are counted from the loss. Weights are random, as Keras starts them; gains run from
sample to sample as in training.

python tools/gradient_precision.py [--json] [--only NAME ...]
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/ is no part of the installed package
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.training_plan import Loss  # noqa: E402
from rct_tflite.tflite.reader import read_graph  # noqa: E402
from tests.gradient_cosines import gradient_cosines  # noqa: E402
from tests.keras_networks import BRANCHES, MLPERF_TINY, converted  # noqa: E402
from tests.reference.test_gradient_precision import convolutions, dense  # noqa: E402
from tests.tflite.one_op import words  # noqa: E402

COUNTS = (4, 8)
"""Samples that only move the gains, and samples that are measured."""


def networks() -> dict[str, Callable[[], Graph]]:
    """Returns functions that make the networks, by name."""
    deep = {
        f"{make.__name__} {n}": (lambda make=make, n=n: make(n)) for make in (dense, convolutions) for n in (10, 20)
    }
    files = {
        name: (lambda make=make: read_graph(converted(make))) for name, make in {**BRANCHES, **MLPERF_TINY}.items()
    }
    return {**deep, **files, "words": lambda: words(rows=100, length=24)}


def measure(name: str, make: Callable[[], Graph]) -> list[dict[str, object]]:
    """Returns a row for each layer of a network, from the loss downwards."""
    loss = Loss.MEAN_SQUARED_ERROR if name == "AD" else Loss.SOFTMAX_CROSS_ENTROPY
    with contextlib.redirect_stdout(sys.stderr):  # Keras tells what it converts
        graph = make()
    cosines = gradient_cosines(graph, loss, name in BRANCHES or name in MLPERF_TINY, COUNTS)
    rows: list[dict[str, object]] = []
    for depth, layer in enumerate(cosines[8], start=1):
        row: dict[str, object] = {"network": name, "depth": depth, "layer": layer}
        for bits, layers in cosines.items():
            row |= {f"mean_{bits}": float(np.mean(layers[layer])), f"lowest_{bits}": float(np.min(layers[layer]))}
        rows.append(row)
    return rows


def main() -> int:
    """Measures and prints; returns the exit status."""
    known = networks()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", nargs="+", choices=known, default=list(known), metavar="NAME")
    options = parser.parse_args()
    if not options.json:
        print(
            f"{'network':18}{'depth':>6}  {'8 bits: mean':>14}{'lowest':>9}  {'16 bits: mean':>14}{'lowest':>9}  layer"
        )
    for name in options.only:
        for row in measure(name, known[name]):
            if options.json:
                print(json.dumps(row), flush=True)
            else:
                line = "{network:18}{depth:6}  {mean_8:14.4f}{lowest_8:9.4f}  {mean_16:14.4f}{lowest_16:9.4f}  {layer}"
                print(line.format(**row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
