"""Networks that pick rows of a table: what is no row is refused, and nothing but rows that were read learns."""

import struct
import subprocess

import numpy as np
import pytest

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, DeviceStatus, Request
from rct_tflite.errors import DataError
from rct_tflite.firmware.parameters import decode_parameters, tuned_model
from rct_tflite.firmware.samples import quantize_inputs
from rct_tflite.firmware.session import exchange, host_runner
from rct_tflite.reference.aids import ReplayBuffer
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.aid_options import AidOptions
from rct_tflite.spec.step_options import RatePoint, StepOptions
from rct_tflite.tflite.oracle import run_micro
from tests.firmware.conftest import Case
from tests.tflite.one_op import words, words_model

SLOTS, STEPS, ROWS = 5, 30, 11
AIDS = AidOptions(evaluates=True, keeps_best=True, replay_slots=SLOTS)
OPTIONS = StepOptions(schedule=(RatePoint(10, 1 << 15),), clip_norm=0.5, class_weights=(256, 512, 128, 256))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("ids"), words(), "all", steps=STEPS, options=OPTIONS, aids=AIDS)


@pytest.fixture(scope="module")
def program(case):
    return case.build("host", sanitize=True).image


def lesson(command, sample, label=1) -> Request:
    return Request(command, protocol.learn(sample, int(label)).payload)


def statuses(program, requests) -> list[int]:
    """What the program answers to each request; it goes on after an error that is no damage of the stream."""
    stream = b"".join(request.encode() for request in requests)
    done = subprocess.run([program], input=stream, capture_output=True, check=True)
    assert not done.stderr
    found, place = [], 0
    while place < len(done.stdout):
        (length,) = struct.unpack_from("<I", done.stdout, place + 4)
        found.append(struct.unpack_from("<i", done.stdout, place + 8)[0])
        place += 8 + length + 4
    return found


@pytest.mark.parametrize("wrong", [ROWS, 65535])
@pytest.mark.parametrize("place", [0, -1])
def test_an_id_that_is_no_row_is_refused_and_changes_nothing(case, program, place, wrong):
    sample = case.samples[0].copy()
    sample[place] = wrong
    refused = [protocol.predict(sample), protocol.learn(sample, 1)]
    refused += [lesson(command, sample) for command in (Command.EVALUATE, Command.REMEMBER)]
    good = [protocol.predict(case.samples[0]), Request(Command.READ_PARAMETERS)]
    answers = statuses(program, [*refused, *good, Request(Command.EXIT)])
    assert answers == [DeviceStatus.ERR_ARGUMENT] * len(refused) + [DeviceStatus.OK] * 3
    requests = [protocol.predict(case.samples[0]), Request(Command.READ_PARAMETERS)]
    block = list(exchange(host_runner(program), requests))[-1].payload
    assert block == ReferenceTrainer(case.graph, case.plan).parameter_block()


def test_samples_are_replayed_as_the_network_takes_them(case, program):
    trainer, buffer, requests = ReferenceTrainer(case.graph, case.plan), ReplayBuffer(SLOTS, 4), []
    for sample, label in zip(case.samples, case.labels, strict=True):
        requests += [lesson(Command.REMEMBER, sample, label), protocol.learn(sample, int(label))]
        requests.append(Request(Command.REPLAY))
        buffer.remember(sample, int(label))
        trainer.step(sample, int(label))
        slot = buffer.draw()
        trainer.step(buffer.samples[slot], buffer.labels[slot])
    requests += [Request(Command.READ_REPLAY), Request(Command.READ_PARAMETERS)]
    *_, replay, parameters = (answer.payload for answer in exchange(host_runner(program), requests))
    assert replay[2 + 2 * SLOTS :] == np.array(buffer.samples, "<u2").tobytes()
    assert parameters == trainer.parameter_block()
    assert case.memory.ram_bytes >= SLOTS * case.graph.input_bytes


def test_what_was_learnt_runs_in_tflite_micro(case, program):
    block = case.learn(host_runner(program))
    assert block == case.learnt
    tuned = tuned_model(words_model(), case.graph, case.memory, block)
    trainer = ReferenceTrainer(case.graph, case.plan)
    for sample, label in zip(case.samples, case.labels, strict=True):
        trainer.step(sample, int(label))
    np.testing.assert_array_equal(run_micro(tuned, case.samples), trainer.network.run(case.samples))


def test_rows_that_no_sample_read_stay(case):
    trainer = ReferenceTrainer(case.graph, case.plan)
    before = trainer.network.weights["t2"].copy()
    sample = np.array([3, 3, 8, 3, 3, 3, 8], np.int32)
    for step in range(STEPS):
        trainer.step(sample, step % 4)
    changed = np.flatnonzero((trainer.network.weights["t2"] != before).any(axis=1))
    assert changed.tolist() == [3, 8]
    table, bias = decode_parameters(case.graph, case.memory, trainer.parameter_block())["t2"]
    np.testing.assert_array_equal(table, trainer.network.weights["t2"])
    assert bias.size == 0


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.full((2, 7), 11), "Expected 0 to 10, the rows of the table. Received: 11 in sample 0"),
        (np.array([[0] * 7, [0] * 6 + [-1]]), "Received: -1 in sample 1"),
        (np.zeros((2, 7), np.float32), "Expected integers from 0 to 10. Received: float32"),
        (np.zeros((2, 6), np.int32), "wrong shape"),
    ],
)
def test_samples_of_other_ids_are_refused(case, ids, expected):
    with pytest.raises(DataError, match=expected):
        quantize_inputs(ids, case.graph)


def test_ids_are_not_scaled(case):
    ids = quantize_inputs(case.samples.astype(np.int64), case.graph)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, case.samples)
    with pytest.raises(DataError, match="takes int32 samples"):
        ReferenceNetwork(case.graph).run(case.samples.astype(np.int8))
