"""Everything that `rct-tflite run` does: build, check, predict, learn, count, estimate."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.emulator.finder import find_emulator
from rct_tflite.energy.estimate import Estimate, estimate
from rct_tflite.errors import EmulatorError, OutputFolderError, RecipeError
from rct_tflite.firmware.aided_session import NO_WISHES, AidReport, AidWishes, check_wishes, fine_tune_aided
from rct_tflite.firmware.build import BuildReport, build_project
from rct_tflite.firmware.manifest import Project, read_project
from rct_tflite.firmware.parameters import tuned_model
from rct_tflite.firmware.samples import Samples, read_samples
from rct_tflite.firmware.session import Cost, FineTuning, emulated_runner, fine_tune, measure
from rct_tflite.planning.extras import Extra
from rct_tflite.planning.fit import memory_need
from rct_tflite.spec.graph import Graph, OpKind
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.training_plan import Loss

MEASURED_SAMPLES = 8
RANDOM_SEED = 3


@dataclass(frozen=True)
class RunOptions:
    """What the user chose.

    Attributes:
        test: Samples with labels or targets, to predict before and after learning.
        learn: Samples with labels or targets, to learn from.
        epochs: Passes over them.
        save: Where to write the `.tflite` with what was learnt.
        toolchain: "auto", "gcc" or "zig".
        emulator: "auto", "qemu" or "unicorn".
        wishes: Aids of learning to make use of.
    """

    test: Path | None = None
    learn: Path | None = None
    epochs: int = 1
    save: Path | None = None
    toolchain: str = "auto"
    emulator: str = "auto"
    wishes: AidWishes = NO_WISHES


@dataclass(frozen=True)
class Memory:
    """Measured memory of the image, in bytes.

    `code` counts everything in flash but the weights as exported; `application` is RAM beside the network's own.
    `stack_used` is the deepest stack of the run, `stack_bound` that of any run, without interrupts.
    """

    arena: int
    parameters: int
    state: int
    application: int
    stack_used: int
    stack_bound: int
    stack_reserved: int
    weights_flash: int
    code: int
    extras: tuple[Extra, ...] = ()


@dataclass(frozen=True, eq=False)
class RunReport:
    """What a run showed.

    Attributes:
        accuracy_before: None where no labelled test samples were given, or the loss takes targets.
        error_before: Mean absolute difference between output and target, in real numbers; None where no test samples
            were given, or the loss takes a class.
    """

    target: str
    build: BuildReport
    accuracy_before: float | None
    accuracy_after: float | None
    error_before: float | None
    error_after: float | None
    tuning: FineTuning
    lessons: int
    cost: Cost
    memory: Memory
    inference: Estimate
    step: Estimate
    aids: AidReport | None = None


def run_project(folder: Path, options: RunOptions) -> RunReport:
    """Builds an exported folder and runs it on an emulated core.

    Args:
        folder: Of `rct-tflite export`.
        options: What the user chose.

    Raises:
        RCTError: If a file is wrong, the compiler or the emulator is missing, or the firmware fails.
    """
    project = read_project(folder)
    test = _samples(options.test, project) or random_samples(project.graph, project.plan.loss)
    learn = _samples(options.learn, project)
    if learn is not None and not project.plan.trained:
        raise RecipeError(
            "Nothing learns in this export. Expected no samples to learn from. Received: --learn. "
            "Leave --learn out, or export the model again with --train."
        )
    _check_save(options.save)
    check_wishes(options.wishes, project.plan.aids, learn)
    build = build_project(folder, project.target.core, options.toolchain)
    emulator = find_emulator(project.target.core, options.emulator, build.image)
    runner, aids = emulated_runner(emulator, build.image), None
    if learn is not None and options.wishes != NO_WISHES:
        tuning, aids = fine_tune_aided(runner, learn, test, options.epochs, options.wishes)
    else:
        tuning = fine_tune(runner, learn, test, options.epochs)
    cost = measure(emulator, build.image, (learn or test).first(MEASURED_SAMPLES), bool(project.plan.trained))
    if options.save is not None:
        _save(options.save, tuned_model(project.model, project.graph, project.memory, tuning.parameters))
    scored, loss = options.test is not None, project.plan.loss
    return RunReport(
        target=project.target.name,
        build=build,
        accuracy_before=accuracy(tuning.before, test) if scored and loss.takes_class else None,
        accuracy_after=accuracy(tuning.after, test) if scored and loss.takes_class else None,
        error_before=mean_error(tuning.before, test, project.graph, loss) if scored and not loss.takes_class else None,
        error_after=mean_error(tuning.after, test, project.graph, loss) if scored and not loss.takes_class else None,
        tuning=tuning,
        lessons=len(tuning.while_learning),
        cost=cost,
        memory=measured_memory(project, build, cost.stack_bytes),
        inference=estimate(project.target, cost.inference),
        step=estimate(project.target, cost.step),
        aids=aids,
    )


def accuracy(logits: npt.NDArray[np.int8], samples: Samples) -> float:
    """Returns the share of samples whose largest logit, the first of equals, is the label."""
    return float(np.mean(logits.argmax(axis=1) == samples.labelled()))


def mean_error(outputs: npt.NDArray[np.int8], samples: Samples, graph: Graph, loss: Loss) -> float:
    """Returns the mean absolute difference between outputs and targets, in real numbers: probabilities for sigmoid."""
    assert samples.targets is not None
    output = graph.tensors[graph.output]
    values = (outputs.reshape(samples.targets.shape).astype(np.float64) - output.zero_point) * output.scale
    targets = (samples.targets.astype(np.float64) - output.zero_point) * output.scale
    if loss is Loss.SIGMOID_CROSS_ENTROPY:
        targets = (samples.targets.astype(np.float64) - ACTIVATION_MIN) / (ACTIVATION_MAX - ACTIVATION_MIN)
        values = values if graph.ops[-1].kind is OpKind.LOGISTIC else 1.0 / (1.0 + np.exp(-values))
    return float(np.abs(values - targets).mean())


def _samples(path: Path | None, project: Project) -> Samples | None:
    if path is None:
        return None
    samples = read_samples(path, project.graph, project.plan.loss)
    samples.require_wanted(project.plan.loss)  # refuses what has none before anything is built
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


def random_samples(graph: Graph, loss: Loss) -> Samples:
    """Returns a few samples of noise with labels or targets: instructions hardly depend on what a sample shows."""
    random = np.random.default_rng(RANDOM_SEED)
    inputs = graph.random_inputs(MEASURED_SAMPLES, random)
    outputs = graph.tensors[graph.output].size
    if loss.takes_class:
        return Samples(inputs, random.integers(0, outputs, MEASURED_SAMPLES))
    return Samples(inputs, None, random.integers(-128, 128, (MEASURED_SAMPLES, outputs), np.int8))


def measured_memory(project: Project, build: BuildReport, stack_used: int) -> Memory:
    """Returns what the built image takes.

    Raises:
        EmulatorError: If a run went deeper than the image's bound says.
    """
    sizes, bound = build.sizes, build.stack
    assert sizes is not None
    assert bound is not None
    plan, target = project.memory, project.target
    if stack_used > bound.stack_bytes:
        raise EmulatorError(
            f"The stack got deeper than any chain of calls. Expected at most {bound.stack_bytes} B. "
            f"Received: {stack_used} B. An interrupt that the firmware enables is not in the bound; else report this."
        )
    weights = memory_need(project.graph, plan, target).flash_weights
    return Memory(
        arena=plan.arena_bytes,
        parameters=plan.parameter_bytes,
        state=plan.state_bytes,
        application=sizes.data + sizes.bss - plan.ram_bytes,
        stack_used=stack_used,
        stack_bound=bound.stack_bytes,
        stack_reserved=target.stack_bytes,
        weights_flash=weights,
        code=sizes.flash_bytes - weights,
        extras=plan.extras,
    )
