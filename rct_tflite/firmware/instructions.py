"""Instructions of an exported folder: counted on the emulated core, or estimated where that cannot be done."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.emulator.finder import find_emulator
from rct_tflite.energy.estimate import Interval
from rct_tflite.errors import EmulatorError, RecipeError, ToolchainError
from rct_tflite.firmware.build import build_project
from rct_tflite.firmware.manifest import Project
from rct_tflite.firmware.run import Memory, measured_memory, random_samples
from rct_tflite.firmware.session import Cost, measure
from rct_tflite.firmware.toolchain import find_toolchain
from rct_tflite.planning.count_model import Count, CountModel
from rct_tflite.planning.fit import memory_need
from rct_tflite.spec.target import OP_CLASSES

AUTO, EMULATED, MODEL = "auto", "emulated", "model"
SOURCES = (AUTO, EMULATED, MODEL)
"""Where instructions come from; "auto" estimates where there is no compiler or no emulator."""

CLASS_OF = (
    ("depthwise", "depthwise"),
    ("update", "update"),
    ("conv", "mac"),
    ("fully_connected", "mac"),
    ("copy", "move"),
    ("reset", "move"),
    ("rct_model", "move"),
    ("library", "move"),
)
"""Part of a function's name, and its op class; the first that fits counts. What is left works per element."""
BACKWARD = (
    "_grad",
    "_sums",
    "_finish_sample",
    "_weigh_outputs",
    "_schedule",
    "update",
    "mask",
    "learn",
    "gain",
    "error",
    "cross_entropy",
)
"""Parts of the names of functions that run in a training step only."""


@dataclass(frozen=True)
class PhaseCount:
    """Instructions of a part of the work.

    Attributes:
        classes: (op class, instructions).
        total: All of them; its interval is of no width where they were counted.
    """

    classes: tuple[tuple[str, int], ...]
    total: Interval


@dataclass(frozen=True)
class Instructions:
    """Of an exported folder.

    Attributes:
        forward: Of a prediction.
        backward: Of a training step, beside its prediction.
        source: What counted them, or what they are estimated from.
        emulator: What counted them; None where they are estimated.
        guessed: What not even the estimate knows.
        memory: Of the image; as planned, where there is none.
    """

    forward: PhaseCount
    backward: PhaseCount
    source: str
    emulator: str | None
    guessed: tuple[str, ...]
    memory: Memory


def instructions_of(
    folder: Path, project: Project, source: str, toolchain: str = AUTO, emulator: str = AUTO
) -> Instructions:
    """Counts the instructions of a folder, or estimates them.

    Args:
        folder: Of `rct-tflite export`.
        project: What it says.
        source: One of `SOURCES`.
        toolchain: "auto", "gcc" or "zig".
        emulator: "auto", "qemu" or "unicorn".

    Raises:
        RCTError: If a compiler or an emulator that was asked for is missing, the firmware fails, or the core is one
            that no estimate knows.
    """
    if source not in SOURCES:
        raise RecipeError(f"Unknown source of instructions. Expected one of {list(SOURCES)}. Received: {source!r}.")
    missing = _missing(project.target.core, toolchain, emulator) if source == AUTO else ""
    if source == MODEL or missing:
        return _estimated(project, missing)
    return _counted(folder, project, toolchain, emulator)


def op_class(function: str) -> str:
    """Returns the op class of one of the runtime's functions.

    Example:
        >>> op_class("rct_conv_2d_grad"), op_class("rct_max_pool_2d")
        ('mac', 'elementwise')
    """
    return next((name for part, name in CLASS_OF if part in function), "elementwise")


def _missing(core: str, toolchain: str, emulator: str) -> str:
    """Returns what keeps us from counting. Who asks for a compiler or an emulator by name is told in the usual way."""
    try:
        find_toolchain(core, toolchain)
        find_emulator(core, emulator)
    except ToolchainError:
        if toolchain != AUTO:
            raise
        return "there is no compiler"
    except EmulatorError:
        if emulator != AUTO:
            raise
        return "there is no emulator"
    return ""


def _counted(folder: Path, project: Project, toolchain: str, emulator: str) -> Instructions:
    build = build_project(folder, project.target.core, toolchain)
    found = find_emulator(project.target.core, emulator, build.image)
    samples = random_samples(project.graph, project.plan.loss)
    cost = measure(found, build.image, samples, bool(project.plan.trained))
    forward, backward = _by_class(cost)
    memory = measured_memory(project, build, cost.stack_bytes)
    return Instructions(forward, backward, f"counted on {cost.emulator}", cost.emulator, (), memory)


def _by_class(cost: Cost) -> Iterator[PhaseCount]:
    """Splits the counts: the forward pass runs in a prediction and again in a step, and was counted in both."""
    forward, backward = dict.fromkeys(OP_CLASSES, 0), dict.fromkeys(OP_CLASSES, 0)
    for function, count in cost.functions:
        if any(part in function for part in BACKWARD):
            backward[op_class(function)] += count
        else:
            forward[op_class(function)] += count // 2
    for classes, total in ((forward, cost.inference), (backward, cost.step - cost.inference)):
        named = sum(classes.values())
        if named > total:  # a share ran outside of the marks
            classes = {key: count * total // named for key, count in classes.items()}
        classes["move"] += total - sum(classes.values())
        yield _phase(classes, Interval(total, total, total))


def _estimated(project: Project, missing: str) -> Instructions:
    told = CountModel(project.graph, project.target.core).estimate(project.plan)
    why = f"{missing} for {project.target.core}; " if missing else ""
    forward = _of_model(((kernel, count) for kernel, count, _ in told.kernels), told.inference)
    backward = _of_model(((kernel, count) for kernel, _, count in told.kernels), told.backward)
    source = f"not counted: {why}estimated from what kernels took with {told.compiler}"
    return Instructions(forward, backward, source, None, told.guessed, _planned_memory(project))


def _of_model(kernels: Iterable[tuple[str, float]], total: Count) -> PhaseCount:
    classes = dict.fromkeys(OP_CLASSES, 0.0)
    for kernel, count in kernels:
        classes[op_class(kernel)] += count
    rounded = {name: round(count) for name, count in classes.items()}
    return _phase(rounded, Interval(sum(rounded.values()), total.low, total.high))


def _phase(classes: Mapping[str, int], total: Interval) -> PhaseCount:
    return PhaseCount(tuple((name, count) for name, count in classes.items() if count), total)


def _planned_memory(project: Project) -> Memory:
    need = memory_need(project.graph, project.memory, project.target)
    return Memory(
        arena=need.arena,
        parameters=need.parameters,
        state=need.state,
        application=need.application,
        stack_used=need.stack,
        stack_bound=need.stack,
        stack_reserved=need.stack,
        weights_flash=need.flash_weights,
        code=need.flash_code,
        extras=need.extras,
    )
