"""Runs a built project: predicts, learns, reads back; on an emulated core or on this computer."""

import functools
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, DeviceInfo, Request, Response
from rct_tflite.emulator.finder import Emulator
from rct_tflite.errors import DeviceError
from rct_tflite.firmware.samples import Samples
from rct_tflite.spec.emulation import EmulatedProfile
from rct_tflite.spec.graph import Inputs
from rct_tflite.spec.templates import templates_folder

Runner = Callable[[bytes], bytes]
"""Sends a stream of requests to a firmware and returns its stream of responses."""

MARKS = ("rct_mark_predict_begin", "rct_mark_predict_end", "rct_mark_learn_begin", "rct_mark_learn_end")
APPLICATION = ("rct_frame_", "rct_port_", "rct_mark_", "rct_reset", "rct_semihosting")
"""Functions that are no part of the network."""

HOST_TIMEOUT_S = 600.0
EMULATOR_TIMEOUT_S = 600.0


@dataclass(frozen=True, eq=False)
class FineTuning:
    """What happened on the device.

    Attributes:
        info: Sizes that the firmware tells.
        before: int8 (n, classes), logits of the test samples before learning.
        while_learning: int64 (epochs * m,), of each sample before it was learnt from: 1 where the network was right,
            or the sum of the differences between output and target, in steps of the output.
        after: int8 (n, classes), logits of the test samples after learning.
        parameters: The parameter block after learning.
    """

    info: DeviceInfo
    before: npt.NDArray[np.int8]
    while_learning: npt.NDArray[np.int64]
    after: npt.NDArray[np.int8]
    parameters: bytes


@dataclass(frozen=True)
class Cost:
    """Counted instructions, and the deepest stack.

    Attributes:
        inference: Mean of one prediction.
        step: Mean of one training step, its prediction included.
        functions: (name, instructions) of one prediction and one step together, most first. A kernel's own helpers
            are in its count.
        stack_bytes: Deepest use of the whole run.
        emulator: What counted.
    """

    inference: int
    step: int
    functions: tuple[tuple[str, int], ...]
    stack_bytes: int
    emulator: str


def emulated_runner(emulator: Emulator, image: Path) -> Runner:
    """Returns a runner that executes an image on an emulated core."""
    return lambda request: emulator.run(image, request, timeout_s=EMULATOR_TIMEOUT_S).response


def host_runner(program: Path) -> Runner:
    """Returns a runner that executes a host build."""

    def run(request: bytes) -> bytes:
        done = subprocess.run([program], input=request, capture_output=True, timeout=HOST_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise DeviceError(
                f"The program stopped with status {done.returncode}. Expected 0. "
                f"It said: {done.stderr.decode(errors='replace').strip() or 'nothing'}."
            )
        return done.stdout

    return run


def fine_tune(runner: Runner, learn: Samples | None, test: Samples, epochs: int = 1) -> FineTuning:
    """Checks the firmware by its golden vectors, predicts, learns, predicts again and reads the parameters.

    Args:
        runner: Of the firmware.
        learn: Samples with labels or targets, learnt in their order in each epoch; None to learn nothing.
        test: Samples to predict before and after.
        epochs: Passes over `learn`.

    Raises:
        DeviceError: If the firmware reports an error or answers something else.
    """
    predictions = [protocol.predict(sample) for sample in test.inputs]
    lessons = [] if learn is None else lessons_of(learn) * epochs
    requests = [Request(Command.INFO), Request(Command.SELF_TEST), *predictions, *lessons, *predictions]
    return fine_tuning_of(list(exchange(runner, [*requests, Request(Command.READ_PARAMETERS)])), len(predictions))


def fine_tuning_of(answers: Sequence[Response], predictions: int) -> FineTuning:
    """Reads the answers to INFO, SELF_TEST, predictions, lessons among others, the predictions again, the parameters.

    Args:
        answers: Of a session.
        predictions: Number of test samples.
    """
    middle = answers[2 + predictions : -1 - predictions]
    taught = [answer.payload for answer in middle if answer.command in (Command.LEARN, Command.LEARN_TARGET)]
    return FineTuning(
        info=DeviceInfo.decode(answers[0].payload),
        before=_logits(iter(answers[2:]), predictions),
        while_learning=np.array([int.from_bytes(payload, "little") for payload in taught], np.int64),
        after=_logits(iter(answers[-1 - predictions :]), predictions),
        parameters=answers[-1].payload,
    )


def lessons_of(samples: Samples) -> list[Request]:
    """Returns one training step for each sample, towards its target or its class."""
    if samples.targets is not None:
        return [protocol.learn_target(x, y) for x, y in zip(samples.inputs, samples.targets, strict=True)]
    return [protocol.learn(x, int(y)) for x, y in zip(samples.inputs, samples.labelled(), strict=True)]


def layer_trace(runner: Runner, samples: Inputs) -> npt.NDArray[np.int8]:
    """Returns the outputs of all ops, one after the other, int8 (n, trace_bytes), of a build with RCT_TRACE."""
    answers = exchange(runner, [protocol.predict(sample) for sample in samples])
    return _logits(answers, len(samples))


def measure(emulator: Emulator, image: Path, learn: Samples, learns: bool = True) -> Cost:
    """Counts instructions on a few samples, from the state after a reset.

    Args:
        emulator: Of the image's core.
        image: A built project.
        learn: Samples with labels or targets: each is predicted once and learnt from once.
        learns: Whether anything learns; else a step is a prediction, and each sample is predicted twice.
    """
    requests = [protocol.predict(sample) for sample in learn.inputs]
    requests += lessons_of(learn) if learns else requests
    profile = emulator.profile(image, _stream(requests), marks=MARKS)
    for _ in protocol.decode_responses(profile.run.response):
        pass
    count = len(learn.inputs)
    kernels = tuple(
        (name, instructions // count)
        for name, instructions in kernel_instructions(profile).most_common()
        if name.startswith("rct_") and not name.startswith(APPLICATION) and instructions >= count
    )
    inference = _mean_span(profile, "rct_mark_predict_begin", "rct_mark_predict_end")
    return Cost(
        inference=inference,
        step=_mean_span(profile, "rct_mark_learn_begin", "rct_mark_learn_end") if learns else inference,
        functions=kernels,
        stack_bytes=profile.stack_bytes,
        emulator=profile.run.emulator,
    )


def kernel_instructions(profile: EmulatedProfile) -> Counter[str]:
    """Adds up the instructions of each function; what a kernel's file keeps to itself counts for the kernel."""
    instructions: Counter[str] = Counter()
    for function in profile.functions:
        file = Path(function.source)
        name = f"rct_{file.stem}" if file.name in _kernel_files() else function.name
        instructions[name] += function.instructions
    return instructions


@functools.cache
def _kernel_files() -> frozenset[str]:
    return frozenset(path.name for path in (templates_folder() / "runtime" / "kernels").glob("*.c"))


def exchange(runner: Runner, requests: Sequence[Request]) -> Iterator[Response]:
    """Sends requests and EXIT, and returns the response to each.

    Raises:
        DeviceError: If a response is missing, damaged or of another command.
    """
    answers = list(protocol.decode_responses(runner(_stream(requests))))
    expected = [*(request.command for request in requests), Command.EXIT]
    if [answer.command for answer in answers] != expected:
        raise DeviceError(
            f"The firmware did not answer what it was asked. Expected {len(expected)} responses. "
            f"Received: {len(answers)}. Build the project again."
        )
    return iter(answers[:-1])


def _stream(requests: Sequence[Request]) -> bytes:
    return b"".join(request.encode() for request in [*requests, Request(Command.EXIT)])


def _logits(answers: Iterator[Response], count: int) -> npt.NDArray[np.int8]:
    return np.array([np.frombuffer(next(answers).payload, np.int8) for _ in range(count)])


def _mean_span(profile: EmulatedProfile, begin: str, end: str) -> int:
    starts = [mark.instructions for mark in profile.marks if mark.name == begin]
    ends = [mark.instructions for mark in profile.marks if mark.name == end]
    return (sum(ends) - sum(starts)) // len(starts)
