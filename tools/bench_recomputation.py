"""What computing activations again saves and costs: MLPerf Tiny's four networks, emulated Cortex-M7, gcc -O2.

A network learns from a few random samples, once with every activation kept that the backward pass reads, once with at
most 5 % more instructions as the plan estimates them, once with the smallest arena that the search finds. Instructions
are counted, of a step with its prediction. The learnt bytes must be equal; else this ends with an error.

python tools/bench_recomputation.py [--json] [--only NAME ...]
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/ is no part of the installed package

from rct_tflite.device.protocol import Command, Request  # noqa: E402
from rct_tflite.emulator.finder import find_emulator  # noqa: E402
from rct_tflite.firmware.build import build_project  # noqa: E402
from rct_tflite.firmware.project import write_firmware  # noqa: E402
from rct_tflite.firmware.samples import Samples  # noqa: E402
from rct_tflite.firmware.session import emulated_runner, exchange, lessons_of, measure  # noqa: E402
from rct_tflite.planning.memory import plan_memory  # noqa: E402
from rct_tflite.planning.recomputation import choose_recomputation  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.spec.graph import Graph  # noqa: E402
from rct_tflite.spec.target import Memory  # noqa: E402
from rct_tflite.spec.target_file import find_target  # noqa: E402
from rct_tflite.spec.training_plan import Loss, TrainingPlan  # noqa: E402
from tests import mlperf_tiny  # noqa: E402

CORE = "cortex-m7"
SAMPLES = 2
RATE = 0.01
REQUESTS = ("none", "5%", "1000%")
"""As `--recompute` takes them; the last one is the smallest arena."""
RAM_BYTES = 2**20

CASES: dict[str, tuple[Callable[[], Graph], str]] = {
    "ad": (mlperf_tiny.anomaly_detection, "all"),
    "kws": (mlperf_tiny.keyword_spotting, "all"),
    "ic": (mlperf_tiny.image_classification, "all"),
    "vww": (mlperf_tiny.visual_wake_words, "all"),
    "kws last:6": (mlperf_tiny.keyword_spotting, "last:6"),
    "ic last:6": (mlperf_tiny.image_classification, "last:6"),
    "vww last:20": (mlperf_tiny.visual_wake_words, "last:20"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to plan one network.

    Attributes:
        name: Of the case.
        train: What learns.
        request: How much may be computed again.
        recomputed: How many ops run again.
        arena: Bytes.
        instructions: Of a training step.
        more_instructions: Part of a step where everything is kept.
    """

    name: str
    train: str
    request: str
    recomputed: int
    arena: int
    instructions: int
    more_instructions: float


def rows(name: str) -> Iterator[Row]:
    """Measures a case.

    Raises:
        SystemExit: If the learnt bytes differ.
    """
    make, train = CASES[name]
    graph = make()
    loss = Loss.MEAN_SQUARED_ERROR if name == "ad" else Loss.SOFTMAX_CROSS_ENTROPY
    plan = select(graph, train, RATE, str(loss))
    kept: tuple[int, bytes] | None = None
    planned = {}
    for request in REQUESTS:
        found = choose_recomputation(graph, plan, CORE, request, lambda _: False)
        again = plan if found is None else found.plan
        if again.recomputed in planned and request != REQUESTS[0]:
            continue
        planned[again.recomputed] = request
        instructions, learnt = learn(graph, again)
        kept = kept or (instructions, learnt)
        if learnt != kept[1]:
            raise SystemExit(f"{name}: {request} learnt other bytes")
        arena = plan_memory(graph, again).arena_bytes
        more = instructions / kept[0] - 1
        yield Row(name, train, request, len(again.recomputed), arena, instructions, more)


def learn(graph: Graph, plan: TrainingPlan) -> tuple[int, bytes]:
    """Returns the instructions of a step, and what is learnt, on the emulated core."""
    target = find_target(CORE)
    target = dataclasses.replace(target, ram=Memory(target.ram.origin, RAM_BYTES))
    samples = lessons(graph, plan.loss)
    with tempfile.TemporaryDirectory() as folder:
        write_firmware(Path(folder), graph, plan, plan_memory(graph, plan), target, samples.inputs[:1])
        image = build_project(Path(folder), CORE, "gcc").image
        emulator = find_emulator(CORE, image=image)
        requests = [Request(Command.SELF_TEST), *lessons_of(samples), Request(Command.READ_PARAMETERS)]
        learnt = list(exchange(emulated_runner(emulator, image), requests))[-1].payload
        return measure(emulator, image, samples, True).step, learnt


def lessons(graph: Graph, loss: Loss) -> Samples:
    """Returns random samples with labels or targets."""
    random = np.random.default_rng(5)
    inputs = random.integers(-128, 128, (SAMPLES, *graph.tensors[graph.input].shape[1:]), np.int8)
    outputs = graph.tensors[graph.output].size
    if loss.takes_class:
        return Samples(inputs, random.integers(0, outputs, SAMPLES))
    return Samples(inputs, None, random.integers(-128, 128, (SAMPLES, outputs), np.int8))


def main() -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    options = parser.parse_args()
    for name in options.only:
        for row in rows(name):
            if options.json:
                print(json.dumps(dataclasses.asdict(row)), flush=True)
            else:
                print(
                    f"{row.name:12} {row.train:8} {row.request:>6}  {row.recomputed:3} ops again "
                    f"{row.arena:9,} B arena {row.instructions:13,} instructions {100 * row.more_instructions:+6.1f} %",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
