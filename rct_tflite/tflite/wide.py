"""Weights of 9 to 16 bits, in the `.tflite`'s own metadata table: its int8 tensors hold them rounded."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.quantization import MAX_BITS, narrowed

WIDE_NAME = "rct_wide_weights"
_CHECKSUM_BYTES = 4
_ITEM = np.dtype("<i2")


@dataclass(frozen=True, eq=False)
class WideLayer:
    """What the file says elsewhere of a layer of more than 8 bits: its width, and its int8 tensor."""

    name: str
    bits: int
    seen: npt.NDArray[np.generic]


def encode_wide(weights: Iterable[npt.NDArray[np.int16]]) -> bytes:
    """Returns weights as they travel: CRC-32 of what follows, then 16 bits each, all little endian.

    Args:
        weights: Of the layers of more than 8 bits, in the order of the metadata, in the shapes of their tensors.
    """
    content = b"".join(array.astype(_ITEM).tobytes() for array in weights)
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little") + content


def decode_wide(data: bytes | None, layers: Iterable[WideLayer]) -> Mapping[str, npt.NDArray[np.int16]]:
    """Reads what `encode_wide()` wrote.

    Args:
        data: None where the file has none.
        layers: Of more than 8 bits, in the order of the metadata.

    Returns:
        By the name of the layer, int16 in the shape of its tensor.

    Raises:
        ModelFileError: If they are damaged or missing, need more bits, or are not what the int8 tensors hold rounded.
    """
    expected = list(layers)
    content = b"" if data is None else data[_CHECKSUM_BYTES:]
    size = _ITEM.itemsize * sum(layer.seen.size for layer in expected)
    if data is None and not expected:
        return {}
    if data is None or len(content) != size or zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little") != data[:4]:
        received = "none" if data is None else f"{len(content)} bytes, or bytes that do not match their checksum"
        raise _damaged(f"Expected {size} bytes for {[layer.name for layer in expected]}. Received: {received}.")
    integers, start = np.frombuffer(content, _ITEM).astype(np.int16), 0
    weights: dict[str, npt.NDArray[np.int16]] = {}
    for layer in expected:
        values = integers[start : start + layer.seen.size].reshape(layer.seen.shape)
        start += layer.seen.size
        limit = 1 << (layer.bits - 1)
        if not -limit <= int(values.min()) <= int(values.max()) < limit:
            raise _damaged(
                f"Expected weights of {layer.name!r} of at most {layer.bits} bits. "
                f"Received: {values.min()} to {values.max()}."
            )
        differ = int(np.count_nonzero(narrowed(values, layer.bits) != layer.seen))
        if differ:
            raise _damaged(
                f"Expected weights that are those of {layer.name!r} when rounded to 8 bits. "
                f"Received: {differ} of {values.size} others."
            )
        weights[layer.name] = values
    return weights


def _damaged(why: str) -> ModelFileError:
    return ModelFileError(
        f"The weights of 9 to {MAX_BITS} bits in the metadata {WIDE_NAME!r} of the .tflite cannot be used. {why} "
        "Export the model again."
    )
