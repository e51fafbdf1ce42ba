"""Measures the digits network: float32 against integers only, over seeds; writes `results.json` beside this file.

python models/digits/evaluate.py [--seeds 3] [--epochs 30]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import model as digits
import numpy as np

import rct_tflite as rct
from rct_tflite.training.memory import parameter_bytes

LARGEST_LOSS = 1.0  # points of accuracy below float32
LARGEST_SHARE = 0.30  # of the bytes of float32

_fixed = partial(rct.RCTCallback, freeze_after=0)
VARIANTS: dict[str, tuple[rct.Recipe, Callable[[], rct.RCTCallback]]] = {
    "stochastic, adaptive from 6 bits": (rct.Recipe(bits=6), rct.RCTCallback),
    "stochastic, 6 bits": (rct.Recipe(bits=6), _fixed),
    "stochastic, 4 bits": (rct.Recipe(bits=4), _fixed),
    "truncate, 6 bits": (rct.Recipe(bits=6, rounding="truncate"), _fixed),
    "truncate, adaptive from 6 bits, up to 16 bits": (
        rct.Recipe(bits=6, max_bits=16, rounding="truncate"),
        rct.RCTCallback,
    ),
}


def accuracy(model: Any) -> float:
    """Returns the accuracy on the test set, in percent."""
    test = digits.load().test
    return 100.0 * float(model.evaluate(test.images, test.labels, verbose=0, return_dict=True)["accuracy"])


def measure(variant: str, seeds: int, epochs: int) -> dict[str, Any]:
    """Trains one variant with each seed."""
    recipe, callback = VARIANTS[variant]
    accuracies, bits, sizes, seconds = [], [], [], []
    for seed in range(seeds):
        start = time.perf_counter()
        model = digits.train(seed, recipe, epochs, callback())
        seconds.append(time.perf_counter() - start)
        accuracies.append(accuracy(model))
        bits.append([int(layer.bits) for layer in model.integer_weights])
        sizes.append(parameter_bytes(model))
    return {
        "accuracy_percent": np.round(accuracies, 2).tolist(),
        "mean_accuracy_percent": round(float(np.mean(accuracies)), 2),
        "final_bits": bits,
        "parameter_bytes": max(size.rct for size in sizes),
        "share_of_float32": round(max(size.rct / size.float32 for size in sizes), 4),
        "share_of_qat": round(max(size.rct / size.qat for size in sizes), 4),
        "seconds_per_training": round(float(np.mean(seconds)), 1),
    }


def main() -> int:
    """Measures all variants; returns 1 if the adaptive one misses the bar."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=digits.EPOCHS)
    options = parser.parse_args()
    floats = [accuracy(digits.train_float(seed, options.epochs)) for seed in range(options.seeds)]
    results: dict[str, Any] = {"epochs": options.epochs, "seeds": options.seeds}
    results["float32"] = {
        "accuracy_percent": np.round(floats, 2).tolist(),
        "mean_accuracy_percent": round(float(np.mean(floats)), 2),
    }
    print(f"{'float32':55} {np.mean(floats):6.2f} %")
    for variant in VARIANTS:
        row = results[variant] = measure(variant, options.seeds, options.epochs)
        share = row["share_of_float32"]
        print(f"{variant:55} {row['mean_accuracy_percent']:6.2f} %  {100 * share:5.1f} % of the bytes", flush=True)
    chosen = results[next(iter(VARIANTS))]
    loss = float(np.mean(floats)) - chosen["mean_accuracy_percent"]
    reached = loss <= LARGEST_LOSS and chosen["share_of_float32"] <= LARGEST_SHARE
    results["bar"] = {"loss_points": round(loss, 2), "reached": reached}
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(
        f"bar: at most {LARGEST_LOSS} points and {LARGEST_SHARE:.0%} of the bytes: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
