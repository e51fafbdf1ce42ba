"""The flatbuffer under a `.tflite`: bytes to schema objects and back, aligned and reproducible."""

import importlib
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, ToolchainError

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
"""TFLite's C++ tools align constants to this, and SIMD kernels rely on it."""

_SHORTEST_FILE = 8
_DAMAGED = (IndexError, OverflowError, TypeError, ValueError, struct.error)
"""What the flatbuffer classes raise for an offset, length or string that points out of the file."""


class Span(NamedTuple):
    """Where a constant lies in the file, in bytes."""

    offset: int
    length: int


def import_wheel(module: str) -> Any:
    """Imports a module of the tflite-micro wheel when it is first needed.

    Raises:
        ToolchainError: If the wheel is not installed.
    """
    try:
        return importlib.import_module(f"tflite_micro.{module}")
    except ImportError as error:
        raise ToolchainError(
            "Cannot load the tflite-micro wheel, which holds the .tflite schema and the oracle of inference. "
            "Expected the version that pyproject.toml pins; it exists for Linux on x86-64 only. "
            f"Received: {error}. Install rct-tflite on Linux, in a container or in WSL."
        ) from error


def schema() -> Any:
    """Returns the generated classes of the `.tflite` schema."""
    return import_wheel("tensorflow.lite.python.schema_py_generated")


def load_model(data: bytes) -> Any:
    """Parses a `.tflite` into the schema's object tree (`ModelT`).

    Raises:
        ModelFileError: If the bytes are not a whole `.tflite` file.
    """
    identifier = data[4:_SHORTEST_FILE]
    if len(data) < _SHORTEST_FILE or identifier != FILE_IDENTIFIER:
        raise ModelFileError(
            f"This is not a .tflite file. Expected the identifier {FILE_IDENTIFIER!r} at byte 4. "
            f"Received: {identifier!r} in a file of {len(data)} bytes. `rct-tflite export` makes one of a .keras."
        )
    fb = schema()
    try:
        model = fb.ModelT.InitFromObj(fb.Model.GetRootAsModel(data, 0))
    except _DAMAGED as error:
        raise ModelFileError(
            "The .tflite file is damaged: an offset points out of the file. Expected a whole flatbuffer. "
            f"Received: {len(data)} bytes ({error}). Copy or export the file again."
        ) from error
    if model.version != SCHEMA_VERSION:
        raise ModelFileError(
            f"Unknown version of the .tflite schema. Expected {SCHEMA_VERSION}. Received: {model.version}."
        )
    return model


def pack_model(model: Any) -> bytes:
    """Serialises a `ModelT`; equal trees give equal bytes, and each constant starts on 16 bytes."""
    import flatbuffers

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """The schema's `force_align: 16` of a buffer's bytes, which the Python classes leave out."""

        def CreateNumpyVector(self, x: npt.NDArray[np.generic]) -> int:  # noqa: N802
            if x.dtype == np.uint8:
                self.Prep(BUFFER_ALIGNMENT, x.nbytes)
            offset: int = super().CreateNumpyVector(x)
            return offset

    builder = AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def buffer_spans(data: bytes) -> tuple[Span | None, ...]:
    """Returns where each buffer of a file that `load_model()` accepted lies, None for an empty one."""
    fb = schema()
    root = fb.Model.GetRootAsModel(data, 0)
    spans: list[Span | None] = []
    for index in range(root.BuffersLength()):
        buffer = root.Buffers(index)
        if buffer.DataLength() == 0:
            spans.append(None)
        else:
            field = buffer._tab.Offset(4)  # `data` is the first field of the table
            spans.append(Span(int(buffer._tab.Vector(field)), int(buffer.DataLength())))
    return tuple(spans)


def text(raw: bytes | None) -> str:
    """Decodes a name in the file; bytes that are not UTF-8 become U+FFFD."""
    return (raw or b"").decode("utf-8", "replace")


def int_tuple(vector: Any) -> tuple[int, ...]:
    """Returns a vector of the schema, which is None where absent, as a tuple."""
    return () if vector is None else tuple(int(value) for value in vector)
