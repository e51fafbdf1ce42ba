import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from rct_tflite.device.protocol import Command, Request
from rct_tflite.firmware.build import BuildReport, build_project
from rct_tflite.firmware.project import write_firmware
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import exchange, lessons_of
from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.aid_options import NO_AIDS, AidOptions
from rct_tflite.spec.graph import Activation, Graph, Padding
from rct_tflite.spec.step_options import PLAIN_STEP, StepOptions
from rct_tflite.spec.target import Target
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import Loss
from tests.graphs import GraphBuilder, conv_digits, dense_digits
from tests.tflite.one_op import branched

TARGET = find_target("cortex-m7")
STEPS = 200


def mixed() -> Graph:
    """Everything at once: odd sizes, strides, both paddings and pools, RELU6, one scale beside one per channel."""
    return (
        GraphBuilder((9, 7, 3), seed=5)
        .conv(5, kernel=(3, 2), stride=(2, 1), padding=Padding.VALID, activation=Activation.RELU6, bits=3)
        .max_pool(2, stride=1, padding=Padding.SAME)
        .conv(6, kernel=(2, 3), stride=(1, 2), activation=Activation.NONE, bits=7, per_channel=True)
        .average_pool(2)
        .reshape(12)
        .dense(11, Activation.RELU, bits=5, per_channel=True)
        .dense(4, Activation.NONE, bits=2)
        .graph(rounding="stochastic")
    )


CASES = {
    "dense, 8 bits": (dense_digits(), "all"),
    "dense, 6 bits, last layer": (dense_digits(bits=6), "last:1"),
    "conv, per channel": (conv_digits(per_channel=True), "all"),
    "conv, 4 bits, last two": (conv_digits(bits=4), "last:2"),
    "mixed": (mixed(), "all"),
    "branches": (branched(), "all"),
    "truncated": (GraphBuilder((5, 5, 2)).conv(4).reshape(100).dense(3).graph(rounding="truncate"), "all"),
}


@dataclass
class Case:
    """A network with its plan, its C project and what the reference makes of it."""

    folder: Path
    graph: Graph
    train: str
    target: Target = TARGET
    steps: int = STEPS
    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY
    options: StepOptions = PLAIN_STEP
    aids: AidOptions = NO_AIDS
    error_bits: int = 8
    adaptation: AdaptationOptions | None = None
    recomputes: bool = False

    def __post_init__(self):
        plan = select(self.graph, self.train, loss=self.loss)
        again = tuple(op.name for op in self.graph.ops) if self.recomputes else ()
        self.plan = dataclasses.replace(
            plan, options=self.options, aids=self.aids, error_bits=self.error_bits, recomputed=again
        )
        if self.adaptation is not None:
            self.plan = adapt(self.graph, self.plan, self.adaptation)
        self.memory = plan_memory(self.graph, self.plan)
        random = np.random.default_rng(11)
        self.samples = self.graph.random_inputs(self.steps, random)
        outputs = self.graph.tensors[self.graph.output].size
        self.labels = random.integers(0, outputs, self.steps)
        if not self.loss.takes_class:
            self.labels = random.integers(-128, 128, (self.steps, outputs), np.int8)
            self.labels[::3] //= 32
        write_firmware(self.folder, self.graph, self.plan, self.memory, self.target, self.samples[:3])

    @cached_property
    def learnt(self) -> bytes:
        """The parameter block of the reference after its steps."""
        trainer = ReferenceTrainer(self.graph, self.plan)
        for sample, label in zip(self.samples, self.labels, strict=True):
            trainer.step(sample, int(label) if self.loss.takes_class else label)
        return trainer.parameter_block()

    def build(self, core, toolchain="auto", **options) -> BuildReport:
        return build_project(self.folder, core, toolchain, **options)

    def lessons(self, count=None) -> list[Request]:
        samples, labels = self.samples[:count], self.labels[:count]
        if self.loss.takes_class:
            return lessons_of(Samples(samples, labels))
        return lessons_of(Samples(samples, None, labels))

    def learn(self, runner) -> bytes:
        """The parameter block of a firmware after the same steps."""
        requests = [Request(Command.SELF_TEST), *self.lessons(), Request(Command.READ_PARAMETERS)]
        return list(exchange(runner, requests))[-1].payload


@pytest.fixture(scope="session", params=CASES)
def case(request, tmp_path_factory) -> Case:
    graph, train = CASES[request.param]
    return Case(tmp_path_factory.mktemp("project"), graph, train)


@pytest.fixture(scope="session")
def conv_case(tmp_path_factory) -> Case:
    graph, train = CASES["conv, per channel"]
    return Case(tmp_path_factory.mktemp("project"), graph, train)
