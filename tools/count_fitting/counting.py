"""Counts what each kernel executes for a network on the emulated core; the runtime is compiled once for a core."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from networks import Workload

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, Request
from rct_tflite.emulator.finder import find_emulator
from rct_tflite.firmware.build import INCLUDE_FOLDERS, project_sources
from rct_tflite.firmware.project import linker_script, write_firmware
from rct_tflite.firmware.run import random_samples
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import MARKS, kernel_instructions, lessons_of
from rct_tflite.firmware.toolchain import find_toolchain
from rct_tflite.planning.memory import plan_memory
from rct_tflite.spec.emulation import EmulatedProfile
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target

ROOM = 2 * 1024 * 1024


@dataclass(frozen=True)
class Counted:
    """Instructions of a workload, means over the samples.

    Attributes:
        forward: Of a prediction.
        step: Of a training step, its prediction included.
        kernels: (function, instructions) of a prediction and a step together.
    """

    forward: float
    step: float
    kernels: tuple[tuple[str, float], ...]


class Bench:
    """Builds and runs workloads on one core."""

    def __init__(self, core: str, folder: Path) -> None:
        self._core, self._folder = core, folder
        self._toolchain = find_toolchain(core)
        self._objects: dict[bytes, list[Path]] = {}

    @property
    def compiler(self) -> str:
        """Name and version."""
        return f"{self._toolchain.name} {self._toolchain.version}"

    def count(self, workload: Workload) -> Counted:
        """Builds a workload and counts it."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            return self._count(workload, Path(folder))

    def _count(self, workload: Workload, folder: Path) -> Counted:
        graph, plan = workload.graph, workload.plan
        target = _roomy(self._core)
        golden = np.zeros((1, *graph.tensors[graph.input].shape[1:]), np.int8)
        firmware = write_firmware(folder, graph, plan, plan_memory(graph, plan), target, golden)
        includes = [firmware / part for part in INCLUDE_FOLDERS]
        sources = project_sources(folder, self._core)
        common = [source for source in sources if source.parent.name != "model"]
        own = [source for source in sources if source.parent.name == "model"]
        key = b"".join(source.name.encode() + source.read_bytes() for source in common)
        if key not in self._objects:
            kept = Path(tempfile.mkdtemp(dir=self._folder))
            self._objects[key] = self._toolchain.compile(common, includes, kept)
        (folder / "own").mkdir()
        objects = [*self._toolchain.compile(own, includes, folder / "own"), *self._objects[key]]
        image = folder / "firmware.elf"
        self._toolchain.link(objects, image, linker_script=firmware / linker_script(self._core))
        return profile(image, self._core, random_samples(graph, plan.loss), bool(plan.trained))


def profile(image: Path, core: str, samples: Samples, learns: bool) -> Counted:
    """Predicts each sample once and learns from each once, as `rct-tflite estimate` counts."""
    requests = [protocol.predict(sample) for sample in samples.inputs]
    requests += lessons_of(samples) if learns else []
    stream = b"".join(request.encode() for request in [*requests, Request(Command.EXIT)])
    counts = find_emulator(core, image=image).profile(image, stream, marks=MARKS)
    count = len(samples.inputs)
    forward = _span(counts, "rct_mark_predict_begin", "rct_mark_predict_end") / count
    step = _span(counts, "rct_mark_learn_begin", "rct_mark_learn_end") / count if learns else forward
    kernels = tuple((name, number / count) for name, number in kernel_instructions(counts).items())
    return Counted(forward, step, kernels)


def _span(counts: EmulatedProfile, begin: str, end: str) -> int:
    marks = {name: [mark.instructions for mark in counts.marks if mark.name == name] for name in (begin, end)}
    return sum(marks[end]) - sum(marks[begin])


def _roomy(core: str) -> Target:
    """A target of the core with all the memory that its emulated board has."""
    target = find_target(core)
    flash, ram = dataclasses.replace(target.flash, size=ROOM), dataclasses.replace(target.ram, size=ROOM)
    return dataclasses.replace(target, flash=flash, ram=ram)
