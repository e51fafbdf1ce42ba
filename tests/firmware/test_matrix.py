"""NumPy, the sanitised host and every emulated core learn the same bytes: networks, bits, roundings, losses, plans."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rct_tflite.device.protocol import Command, Request
from rct_tflite.emulator import CORES, available_emulators
from rct_tflite.firmware.build import INCLUDE_FOLDERS, project_sources
from rct_tflite.firmware.project import FIRMWARE_FOLDER, linker_script, write_firmware
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import emulated_runner, exchange, host_runner, lessons_of
from rct_tflite.firmware.toolchain import HOST, available_toolchains, find_toolchain
from rct_tflite.planning.memory import plan_memory
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import Loss, TrainingPlan
from tests.firmware.conftest import mixed
from tests.graphs import GraphBuilder
from tests.tflite.one_op import branched, separable

STEPS = 100
STOCHASTIC, TRUNCATE = Rounding.STOCHASTIC, Rounding.TRUNCATE
PLACES = (HOST, *CORES)


def dense(bits, per_channel=False):
    builder = GraphBuilder((19,)).dense(9, Activation.RELU, bits, per_channel)
    return builder.dense(7, Activation.RELU6, bits, per_channel).dense(5, Activation.NONE, bits, per_channel).graph()


def conv(bits, per_channel=False):
    quantised = {"bits": bits, "per_channel": per_channel}
    builder = GraphBuilder((6, 5, 2)).conv(5, **quantised).max_pool(2, 1).conv(6, stride=2, **quantised)
    return builder.reshape(36).dense(4, Activation.NONE, **quantised).graph()


@dataclass(frozen=True)
class Row:
    """What is learnt. `trained` picks from the layers that can learn; few rows cover each value of each column."""

    graph: Graph
    trained: slice
    rounding: Rounding
    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY


ALL, FIRST, LAST, LAST_TWO, OUTER = slice(None), slice(1), slice(-1, None), slice(-2, None), slice(None, None, 2)
ROWS = {
    "dense, 8 bits": Row(dense(8), ALL, STOCHASTIC),
    "dense, 6 bits, per channel, first": Row(dense(6, True), FIRST, TRUNCATE),
    "dense, 4 bits, first and last, squared": Row(dense(4), OUTER, STOCHASTIC, Loss.MEAN_SQUARED_ERROR),
    "conv, 8 bits, per channel, last two": Row(conv(8, True), LAST_TWO, TRUNCATE),
    "conv, 5 bits, Huber": Row(conv(5), ALL, STOCHASTIC, Loss.HUBER),
    "mixed 3, 7, 5 and 2 bits": Row(mixed(), ALL, STOCHASTIC),
    "branches, 8 bits": Row(branched(), ALL, TRUNCATE),
    "separable, 8 bits": Row(separable(), ALL, STOCHASTIC),
    "separable, 4 bits, first and last": Row(separable(4), OUTER, STOCHASTIC),
    "separable, 6 bits, last": Row(separable(6), LAST, TRUNCATE),
}


class Lesson:
    """A row with its samples and what the reference learns from them."""

    def __init__(self, row: Row):
        graph = self.graph = row.graph
        names = [op.name for op in graph.ops if op.has_weights][row.trained]
        self.plan = TrainingPlan(tuple(names), 0.05, row.rounding, row.loss)
        random = np.random.default_rng(11)
        inputs = random.integers(-128, 128, (STEPS, *graph.tensors[graph.input].shape[1:]), np.int8)
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
        assert trainer.parameter_block() != before
        return trainer.parameter_block()

    def write(self, folder: Path, core: str) -> None:
        target = find_target("cortex-m7" if core == HOST else core)
        memory = plan_memory(self.graph, self.plan)
        write_firmware(folder, self.graph, self.plan, memory, target, self.samples.inputs[:2])


@functools.cache
def lesson(name: str) -> Lesson:
    return Lesson(ROWS[name])


class Place:
    """The host or a core, with everything compiled that does not depend on the network."""

    def __init__(self, core: str, folder: Path):
        self.core, self.sanitize, self.toolchain = core, core == HOST, find_toolchain(core)
        lesson("dense, 8 bits").write(folder, core)
        sources = [s for s in project_sources(folder, core) if s.parent.name != "model"]
        self.objects = self.compile(sources, folder)

    def compile(self, sources, folder: Path) -> list[Path]:
        firmware = folder / FIRMWARE_FOLDER
        output = folder / f"objects{len(sources)}"
        output.mkdir()
        includes = [firmware / part for part in INCLUDE_FOLDERS]
        return self.toolchain.compile(sources, includes, output, sanitize=self.sanitize)

    def learn(self, lesson: Lesson, folder: Path) -> bytes:
        lesson.write(folder, self.core)
        (model,) = self.compile([folder / FIRMWARE_FOLDER / "model" / "model.c"], folder)
        script = None if self.core == HOST else folder / FIRMWARE_FOLDER / linker_script(self.core)
        image = folder / "image"
        self.toolchain.link([model, *self.objects], image, linker_script=script, sanitize=self.sanitize)
        # The last emulator is the quicker one for short runs.
        runner = host_runner(image) if self.core == HOST else emulated_runner(available_emulators(self.core)[-1], image)
        requests = [Request(Command.SELF_TEST), *lessons_of(lesson.samples), Request(Command.READ_PARAMETERS)]
        return list(exchange(runner, requests))[-1].payload


@pytest.fixture(scope="module", params=[place for place in PLACES if available_toolchains(place)])
def place(request, tmp_path_factory) -> Place:
    return Place(request.param, tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("name", ROWS)
def test_the_same_bytes(place, name, tmp_path):
    assert place.learn(lesson(name), tmp_path) == lesson(name).learnt
