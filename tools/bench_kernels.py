"""What the kernels cost: instructions on emulated cores (gcc -O2), RAM, and code (gcc -Os).

A step is one labelled sample: turned from floats to int8, predicted, learnt from; the mean over one epoch of 1440 of
scikit-learn's digits, from the exported weights. A forward pass is the mean of two random samples. RAM is everything of
the trainer: arena, packed weights, state, other variables and the deepest stack; of a forward pass, the arena of
inference alone and the deepest stack. Code is text and constants beyond those of the same image without a network; the
weights are left out.

python tools/bench_kernels.py [--json] [--only NAME ...]
python tools/bench_kernels.py --write-budgets    what tests/firmware/test_kernel_budgets.py compares with
"""

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # tests/ is no part of the installed package

from rct_tflite.emulator import find_emulator, image_sizes  # noqa: E402
from rct_tflite.emulator.image import ImageSizes  # noqa: E402
from rct_tflite.firmware.build import INCLUDE_FOLDERS  # noqa: E402
from rct_tflite.firmware.project import FIRMWARE_FOLDER, linker_script, write_firmware  # noqa: E402
from rct_tflite.firmware.toolchain import COMPILE_FLAGS, CORES, ENTRY, find_toolchain  # noqa: E402
from rct_tflite.planning.fit import memory_need  # noqa: E402
from rct_tflite.planning.memory import plan_memory  # noqa: E402
from rct_tflite.planning.selection import select  # noqa: E402
from rct_tflite.spec.graph import Activation, Graph, Tensor  # noqa: E402
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN  # noqa: E402
from rct_tflite.spec.target_file import find_target  # noqa: E402
from rct_tflite.spec.training_plan import TrainingPlan  # noqa: E402
from tests import mlperf_tiny  # noqa: E402
from tests.graphs import GraphBuilder, conv_digits, dense_digits  # noqa: E402

PROGRAMS = Path(__file__).with_name("bench_programs")
BUDGETS = Path(__file__).with_name("kernel_budgets.json")
BUDGETED = (
    *("fc_step_m4", "fc_step_m0plus", "fc_6bit_step_m4", "cnn_step_m4"),
    *("fwd_m7_ad", "fwd_m7_kws", "fwd_m7_ic", "fwd_m7_vww"),
)
BUDGET_SAMPLES = 24
EPOCH = 1440
FORWARD_SAMPLES = 2
MARKS = {
    "step": ("rct_mark_learn_begin", "rct_mark_learn_end"),
    "forward": ("rct_mark_predict_begin", "rct_mark_predict_end"),
}


@dataclass(frozen=True)
class Workload:
    """A network and what is counted of it.

    Attributes:
        network: Makes it.
        core: That it runs on.
        phase: "step" trains on digits; "forward" predicts random samples, and nothing learns.
        sizes: Whether RAM and code are reported too.
    """

    network: Callable[[], Graph]
    core: str
    phase: str = "step"
    sizes: bool = False


WORKLOADS = {
    "fc_step_m4": Workload(dense_digits, "cortex-m4", sizes=True),
    "fc_step_m0plus": Workload(dense_digits, "cortex-m0plus", sizes=True),
    "fc_6bit_step_m4": Workload(functools.partial(dense_digits, bits=6), "cortex-m4", sizes=True),
    "fc_6bit_step_m0plus": Workload(functools.partial(dense_digits, bits=6), "cortex-m0plus"),
    "fc_4bit_step_m4": Workload(functools.partial(dense_digits, bits=4), "cortex-m4"),
    "fc_12bit_step_m4": Workload(functools.partial(dense_digits, bits=12), "cortex-m4", sizes=True),
    "fc_per_channel_step_m4": Workload(
        lambda: (
            GraphBuilder((64,), headroom=(2.0, 4.0))
            .dense(32, per_channel=True)
            .dense(10, Activation.NONE, per_channel=True)
            .graph()
        ),
        "cortex-m4",
    ),
    "cnn_step_m4": Workload(conv_digits, "cortex-m4", sizes=True),
    "cnn_step_m0plus": Workload(conv_digits, "cortex-m0plus"),
    "cnn_6bit_step_m4": Workload(functools.partial(conv_digits, bits=6), "cortex-m4"),
    "fwd_m7_ad": Workload(mlperf_tiny.anomaly_detection, "cortex-m7", "forward", sizes=True),
    "fwd_m7_kws": Workload(mlperf_tiny.keyword_spotting, "cortex-m7", "forward", sizes=True),
    "fwd_m7_ic": Workload(mlperf_tiny.image_classification, "cortex-m7", "forward", sizes=True),
    "fwd_m7_vww": Workload(mlperf_tiny.visual_wake_words, "cortex-m7", "forward", sizes=True),
}


@dataclass(frozen=True)
class Figure:
    """One line of the result."""

    name: str
    core: str
    value: int
    unit: str


def measure(name: str, samples: int | None = None) -> Iterator[Figure]:
    """Builds and runs one workload.

    Args:
        name: A key of `WORKLOADS`.
        samples: How many to learn from; the default is what the module's docstring says.
    """
    yield from measure_workload(name, WORKLOADS[name], samples)


def measure_workload(name: str, workload: Workload, samples: int | None = None) -> Iterator[Figure]:
    """Builds and runs a workload; see `measure()`."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _Bench(name, workload, Path(folder), samples).figures()


class _Bench:
    """One workload in a folder of its own."""

    def __init__(self, name: str, workload: Workload, folder: Path, samples: int | None) -> None:
        self._name, self._workload = name, workload
        self._graph = workload.network()
        trains = workload.phase == "step"
        self._plan = select(self._graph, "all" if trains else "last:1")  # the generator wants something that learns
        self._memory = plan_memory(self._graph, self._plan)
        self._target = dataclasses.replace(find_target("cortex-m7"), core=workload.core)
        self._count = samples if samples and trains else EPOCH if trains else FORWARD_SAMPLES
        golden = np.zeros((1, *self._input.shape[1:]), np.int8)
        self._firmware = write_firmware(folder, self._graph, self._plan, self._memory, self._target, golden)
        assert self._firmware == folder / FIRMWARE_FOLDER

    @property
    def _input(self) -> Tensor:
        return self._graph.tensors[self._graph.input]

    def figures(self) -> Iterator[Figure]:
        core = self._workload.core
        image, sizes = self._build("trainer", "-O2", with_model=True)
        marks = MARKS[self._workload.phase]
        profile = find_emulator(core, image=image).profile(image, self._request(), marks=marks)
        spans = [
            sum(mark.instructions for mark in profile.marks if mark.name == mark_name) for mark_name in reversed(marks)
        ]
        yield Figure(self._name, core, (spans[0] - spans[1]) // self._count, "instructions")
        if self._workload.sizes:
            yield Figure(f"{self._name}_ram", core, self._static_ram(sizes) + profile.stack_bytes, "bytes")
            yield Figure(f"{self._name}_code", core, self._code(), "bytes")

    def _static_ram(self, sizes: ImageSizes) -> int:
        if self._workload.phase == "forward":
            inference = TrainingPlan((), self._plan.learning_rate, self._plan.rounding)
            return plan_memory(self._graph, inference).arena_bytes
        _, bare = self._build("bare", "-O2", with_model=False)
        return sizes.data + sizes.bss - bare.data - bare.bss

    def _code(self) -> int:
        _, full = self._build("small", "-Os", with_model=True)
        _, bare = self._build("small_bare", "-Os", with_model=False)
        weights = memory_need(self._graph, self._memory, self._target).flash_weights
        return full.text + full.rodata - bare.text - bare.rodata - weights

    def _build(self, name: str, optimisation: str, with_model: bool) -> tuple[Path, ImageSizes]:
        """Links the smallest trainer, with the network or without one."""
        firmware, core = self._firmware, self._workload.core
        runtime = [*firmware.glob("model/*.c"), *firmware.glob("runtime/*.c"), *firmware.glob("runtime/kernels/*.c")]
        port = [*firmware.glob("ports/cortex-m/*.c"), firmware / "app" / "marks.c"]
        sources = [PROGRAMS / "trainer.c", *port, *(sorted(runtime) if with_model else [PROGRAMS / "no_model.c"])]
        image = firmware / f"{name}.elf"
        macros = {
            "BENCH_LEARNS": int(self._workload.phase == "step"),
            "BENCH_INPUTS": f"{self._input.size}u",
            "BENCH_INPUT_FACTOR": f"{1.0 / self._input.scale!r}f",
            "BENCH_INPUT_ZERO_POINT": f"({self._input.zero_point})",
        }
        command = [
            *find_toolchain(core, "gcc").command,
            *(optimisation if flag == "-O2" else flag for flag in COMPILE_FLAGS),
            *CORES[core].gcc,
            *(f"-D{macro}={value}" for macro, value in macros.items()),
            *(f"-I{firmware / part}" for part in INCLUDE_FOLDERS),
            *map(str, sources),
            *("--specs=nano.specs", "-nostartfiles", "-Wl,--gc-sections", f"-Wl,-e,{ENTRY}"),
            *("-T", str(firmware / linker_script(core)), "-o", str(image)),
        ]
        subprocess.run(command, check=True)
        return image, image_sizes(image)

    def _request(self) -> bytes:
        """What the trainer reads."""
        if self._workload.phase == "step":
            inputs, labels = digits()
        else:
            low, high = ((end - self._input.zero_point) * self._input.scale for end in (ACTIVATION_MIN, ACTIVATION_MAX))
            inputs = np.random.default_rng(0).random((self._count, self._input.size), np.float32)
            inputs = (low + inputs * (high - low)).astype(np.float32)
            labels = np.zeros(self._count, np.uint32)
        pairs = zip(labels[: self._count], inputs[: self._count], strict=True)
        return b"".join(label.tobytes() + sample.tobytes() for label, sample in pairs)


@functools.cache
def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
    """The samples of an epoch, float32 (n, 64) within 0 to 1, and their labels (n,)."""
    from sklearn.datasets import load_digits  # of the extra "demo"

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))[:EPOCH]
    return (data.data[order] / 16.0).astype(np.float32), data.target[order].astype(np.uint32)


def write_budgets() -> None:
    """Measures what the tests compare with: a few samples of each budgeted workload."""
    figures = {figure.name: figure.value for name in BUDGETED for figure in measure(name, BUDGET_SAMPLES)}
    BUDGETS.write_text(json.dumps(figures, indent=2) + "\n")


def main() -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--write-budgets", action="store_true", help=f"rewrite {BUDGETS.name} and print nothing")
    options = parser.parse_args()
    if options.write_budgets:
        write_budgets()
        return 0
    for name in options.only:
        for figure in measure(name):
            if options.json:
                print(json.dumps(dataclasses.asdict(figure)), flush=True)
            else:
                print(f"{figure.name:32}{figure.core:16}{figure.value:12,} {figure.unit}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
