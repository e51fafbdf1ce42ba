"""Fits `rct_tflite/planning/instruction_counts.json`, from which instructions are estimated where none can be counted.

Seeded small networks (`networks.py`) are built and counted on the emulated core, as `rct-tflite estimate` counts: means
over the first eight training steps on noise. What each loop of a kernel costs is then fitted to these counts.

./tools/fit_counts [CORE ...]        counts and fits; prints how far each network lies off that was left out
./tools/fit_counts --compare [CORE ...]  networks that the fit never saw: estimated against counted; writes nothing
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tests/ is no part of the installed package

from counting import Bench  # noqa: E402
from fitting import Costs, Sample, factors, fit, predicted, samples_of  # noqa: E402
from networks import Workload, workloads  # noqa: E402

from rct_tflite.firmware.toolchain import CORES  # noqa: E402
from rct_tflite.planning.count_model import DATA, CountModel  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from tests import mlperf_tiny  # noqa: E402
from tests.graphs import conv_digits, dense_digits  # noqa: E402

DIGITS = 4
"""Of a cost: more would say more than is known."""


def compared() -> list[Workload]:
    """Networks of the size that people use; none of them is fitted to."""
    named = (
        ("dense 64-32-10", dense_digits(), "all"),
        ("digits CNN", conv_digits(), "all"),
        ("AD autoencoder", mlperf_tiny.anomaly_detection(), "all"),
        ("KWS DS-CNN", mlperf_tiny.keyword_spotting(), "all"),
        ("IC ResNet-8", mlperf_tiny.image_classification(), "all"),
        ("VWW MobileNet, last two", mlperf_tiny.visual_wake_words(), "last:2"),
        ("VWW MobileNet, biases", mlperf_tiny.visual_wake_words(), "bias"),
    )
    return [Workload(name, graph, select(graph, train)) for name, graph, train in named]


def compare(core: str) -> None:
    """Prints what is estimated beside what is counted."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(core, Path(folder))
        print(f"{core}, {bench.compiler}")
        for workload in compared():
            counted = bench.count(workload)
            told = CountModel(workload.graph, core).estimate(workload.plan)
            step, off = told.step, told.inference.value / counted.forward - 1
            print(
                f"  {workload.name:26} inference {counted.forward:13,.0f} {off:+7.1%}"
                f"   step {counted.step:13,.0f} {step.value / counted.step - 1:+7.1%}"
                f" (interval {step.low / step.value - 1:+.0%} to {step.high / step.value - 1:+.0%})",
                flush=True,
            )


def fitted(core: str) -> dict[str, object]:
    """Counts and fits a core; prints the errors of the networks that were left out, one after the other."""
    chosen = list(workloads())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(core, Path(folder))
        samples = samples_of(chosen, {workload.name: bench.count(workload) for workload in chosen})
    left_out = [fit([other for other in samples if other is not sample]) for sample in samples]
    errors = _errors(samples, left_out)
    told = {
        phase: [round(float(np.quantile(values, q)), 3) for q in (0.5, 0.9, 1.0)] for phase, values in errors.items()
    }
    print(f"{core}, {bench.compiler}: {len(samples)} networks, median, p90 and worst error of one that is left out")
    for phase, (median, high, worst) in told.items():
        print(f"  {phase:10} {median:6.1%} {high:6.1%} {worst:6.1%}", flush=True)
    costs = fit(samples)
    kernels = sorted({kernel for kernel, _ in costs})
    return {
        "compiler": bench.compiler,
        "networks": len(samples),
        "errors_of_left_out": told,
        "costs": {
            kernel: _told({what: cost for (name, what), cost in costs.items() if name == kernel}) for kernel in kernels
        },
        "factors": _told(factors(samples, left_out)),
    }


def _errors(samples: Sequence[Sample], left_out: Sequence[Costs]) -> dict[str, list[float]]:
    errors: dict[str, list[float]] = {"inference": [], "step": []}
    for sample, costs in zip(samples, left_out, strict=True):
        forward = sum(predicted(sample.assumed.forward, costs).values())
        step = forward + sum(predicted(sample.assumed.backward, costs).values())
        errors["inference"].append(abs(forward / sample.counted.forward - 1.0))
        errors["step"].append(abs(step / sample.counted.step - 1.0))
    return errors


def _told(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.{DIGITS}g}") for name, value in sorted(values.items())}


def main() -> int:
    """Fits or compares; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cores", nargs="*", choices=[*CORES, []], metavar="CORE", help="all, if none is named")
    parser.add_argument("--compare", action="store_true", help="networks that were not fitted to; writes nothing")
    options = parser.parse_args()
    for core in options.cores or CORES:
        if options.compare:
            compare(core)
            continue
        known = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
        known[core] = fitted(core)
        ordered = {name: known[name] for name in CORES if name in known}
        DATA.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
