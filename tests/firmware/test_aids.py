"""What the device has beside the training step does what NumPy does, byte by byte."""

import struct
import subprocess

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, Request, decode_responses
from rct_tflite.emulator import available_emulators
from rct_tflite.errors import DataError, DeviceError, RecipeError
from rct_tflite.firmware.aided_session import AidWishes, check_wishes, fine_tune_aided, split
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import emulated_runner, exchange, host_runner
from rct_tflite.planning.adaptation import AdaptationOptions
from rct_tflite.reference.aids import EarlyStopping, ReplayBuffer, confusion
from rct_tflite.reference.rates import rate_limits
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.aid_options import AidOptions
from rct_tflite.spec.step_options import RATE_LIMIT, RATE_ONE, StepOptions
from tests.firmware.conftest import Case
from tests.firmware.test_step_options import M4, small

SLOTS, HELD, EPOCH = 9, 12, 30
AIDS = AidOptions(evaluates=True, keeps_best=True, replay_slots=SLOTS)


WIDTHS = AdaptationOptions("2:8", interval=40, t_min=3.0)


@pytest.fixture(scope="module", params=[None, WIDTHS], ids=["fixed", "adapted"])
def case(request, tmp_path_factory) -> Case:
    options = StepOptions(schedule=(), momentum=120)
    folder = tmp_path_factory.mktemp("aids")
    return Case(folder, small(), "all", M4, 5 * EPOCH, options=options, aids=AIDS, adaptation=request.param)


def lesson(command: Command, sample, label) -> Request:
    return Request(command, protocol.learn(sample, int(label)).payload)


def story(case: Case) -> list[Request]:
    """Epochs of learning with replay, each judged on held samples, and a rollback at the end."""
    requests = []
    for epoch in range(5):
        rate = struct.pack("<I", RATE_ONE >> epoch)
        requests.append(Request(Command.SET_RATE, rate))
        for index in range(HELD + epoch * EPOCH // 2, (epoch + 1) * EPOCH):
            sample, label = case.samples[index], min(case.labels[index], 3) // (1 + epoch % 2)
            requests += [lesson(Command.REMEMBER, sample, label), protocol.learn(sample, int(label))]
            requests.append(Request(Command.REPLAY))
        requests.append(Request(Command.BEGIN_EVALUATION))
        requests += [lesson(Command.EVALUATE, case.samples[i], case.labels[i]) for i in range(HELD)]
        requests += [Request(Command.JUDGE, struct.pack("<H", 2)), Request(Command.READ_CONFUSION)]
    requests += [Request(command) for command in (Command.READ_REPLAY, Command.ROLL_BACK, Command.READ_PARAMETERS)]
    return [*requests, *case.lessons(9), Request(Command.READ_PARAMETERS)]


def reference(case: Case, requests: list[Request]) -> list[bytes]:
    """What the device must answer."""
    trainer = ReferenceTrainer(case.graph, case.plan)
    classes = case.graph.tensors[case.graph.output].size
    buffer, stopping = ReplayBuffer(SLOTS, classes), EarlyStopping()
    answers, best, held = [], None, []
    shape = case.samples.shape[1:]
    for request in requests:
        label = int.from_bytes(request.payload[:2], "little")
        sample = np.frombuffer(request.payload[2:], np.int8) if len(request.payload) > 4 else None
        sample = None if sample is None else sample.reshape(shape)
        answer = b""
        match request.command:
            case Command.SET_RATE:
                trainer.scaling.schedule.rate = int.from_bytes(request.payload, "little")
            case Command.REMEMBER:
                buffer.remember(sample, label)
            case Command.LEARN:
                answer = bytes([trainer.step(sample, label)])
            case Command.REPLAY:
                slot = buffer.draw()
                trainer.step(buffer.samples[slot], buffer.labels[slot])
                answer = struct.pack("<H", slot)
            case Command.BEGIN_EVALUATION:
                held = []
            case Command.EVALUATE:
                held.append((label, trainer.network.run(sample[None])[0].reshape(-1)))
                answer = bytes([int(held[-1][1].argmax()) == label])
            case Command.JUDGE:
                counts = confusion(np.array([label for label, _ in held]), np.array([output for _, output in held]))
                verdict = stopping.judge(int(np.trace(counts)), label)
                if verdict == 0:
                    best = trainer.keep()
                answer = bytes([verdict])
            case Command.READ_CONFUSION:
                answer = counts.astype("<u2").tobytes()
            case Command.READ_REPLAY:
                answer = (
                    struct.pack("<H", len(buffer.labels))
                    + np.array(buffer.labels, "<u2").tobytes()
                    + np.array(buffer.samples).tobytes()
                )
            case Command.ROLL_BACK:
                moved = trainer.adapter and trainer.adapter.kept() != best.widths
                assert trainer.adapter is None or moved  # scales go back, too, and with them the gains
                trainer.roll_back(best)
            case Command.READ_PARAMETERS:
                answer = trainer.parameter_block()
        answers.append(answer)
    return answers


@pytest.fixture(scope="module")
def program(case):
    return case.build("host", sanitize=True).image


@pytest.fixture(scope="module")
def host(program):
    return host_runner(program)


@pytest.fixture(scope="module")
def image(case):
    return case.build(M4.core).image


def test_the_device_answers_what_the_reference_does(case, host, image):
    requests = story(case)
    expected = reference(case, requests)
    verdicts = {answer for request, answer in zip(requests, expected, strict=True) if request.command is Command.JUDGE}
    assert verdicts == {b"\0", b"\1", b"\2"}
    for runner in (host, emulated_runner(available_emulators(M4.core)[0], image)):
        answers = [response.payload for response in exchange(runner, requests)]
        for request, answer, wanted in zip(requests, answers, expected, strict=True):
            assert answer == wanted, request.command.name


def test_the_plan_counts_what_the_image_holds(case, image):
    wanted = {
        "learning rate": ["rate"],
        "momentum": ["held"],
        "evaluation": ["progress", "confusion"],
        "best weights": ["best_parameters"],
    }
    if case.adaptation is not None:
        wanted["widths"] = ["widths", "learnt_steps", "learnt_rates"]
    wanted["replay buffer"] = ["replay_samples", "replay_labels", "replay_classes", "replay_state"]
    with image.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        sizes = {symbol.name: symbol["st_size"] for symbol in symbols.iter_symbols()}
    held = {name: sum(-(-sizes[symbol] // 4) * 4 for symbol in parts) for name, parts in wanted.items()}
    assert {extra.name: extra.size for extra in case.memory.extras} == held
    assert case.memory.ram_bytes == sum(held.values()) + sum(
        (case.memory.arena_bytes, case.memory.parameter_bytes, case.memory.state_bytes)
    )


def rate(value):
    return Request(Command.SET_RATE, struct.pack("<I", value))


def test_what_cannot_be_is_refused(case, program, host):
    low, high = rate_limits(case.graph, case.plan)
    list(exchange(host, [rate(low), rate(high)]))
    wrong = [rate(low - 1), Request(Command.ROLL_BACK), Request(Command.REPLAY)]
    wrong += [rate(high + 1)] if high < RATE_LIMIT else []
    wrong += [lesson(command, case.samples[0], 5) for command in (Command.EVALUATE, Command.REMEMBER)]
    wrong.append(Request(Command.EVALUATE_TARGET, bytes(5 + case.samples[0].size)))
    damaged = [Request(Command.JUDGE), Request(Command.SET_RATE), Request(Command.REMEMBER, b"123")]
    for status, requests in (("ERR_ARGUMENT", wrong), ("ERR_FRAME", damaged)):
        for request in requests:
            done = subprocess.run([program], input=request.encode(), capture_output=True, check=False)
            assert not done.stderr
            with pytest.raises(DeviceError, match=f"{request.command.name}: {status}"):
                list(decode_responses(done.stdout))


def test_learning_stops_early_and_goes_back(case, host):
    labels = case.labels % 3
    learn, test = Samples(case.samples, labels), Samples(case.samples[:4], labels[:4])
    tuning, report = fine_tune_aided(host, learn, test, 6, AidWishes(replays=1, patience=2))
    taught, held = split(learn)
    trainer, stopping, buffer = ReferenceTrainer(case.graph, case.plan), EarlyStopping(), ReplayBuffer(SLOTS, 5)
    blocks, scores = [], []
    while not stopping.stopped and len(scores) < 6:
        for sample, label in zip(taught.inputs, taught.labelled(), strict=True):
            buffer.remember(sample, int(label))
            trainer.step(sample, int(label))
            slot = buffer.draw()
            trainer.step(buffer.samples[slot], buffer.labels[slot])
        scores.append(int((trainer.network.run(held.inputs).argmax(axis=-1).reshape(-1) == held.labelled()).sum()))
        blocks.append(trainer.parameter_block())
        stopping.judge(scores[-1], 2)
    assert report.scores == tuple(scores)
    assert report.stopped == stopping.stopped
    assert report.stored[: len(buffer.labels)] == tuple(buffer.labels) or stopping.stopped
    assert tuning.parameters == blocks[report.best] != blocks[-1]
    assert len(tuning.while_learning) == len(taught.inputs) * len(scores)
    assert report.held == report.confusion.sum() == len(held.inputs)
    assert np.trace(report.confusion) == scores[-1]


@pytest.mark.parametrize(
    ("wishes", "aids", "error", "expected"),
    [
        (AidWishes(replays=1), AidOptions(keeps_best=True), RecipeError, "with --replay SLOTS"),
        (AidWishes(patience=1), AidOptions(evaluates=True), RecipeError, "with --keep-best"),
        (AidWishes(patience=1), AIDS, DataError, "Expected --learn"),
    ],
)
def test_wishes_that_an_export_cannot_meet(wishes, aids, error, expected):
    with pytest.raises(error, match=expected):
        check_wishes(wishes, aids, None)


def test_too_few_samples_to_hold_some(case):
    with pytest.raises(DataError, match="Too few samples to hold"):
        split(Samples(case.samples[:8], np.arange(8) % 2))
