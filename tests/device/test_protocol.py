import re

import numpy as np
import pytest

from rct_tflite.device.protocol import Command, DeviceStatus, Request, decode_responses, learn
from rct_tflite.errors import DeviceError
from rct_tflite.spec.templates import templates_folder


def response(command, status=DeviceStatus.OK, payload=b""):
    """A response has a request's layout: bit 7 of the command set, the status first."""
    return Request(command | 0x80, int(status).to_bytes(4, "little", signed=True) + payload).encode()


@pytest.mark.parametrize(
    ("enum", "file", "macro"),
    [(DeviceStatus, "runtime/rct_status.def", "RCT_STATUS"), (Command, "app/rct_command.def", "RCT_COMMAND")],
)
def test_lists_equal_those_of_the_firmware(enum, file, macro):
    text = (templates_folder() / file).read_text()
    found = {name: int(value) for name, value in re.findall(rf"^{macro}\((\w+), (-?\d+)", text, re.MULTILINE)}
    assert found == {member.name: member.value for member in enum}


def test_responses_are_split():
    stream = response(Command.INFO, payload=b"abc") + response(Command.EXIT)
    assert [(r.command, r.payload) for r in decode_responses(stream)] == [(Command.INFO, b"abc"), (Command.EXIT, b"")]


def test_request_to_learn_holds_label_and_sample():
    frame = learn(np.array([[1, -2]], np.int8), 258).encode()
    assert frame[:8] == b"RT\x01\x05\x04\x00\x00\x00"
    assert frame[8:12] == b"\x02\x01\x01\xfe"


def test_every_flipped_bit_and_every_cut_is_noticed():
    stream = response(Command.PREDICT, payload=bytes(10))
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DeviceError, match="damaged"):
            list(decode_responses(bytes(damaged)))
    for length in range(1, len(stream)):
        with pytest.raises(DeviceError, match="damaged at byte 0"):
            list(decode_responses(stream[:length]))


def test_an_error_of_the_device_is_named():
    with pytest.raises(DeviceError, match="refused the command LEARN: ERR_ARGUMENT"):
        list(decode_responses(response(Command.LEARN, DeviceStatus.ERR_ARGUMENT)))
