"""Finds and replaces weights inside a finished `.tflite`, in place."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.quantization import EXPORT_BITS, top
from rct_tflite.tflite.flatfile import Span, buffer_spans
from rct_tflite.tflite.reader import read_source

LayerWeights = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]
"""Weights and bias of one layer, in the file's shapes."""


@dataclass(frozen=True)
class WeightPlace:
    """Where the constants of one op lie in the file; `bias` is None where the file holds none."""

    op: Op
    weights: Span
    bias: Span | None


def find_weights(model: bytes) -> tuple[WeightPlace, ...]:
    """Returns where the weights and the bias of each op lie in a `.tflite`.

    Raises:
        ModelFileError, UnsupportedLayerError: As `read_graph()`.
    """
    source = read_source(model)
    spans = buffer_spans(model)
    places = []
    for op in source.graph.ops:
        if op.has_weights:
            weights, bias = (spans[source.buffers[index]] for index in op.inputs[1:])
            assert weights is not None  # the reader refuses weights without a constant
            places.append(WeightPlace(op, weights, bias))
    return tuple(places)


def replace_weights(model: bytes, weights: Mapping[str, LayerWeights]) -> bytes:
    """Puts integers that were trained on the device back into a copy of the file.

    Args:
        model: A `.tflite` whose every layer has its own constants, as `write_exact()` writes it.
        weights: Per op name the int8 weights and the int32 bias, in the file's shapes.

    Returns:
        A file of the same size, in which only the bytes of these weights and biases differ.

    Raises:
        ModelFileError: If a layer is unknown, has no bias in the file, or shares its constants.
        QuantizationError: If an array has another shape or type, or a weight does not fit its bit-width.
    """
    graph = read_source(model).graph
    places = {place.op.name: place for place in find_weights(model)}
    unknown = sorted(weights.keys() - places.keys())
    if unknown:
        raise ModelFileError(
            f"The file has no such layers. Expected some of {sorted(places)}. Received: {unknown}. "
            "Use the file that the device was flashed with."
        )
    patched = bytearray(model)
    for name, (integers, bias) in weights.items():
        place = places[name]
        if place.bias is None:
            raise ModelFileError(
                f"The file has no bias for layer {name!r}. Expected one to replace. Export the model with a bias."
            )
        _check_alone(place, tuple(places.values()))
        _check_integers(graph, place.op, integers, bias)
        for span, values in ((place.weights, integers), (place.bias, bias.astype("<i4"))):
            patched[span.offset : span.offset + span.length] = values.tobytes()
    return bytes(patched)


def _check_alone(place: WeightPlace, places: tuple[WeightPlace, ...]) -> None:
    used = [span for other in places for span in (other.weights, other.bias)]
    if used.count(place.weights) > 1 or used.count(place.bias) > 1:
        raise ModelFileError(
            f"Layer {place.op.name!r} shares its constants with another layer, so they cannot be replaced alone. "
            "Expected own constants, as `rct-tflite export` writes them."
        )


def _check_integers(graph: Graph, op: Op, integers: npt.NDArray[np.int8], bias: npt.NDArray[np.int32]) -> None:
    shapes = tuple(graph.tensors[index].shape for index in op.inputs[1:])
    typed = integers.dtype == np.dtype(np.int8) and bias.dtype == np.dtype(np.int32)
    if (integers.shape, bias.shape) != shapes or not typed:
        raise QuantizationError(
            f"The new weights of layer {op.name!r} do not fit. Expected int8 {shapes[0]} and int32 {shapes[1]}. "
            f"Received: {integers.dtype} {integers.shape} and {bias.dtype} {bias.shape}."
        )
    # A file of others may use -128; our grid is symmetric.
    limit = top(min(graph.bits_of(op), EXPORT_BITS))
    known = any(layer.name == op.name for layer in graph.training.layers)
    if known and np.abs(integers.astype(np.int16)).max() > limit:
        raise QuantizationError(
            f"The new weights of layer {op.name!r} are out of range. Expected {-limit} to {limit}. "
            f"Received: {integers.min()} to {integers.max()}."
        )
