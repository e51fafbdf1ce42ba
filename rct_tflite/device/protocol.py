"""The host's end of the wire: frames of commands and responses (firmware_templates/app/frame.h)."""

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DeviceError
from rct_tflite.spec.graph import Inputs

FRAME_VERSION = 1
RESPONSE_BIT = 0x80
_HEADER = struct.Struct("<2sBBI")
_CRC = struct.Struct("<I")
_STATUS = struct.Struct("<i")
_INFO = struct.Struct("<6I")
_WIDTH = struct.Struct("<IBbxx")


class Command(enum.IntEnum):
    """What a device can be asked; mirrors `rct_command.def`."""

    INFO = 1
    RESET = 2
    SELF_TEST = 3
    PREDICT = 4
    LEARN = 5
    READ_PARAMETERS = 6
    WRITE_PARAMETERS = 7
    EXIT = 8
    LEARN_TARGET = 9
    READ_WIDTHS = 10
    SET_RATE = 64
    BEGIN_EVALUATION = 65
    EVALUATE = 66
    EVALUATE_TARGET = 67
    JUDGE = 68
    READ_CONFUSION = 69
    ROLL_BACK = 70
    REMEMBER = 71
    REPLAY = 72
    READ_REPLAY = 73


class DeviceStatus(enum.IntEnum):
    """What a device answers; mirrors `rct_status.def`."""

    OK = 0
    ERR_ARGUMENT = -1
    ERR_STREAM = -2
    ERR_FRAME = -3
    ERR_CHECKSUM = -4
    ERR_COMMAND = -5
    ERR_SELF_TEST = -6


@dataclass(frozen=True)
class Request:
    """A command and its payload."""

    command: Command
    payload: bytes = b""

    def encode(self) -> bytes:
        """Returns the frame."""
        frame = _HEADER.pack(b"RT", FRAME_VERSION, self.command, len(self.payload)) + self.payload
        return frame + _CRC.pack(zlib.crc32(frame))


@dataclass(frozen=True)
class Response:
    """The answer to a command that was carried out."""

    command: Command
    payload: bytes


@dataclass(frozen=True)
class DeviceInfo:
    """Sizes that the firmware tells of its network, in bytes; mirrors `rct_model_info_t`."""

    input_bytes: int
    classes: int
    arena_bytes: int
    parameter_bytes: int
    state_bytes: int
    trace_bytes: int

    @classmethod
    def decode(cls, payload: bytes) -> "DeviceInfo":
        """Reads the payload of the response to INFO."""
        return cls(*_INFO.unpack(payload))


@dataclass(frozen=True)
class LayerWidth:
    """How finely a layer is resolved whose width follows the training; mirrors `rct_model_width_t`.

    Attributes:
        gavg: Mean step that its weights were asked for in the last interval, learning rate times Gavg, in 2**-16.
        bits: Bit-width.
        octave: `log2(scale / exported scale)`.
    """

    gavg: int
    bits: int
    octave: int

    @classmethod
    def decode(cls, payload: bytes) -> "tuple[LayerWidth, ...]":
        """Reads the payload of the response to READ_WIDTHS: the trained layers in the order of the network."""
        return tuple(cls(*values) for values in _WIDTH.iter_unpack(payload))


def sample_bytes(sample: Inputs) -> bytes:
    """Returns a sample of any shape as it travels: int8 as it is, int32 ids in 16 bits."""
    return sample.astype("<u2").tobytes() if sample.dtype == np.int32 else sample.tobytes()


def predict(sample: Inputs) -> Request:
    """Asks for the logits of one sample."""
    return Request(Command.PREDICT, sample_bytes(sample))


def learn(sample: Inputs, label: int) -> Request:
    """Asks to learn from one sample."""
    return Request(Command.LEARN, struct.pack("<H", label) + sample_bytes(sample))


def learn_target(sample: Inputs, target: npt.NDArray[np.int8]) -> Request:
    """Asks to learn from one sample towards an int8 target of any shape."""
    return Request(Command.LEARN_TARGET, target.tobytes() + sample_bytes(sample))


def decode_responses(stream: bytes) -> Iterator[Response]:
    """Splits what a device sent into responses.

    Raises:
        DeviceError: If a frame is damaged or cut off, or the device reports an error.
    """
    position = 0
    while position < len(stream):
        response, position = _decode_one(stream, position)
        yield response


def _decode_one(stream: bytes, start: int) -> tuple[Response, int]:
    body = start + _HEADER.size
    if body > len(stream):
        raise _damaged(start, "the header is cut off")
    magic, version, command, length = _HEADER.unpack(stream[start:body])
    if magic != b"RT" or version != FRAME_VERSION or not command & RESPONSE_BIT or length < _STATUS.size:
        raise _damaged(start, f"a header of {stream[start:body].hex()}")
    end = body + length + _CRC.size
    if end > len(stream):
        raise _damaged(start, f"{end - len(stream)} bytes too few")
    (crc,) = _CRC.unpack(stream[body + length : end])
    if crc != zlib.crc32(stream[start : body + length]):
        raise _damaged(start, "a wrong checksum")
    payload = stream[body : body + length]
    return Response(_accepted(command & ~RESPONSE_BIT, payload, start), payload[_STATUS.size :]), end


def _accepted(number: int, payload: bytes, start: int) -> Command:
    """Returns the command that was carried out, or raises what the device said instead."""
    try:
        status = DeviceStatus(_STATUS.unpack(payload[: _STATUS.size])[0])
        if status is DeviceStatus.OK:
            return Command(number)
    except ValueError as error:
        raise _damaged(start, str(error)) from None
    # The number is 0 where no header was understood.
    name = Command(number).name if number in list(Command) else f"number {number}"
    raise DeviceError(
        f"The device refused the command {name}: {status.name}. "
        "Check that the firmware and this host program come from the same export."
    )


def _damaged(position: int, what: str) -> DeviceError:
    return DeviceError(
        f"The device's answer is damaged at byte {position}. Expected a frame of protocol version {FRAME_VERSION}. "
        f"Received: {what}. Check the connection, and that the firmware has not stopped."
    )
