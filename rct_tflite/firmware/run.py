"""Everything that `rct-tflite run` does: build, check, predict, learn, count, estimate."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.emulator.finder import find_emulator
from rct_tflite.emulator.image import ImageSizes
from rct_tflite.energy.estimate import Estimate, estimate
from rct_tflite.errors import FitError, OutputFolderError
from rct_tflite.firmware.build import BuildReport, build_project
from rct_tflite.firmware.manifest import Project, read_project
from rct_tflite.firmware.parameters import tuned_model
from rct_tflite.firmware.samples import Samples, read_samples
from rct_tflite.firmware.session import Cost, FineTuning, emulated_runner, fine_tune, measure
from rct_tflite.planning.fit import memory_need

MEASURED_SAMPLES = 8
RANDOM_SEED = 3


@dataclass(frozen=True)
class RunOptions:
    """What the user chose.

    Attributes:
        test: Labelled samples to predict before and after learning.
        learn: Labelled samples to learn from.
        epochs: Passes over them.
        save: Where to write the `.tflite` with what was learnt.
        toolchain: "auto", "gcc" or "zig".
        emulator: "auto", "qemu" or "unicorn".
    """

    test: Path | None = None
    learn: Path | None = None
    epochs: int = 1
    save: Path | None = None
    toolchain: str = "auto"
    emulator: str = "auto"


@dataclass(frozen=True)
class Memory:
    """Measured memory of the image, in bytes.

    `code` counts everything in flash but the weights as exported; `application` is RAM beside the network's own.
    """

    arena: int
    parameters: int
    state: int
    application: int
    stack_used: int
    stack_reserved: int
    weights_flash: int
    code: int


@dataclass(frozen=True, eq=False)
class RunReport:
    """What a run showed; the accuracies are None where no labelled test samples were given."""

    target: str
    build: BuildReport
    accuracy_before: float | None
    accuracy_after: float | None
    tuning: FineTuning
    lessons: int
    cost: Cost
    memory: Memory
    inference: Estimate
    step: Estimate


def run_project(folder: Path, options: RunOptions) -> RunReport:
    """Builds an exported folder and runs it on an emulated core.

    Args:
        folder: Of `rct-tflite export`.
        options: What the user chose.

    Raises:
        RCTError: If a file is wrong, the compiler or the emulator is missing, or the firmware fails.
    """
    project = read_project(folder)
    test = _samples(options.test, project) or random_samples(project)
    learn = _samples(options.learn, project)
    _check_save(options.save)
    build = build_project(folder, project.target.core, options.toolchain)
    emulator = find_emulator(project.target.core, options.emulator, build.image)
    tuning = fine_tune(emulated_runner(emulator, build.image), learn, test, options.epochs)
    cost = measure(emulator, build.image, _first(learn or test, MEASURED_SAMPLES))
    if options.save is not None:
        _save(options.save, tuned_model(project.model, project.graph, project.memory, tuning.parameters))
    scored = options.test is not None
    return RunReport(
        target=project.target.name,
        build=build,
        accuracy_before=accuracy(tuning.before, test) if scored else None,
        accuracy_after=accuracy(tuning.after, test) if scored else None,
        tuning=tuning,
        lessons=len(tuning.right_while_learning),
        cost=cost,
        memory=measured_memory(project, build.sizes, cost.stack_bytes),
        inference=estimate(project.target, cost.inference),
        step=estimate(project.target, cost.step),
    )


def accuracy(logits: npt.NDArray[np.int8], samples: Samples) -> float:
    """Returns the share of samples whose largest logit, the first of equals, is the label."""
    return float(np.mean(logits.argmax(axis=1) == samples.labelled()))


def _samples(path: Path | None, project: Project) -> Samples | None:
    if path is None:
        return None
    samples = read_samples(path, project.graph)
    samples.labelled()  # refuses what has none before anything is built
    return samples


def _check_save(path: Path | None) -> None:
    """Refuses a place that cannot be written, before the device learns for minutes."""
    if path is not None and not path.absolute().parent.is_dir():
        raise OutputFolderError(
            f"Cannot write {path}. Expected a folder that exists. Received: {path.parent}. Make it, or choose another."
        )


def _save(path: Path, model: bytes) -> None:
    """Writes the file whole or not at all."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_bytes(model)
        staged.replace(path)
    except OSError as error:
        raise OutputFolderError(f"Cannot write {path}: {error}. Choose another place for --save.") from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def random_samples(project: Project) -> Samples:
    """Returns a few labelled samples of noise: instructions hardly depend on what a sample shows."""
    tensor = project.graph.tensors[project.graph.input]
    random = np.random.default_rng(RANDOM_SEED)
    inputs = random.integers(-128, 128, (MEASURED_SAMPLES, *tensor.shape[1:]), np.int8)
    classes = project.graph.tensors[project.graph.output].size
    return Samples(inputs, random.integers(0, classes, MEASURED_SAMPLES))


def _first(samples: Samples, count: int) -> Samples:
    return Samples(samples.inputs[:count], samples.labelled()[:count])


def measured_memory(project: Project, sizes: ImageSizes | None, stack_used: int) -> Memory:
    """Returns what the built image takes.

    Raises:
        FitError: If the stack is deeper than the target reserves.
    """
    assert sizes is not None
    plan, target = project.memory, project.target
    if stack_used > target.stack_bytes:
        raise FitError(
            f"The stack is deeper than target '{target.name}' reserves. Expected at most {target.stack_bytes} B. "
            f"Received: {stack_used} B. Raise stack_bytes in a target file of your own."
        )
    weights = memory_need(project.graph, plan, target).flash_weights
    return Memory(
        arena=plan.arena_bytes,
        parameters=plan.parameter_bytes,
        state=plan.state_bytes,
        application=sizes.data + sizes.bss - plan.ram_bytes,
        stack_used=stack_used,
        stack_reserved=target.stack_bytes,
        weights_flash=weights,
        code=sizes.flash_bytes - weights,
    )
