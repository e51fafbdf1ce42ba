"""Few rows that cover networks, bits, roundings, losses and plans; places that learn them; guarded memory."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rct_tflite.device.protocol import Command, Request
from rct_tflite.emulator import available_emulators
from rct_tflite.firmware.build import INCLUDE_FOLDERS, project_sources
from rct_tflite.firmware.project import FIRMWARE_FOLDER, linker_script, write_firmware
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import Runner, emulated_runner, exchange, host_runner, lessons_of
from rct_tflite.firmware.toolchain import HOST, find_toolchain
from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.reference.packing import room_bytes, row_bytes
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.step_options import PLAIN_STEP, RatePoint, StepOptions
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import Loss
from tests.firmware.conftest import mixed
from tests.graphs import GraphBuilder, widened
from tests.tflite.one_op import branched, separable, words

STEPS = 100
LEARNING_RATE = 0.05
STOCHASTIC, TRUNCATE = Rounding.STOCHASTIC, Rounding.TRUNCATE
CLASSES, SQUARED, SIGMOID = Loss.SOFTMAX_CROSS_ENTROPY, Loss.MEAN_SQUARED_ERROR, Loss.SIGMOID_CROSS_ENTROPY


def dense(bits, per_channel=False):
    builder = GraphBuilder((19,)).dense(9, Activation.RELU, bits, per_channel)
    return builder.dense(7, Activation.RELU6, bits, per_channel).dense(5, Activation.NONE, bits, per_channel).graph()


def conv(bits, per_channel=False):
    quantised = {"bits": bits, "per_channel": per_channel}
    builder = GraphBuilder((6, 5, 2)).conv(5, **quantised).max_pool(2, 1).conv(6, stride=2, **quantised)
    return builder.reshape(36).dense(4, Activation.NONE, **quantised).graph()


@dataclass(frozen=True)
class Row:
    """What is learnt; `train` is as users write it, with `{0}` for the first layer that can learn, and so on."""

    graph: Graph
    train: str
    rounding: Rounding
    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY
    error_bits: int = 8
    options: StepOptions = PLAIN_STEP
    adaptation: AdaptationOptions | None = None
    recomputes: bool = False  # all that can be computed again in the backward pass


RATES = (RatePoint(5, 40_000), RatePoint(60, 100_000))
WEIGHTS = (256, 700, 90, 300, 256)
WIDTHS = AdaptationOptions("2:8", interval=6, t_min=3.0)


def tight(graph):
    """Widths with a byte or two to spare: who gets a bit has to be paid for."""
    room = sum(room_bytes(*graph.row_shape(op), graph.bits_of(op)) for op in graph.ops if op.has_weights)
    return dataclasses.replace(WIDTHS, budget_bytes=room + 12)


ROWS = {
    "dense, 8 bits": Row(dense(8), "all", STOCHASTIC),
    "dense, 6 bits, per channel, first": Row(dense(6, True), "{0}", TRUNCATE),
    "dense, 4 bits, first and last, squared": Row(dense(4), "{0},{2}", STOCHASTIC, Loss.MEAN_SQUARED_ERROR),
    "dense, 8 bits, biases, sigmoid": Row(dense(8), "bias", TRUNCATE, Loss.SIGMOID_CROSS_ENTROPY),
    "conv, 8 bits, per channel, last two": Row(conv(8, True), "last:2", TRUNCATE),
    "conv, 5 bits, Huber": Row(conv(5), "all", STOCHASTIC, Loss.HUBER),
    "conv, 8 bits, some channels": Row(conv(8), "{0}:2,{1}:bias,{2}:0.5", STOCHASTIC),
    "mixed 3, 7, 5 and 2 bits, wide errors": Row(mixed(), "all", STOCHASTIC, error_bits=16),
    "branches, 8 bits": Row(branched(), "all", TRUNCATE),
    "separable, 8 bits": Row(separable(), "all", STOCHASTIC),
    "branches, nothing kept": Row(branched(), "all", STOCHASTIC, recomputes=True),
    "separable, 5 bits, some channels, nothing kept": Row(separable(5), "{0}:2,{1},{2}:1", TRUNCATE, recomputes=True),
    "separable, 4 bits, wide errors": Row(separable(4), "{0},{3}", STOCHASTIC, error_bits=16),
    "words, 8 bits": Row(words(), "all", TRUNCATE),
    "words, 5 bits, some rows, wide errors": Row(words(5), "{0}:4,{1},{2}:bias", STOCHASTIC, error_bits=16),
    "words, 11 bits, nothing kept": Row(widened(words(), 11), "{0},{2}", TRUNCATE, recomputes=True),
    "separable, 6 bits, some channels": Row(separable(6), "{0}:2,{1}:1,{2}:1", TRUNCATE),
    "dense, 12 bits, per channel": Row(dense(12, True), "all", TRUNCATE),
    "conv, 9 bits, some channels": Row(conv(9), "{0}:2,{1}:bias,{2}:0.5", STOCHASTIC),
    "separable, 16 bits, wide errors": Row(widened(separable(), 16), "all", STOCHASTIC, error_bits=16),
    # Options side by side. Each of ten (wide errors, parts, sums, momentum, rates, weights, clipping, widths,
    # truncation, targets) is in three of five rows, no two in the same three: with a plain row, each pair is there in
    # all four ways.
    "mixed, wide errors, parts, sums, momentum, rates, weights": Row(
        mixed(), "{0}:2,{1},{2}:bias,{3}:3", STOCHASTIC, CLASSES, 16, StepOptions(WEIGHTS[:4], RATES, None, 3, 200)
    ),
    "separable, wide errors, parts, sums, clipped, widths": Row(
        separable(6), "{0}:2,{1},{2}:bias,{3}", TRUNCATE, CLASSES, 16, StepOptions((), None, 0.6, 2), WIDTHS
    ),
    "branches, wide errors, momentum, rates, clipped, widths, squared": Row(
        branched(), "all", STOCHASTIC, SQUARED, 16, StepOptions((), RATES, 0.02, 1, 230), WIDTHS
    ),
    "conv, parts, momentum, weights, clipped, Huber": Row(
        conv(5, True), "{0}:2,{1}:bias,{2}", TRUNCATE, Loss.HUBER, 8, StepOptions(WEIGHTS[:4], None, 0.01, 1, 128)
    ),
    "dense, sums, rates, weights, widths, sigmoid": Row(
        dense(5), "all", TRUNCATE, SIGMOID, 8, StepOptions(WEIGHTS, RATES, None, 2), tight(dense(5))
    ),
}


class Lesson:
    """A row with its samples and what the reference learns from them."""

    def __init__(self, row: Row):
        graph = self.graph = row.graph
        names = [op.name for op in graph.ops if op.has_weights]
        plan = select(graph, row.train.format(*names), LEARNING_RATE, row.loss)
        again = tuple(op.name for op in graph.ops) if row.recomputes else ()
        plan = dataclasses.replace(plan, rounding=row.rounding, error_bits=row.error_bits, recomputed=again)
        plan = dataclasses.replace(plan, options=row.options)
        self.plan = plan if row.adaptation is None else adapt(graph, plan, row.adaptation)
        self.memory = plan_memory(graph, self.plan)
        random = np.random.default_rng(11)
        inputs = graph.random_inputs(STEPS, random)
        outputs = graph.tensors[graph.output].size
        if row.loss.takes_class:
            self.samples = Samples(inputs, random.integers(0, outputs, STEPS))
        else:
            self.samples = Samples(inputs, None, random.integers(-60, 60, (STEPS, outputs), np.int8))

    @functools.cached_property
    def learnt(self) -> bytes:
        trainer = ReferenceTrainer(self.graph, self.plan)
        before = trainer.parameter_block()
        wanted = self.samples.targets if self.samples.labels is None else self.samples.labels.tolist()
        for sample, label in zip(self.samples.inputs, wanted, strict=True):
            trainer.step(sample, label)
            assert self._within_budget(trainer)
        assert trainer.parameter_block() != before
        if trainer.adapter is not None:
            assert any(trainer.adapter.octaves.values())
        return trainer.parameter_block()

    def _within_budget(self, trainer: ReferenceTrainer) -> bool:
        if trainer.adapter is None or self.plan.adaptation is None:
            return True
        depths = {op.name: self.graph.row_shape(op)[1] for op in self.graph.ops if op.has_weights}
        rows = {slot.op: (len(slot.channels), depths[slot.op]) for slot in self.memory.slots}
        used = sum(room_bytes(*rows[name], bits) for name, bits in trainer.adapter.bits.items())
        return used <= self.plan.adaptation.budget_bytes

    def write(self, folder: Path, core: str, memory: MemoryPlan) -> None:
        target = find_target("cortex-m7" if core == HOST else core)
        write_firmware(folder, self.graph, self.plan, memory, target, self.samples.inputs[:2])


@functools.cache
def lesson(name: str) -> Lesson:
    return Lesson(ROWS[name])


class Place:
    """The host, with sanitizers, or a core."""

    def __init__(self, core: str, folder: Path):
        self.core, self.folder, self.sanitize, self.toolchain = core, folder, core == HOST, find_toolchain(core)

    def image(self, name: str) -> Path:
        folder = self.folder / name.replace(" ", "-")
        if not (folder / "image").exists():
            folder.mkdir()
            self.build(lesson(name), lesson(name).memory, folder)
        return folder / "image"

    def build(self, lesson: Lesson, memory: MemoryPlan, folder: Path, *more: Path) -> Path:
        lesson.write(folder, self.core, memory)
        includes = [folder / FIRMWARE_FOLDER / part for part in INCLUDE_FOLDERS]
        script = None if self.core == HOST else folder / FIRMWARE_FOLDER / linker_script(self.core)
        image = folder / "image"
        sources = [*project_sources(folder, self.core), *more]
        self.toolchain.build(sources, includes, image, linker_script=script, sanitize=self.sanitize)
        return image

    def learn(self, lesson: Lesson, image: Path) -> bytes:
        requests = [Request(Command.SELF_TEST), *lessons_of(lesson.samples), Request(Command.READ_PARAMETERS)]
        return list(exchange(self.runner(image), requests))[-1].payload

    def runner(self, image: Path) -> Runner:
        if self.core == HOST:
            return host_runner(image)
        return emulated_runner(available_emulators(self.core)[-1], image)  # the quicker one for short runs


GUARD_BYTES = 64
GUARDS = """
#include <sanitizer/asan_interface.h>
#include "rct_model.h"

static const unsigned guards[][3] = {GUARDS};

__attribute__((constructor)) static void set_up(void)
{
    uint8_t *const blocks[] = {(uint8_t *)rct_model_input() - INPUT, rct_model_parameters()};
    for (unsigned i = 0; i < sizeof guards / sizeof guards[0]; i++) {
        ASAN_POISON_MEMORY_REGION(blocks[guards[i][0]] + guards[i][1], guards[i][2]);
    }
}
"""


class Guarded:
    """The memory of a lesson with its buffers apart, and memory that nothing may touch before and after each.

    Args:
        lesson: Whose memory.
        short: A buffer that is declared one byte shorter than it is.
    """

    def __init__(self, lesson: Lesson, short: str = ""):
        graph, memory = lesson.graph, lesson.memory
        self._short, self._ends, self._guards = short, [0, 0], []
        ops = {op.name: op for op in graph.ops}
        placements = [
            dataclasses.replace(p, offset=self._lay(0, p.buffer.name, p.buffer.size)) for p in memory.placements
        ]
        slots = []
        moves = lesson.plan.adaptation is not None  # then the runtime knows where things lie
        self._ends[1] = memory.parameter_bytes if moves else 0
        for slot in memory.slots if not moves else ():
            channels, depth = graph.row_shape(ops[slot.op])
            rows = self._lay(1, "rows", len(slot.channels) * row_bytes(depth, slot.bits))
            slots.append(dataclasses.replace(slot, rows=rows, bias=self._lay(1, "bias", 4 * channels)))
        arena = self._ends[0] + self._guard(0, self._ends[0], GUARD_BYTES)
        parameters = self._ends[1] + (0 if moves else self._guard(1, self._ends[1], GUARD_BYTES))
        self.memory = dataclasses.replace(
            memory, placements=tuple(placements), slots=tuple(slots), arena_bytes=arena, parameter_bytes=parameters
        )
        self._input = self.memory.offset(f"act:{memory.activations[graph.input]}")

    @property
    def source(self) -> str:
        guards = ", ".join(f"{{{block}, {start}, {size}}}" for block, start, size in self._guards)
        return GUARDS.replace("GUARDS", guards).replace("INPUT", str(self._input))

    def _lay(self, block: int, name: str, size: int) -> int:
        start = self._ends[block] + self._guard(block, self._ends[block], GUARD_BYTES)
        end = start + size
        self._ends[block] = -(-end // 8) * 8
        end -= name == self._short
        self._guard(block, end, self._ends[block] - end)
        return start

    def _guard(self, block: int, start: int, size: int) -> int:
        self._guards.append((block, start, size))
        return size


def run_guarded(place: Place, lesson: Lesson, folder: Path, short: str = "") -> str:
    """Learns with guarded memory on the host, where sanitizers stop at any access between buffers; returns model.c."""
    guarded, guards = Guarded(lesson, short), folder / "guards.c"
    guards.write_text(guarded.source)
    image = place.build(lesson, guarded.memory, folder, guards)
    list(exchange(place.runner(image), [Request(Command.SELF_TEST), *lessons_of(lesson.samples.first(20))]))
    return (folder / FIRMWARE_FOLDER / "model" / "model.c").read_text()
