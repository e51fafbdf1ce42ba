"""Time of a training step and memory of the variables: float32 Keras, tfmot's QAT, and integers only, in one run.

python tools/bench_training.py [--steps 20] [--rounds 5] [--json FILE]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # models/ is no part of the installed package

from models.cifar10_resnet import model as resnet  # noqa: E402
from rct_tflite.training.contenders import Contender, Samples, Schedule, method_of  # noqa: E402

import keras  # noqa: E402 isort: skip
import tensorflow as tf  # noqa: E402 isort: skip

BATCH = 128
METHODS = ("float32", "qat", "rct-stochastic", "rct-truncate")


@dataclass(frozen=True)
class Bench:
    """What one way to train costs.

    Attributes:
        step_ms: Time of a training step, the fastest of the rounds.
        of_float32: `step_ms` by that of float32 Keras.
        of_qat: `step_ms` by that of tfmot's QAT.
        model_bytes: Of the variables of the model, by dtype.
        optimizer_bytes: Of those of the optimizer; the SGD of tf_keras holds a momentum even where it is 0.
    """

    step_ms: float
    of_float32: float
    of_qat: float
    model_bytes: dict[str, int]
    optimizer_bytes: dict[str, int]


def runner(contender: Contender, data: Samples) -> Callable[[int], float]:
    """Returns a function that trains some steps and returns their seconds; the batches repeat the same samples."""
    batches = tf.data.Dataset.from_tensors((data.x_train, data.y_train)).cache().repeat()

    def run(steps: int) -> float:
        started = time.perf_counter()
        contender.model.fit(
            batches, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0, callbacks=contender.callbacks
        )
        return time.perf_counter() - started

    return run


def bytes_by_dtype(variables: Any) -> dict[str, int]:
    """Adds up the bytes of variables, each counted once."""
    variables = variables() if callable(variables) else variables  # a method in tf_keras
    total: dict[str, int] = {}
    for variable in {id(variable): variable for variable in variables}.values():
        dtype = tf.as_dtype(variable.dtype)
        total[dtype.name] = total.get(dtype.name, 0) + int(np.prod(variable.shape, dtype=np.int64)) * dtype.size
    return dict(sorted(total.items()))


def measure(steps: int, rounds: int) -> dict[str, Bench]:
    """Trains ResNet-8 in every way, in turns, so that a disturbance meets all of them."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(BATCH, 32, 32, 3)).astype(np.float32), random.integers(0, 10, BATCH)
    data, schedule = Samples(x, y, x, y), Schedule(1, BATCH, 0.1)
    contenders = {name: Contender(resnet.build(0), method_of(name), data, schedule, 0) for name in METHODS}
    runners = {name: runner(contender, data) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for name in METHODS:
        runners[name](2)  # traces
    for _ in range(rounds):
        for name in METHODS:
            # The start of fit() costs the same with one step: what the others add is counted.
            seconds[name].append(max(runners[name](steps + 1) - runners[name](1), 1e-9) / steps)
    best = {name: 1000.0 * min(values) for name, values in seconds.items()}
    return {
        name: Bench(
            step_ms=round(best[name], 2),
            of_float32=round(best[name] / best["float32"], 3),
            of_qat=round(best[name] / best["qat"], 3),
            model_bytes=bytes_by_dtype(contender.model.variables),
            optimizer_bytes=bytes_by_dtype(contender.model.optimizer.variables),
        )
        for name, contender in contenders.items()
    }


def main() -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results = measure(options.steps, options.rounds)
    print(f"ResNet-8, 32x32x3, batch {BATCH}, fastest of {options.rounds} rounds of {options.steps} steps")
    print(f"{'':16}{'ms/step':>9}{'of float32':>12}{'of QAT':>9}  bytes of variables")
    for name, row in results.items():
        parts = {"model": row.model_bytes, "optimizer": row.optimizer_bytes}
        held = "; ".join(
            f"{part}: " + ", ".join(f"{dtype} {size:,}" for dtype, size in sizes.items())
            for part, sizes in parts.items()
        )
        print(f"{name:16}{row.step_ms:9.1f}{row.of_float32:12.2f}{row.of_qat:9.2f}  {held}")
    if options.json:
        rows = {name: asdict(row) for name, row in results.items()}
        options.json.write_text(json.dumps({"batch": BATCH, "keras": keras.__version__, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
