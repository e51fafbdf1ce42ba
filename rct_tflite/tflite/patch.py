"""Finds and replaces weights inside a finished `.tflite`, in place."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.spec.graph import Graph, Op, Tensor
from rct_tflite.spec.quantization import EXPORT_BITS, narrowed, top
from rct_tflite.tflite.flatfile import Span, buffer_spans, int_tuple, load_model, pack_model, schema
from rct_tflite.tflite.reader import GraphSource, parameter_positions, read_source

LayerWeights = tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]
"""Weights and bias of one layer, in the file's shapes; an empty bias of a table."""


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
            weights, bias = (*(spans[source.buffers[index]] for index in op.inputs[1:]), None)[:2]
            assert weights is not None  # the reader refuses weights without a constant
            places.append(WeightPlace(op, weights, bias))
    return tuple(places)


def replace_weights(model: bytes, weights: Mapping[str, LayerWeights]) -> bytes:
    """Puts integers that were trained on the device back into a copy of the file.

    Args:
        model: A `.tflite`, ours or of others.
        weights: Per op name the int8 weights and the int32 bias, in the file's shapes.

    Returns:
        A file of the same size, in which only the bytes of these weights and biases differ. It is written anew
        only where others have left out a bias, or let layers share equal constants.

    Raises:
        ModelFileError: If a layer is unknown.
        QuantizationError: If an array has another shape or type, or a weight does not fit its bit-width.
    """
    source = read_source(model)
    names = [op.name for op in source.graph.ops if op.has_weights]
    unknown = sorted(weights.keys() - set(names))
    if unknown:
        raise ModelFileError(
            f"The file has no such layers. Expected some of {sorted(names)}. Received: {unknown}. "
            "Use the file that the device was flashed with."
        )
    patched = bytearray(with_own_constants(model, source, weights.keys()))
    places = {place.op.name: place for place in find_weights(bytes(patched))}
    for name, (integers, bias) in weights.items():
        place = places[name]
        _check_integers(source.graph, place.op, integers, bias)
        for span, values in ((place.weights, integers), (place.bias, bias.astype("<i4"))):
            if span is not None:  # only a table has no bias now
                patched[span.offset : span.offset + span.length] = values.tobytes()
    return bytes(patched)


def with_own_constants(model: bytes, source: GraphSource, names: Collection[str]) -> bytes:
    """Gives each named layer a bias, and constants that nothing else in the file reads."""
    tree = load_model(model)
    subgraph = tree.subgraphs[0]
    operators = list(zip(subgraph.operators, source.graph.ops, strict=True))
    uses = Counter(subgraph.tensors[i].buffer for raw, _ in operators for i in int_tuple(raw.inputs) if i >= 0)
    changed = False
    for raw, op in operators:
        if op.name not in names:
            continue
        for position, index in zip(parameter_positions(op.kind), op.inputs[1:], strict=True):
            buffer = source.buffers[index]
            if buffer and uses[buffer] == 1:
                continue
            own = _append_constant(tree, source.graph.tensors[index])
            raw.inputs = [*int_tuple(raw.inputs)[:position], own, *int_tuple(raw.inputs)[position + 1 :]]
            uses[buffer] -= 1
            changed = True
    return pack_model(tree) if changed else model


def _append_constant(tree: Any, tensor: Tensor) -> int:
    """Adds a tensor with a buffer of its own; returns its index."""
    fb = schema()
    assert tensor.data is not None
    little_endian = tensor.data.astype(tensor.dtype.newbyteorder("<"))
    tree.buffers.append(fb.BufferT(data=np.frombuffer(little_endian.tobytes(), np.uint8)))
    quantization = None
    if tensor.quantization is not None:  # a bias may come without
        quantization = fb.QuantizationParametersT(
            scale=tensor.quantization.scales,
            zeroPoint=tensor.quantization.zero_points,
            quantizedDimension=tensor.quantization.axis,
        )
    kind = fb.TensorType.INT8 if tensor.dtype == np.int8 else fb.TensorType.INT32
    tensors = tree.subgraphs[0].tensors
    tensors.append(
        fb.TensorT(
            shape=list(tensor.shape),
            type=kind,
            buffer=len(tree.buffers) - 1,
            name=tensor.name,
            quantization=quantization,
            hasRank=True,
        )
    )
    return len(tensors) - 1


def _check_integers(graph: Graph, op: Op, integers: npt.NDArray[np.int8], bias: npt.NDArray[np.int32]) -> None:
    shapes = (*(graph.tensors[index].shape for index in op.inputs[1:]), (0,))[:2]
    typed = integers.dtype == np.dtype(np.int8) and bias.dtype == np.dtype(np.int32)
    if (integers.shape, bias.shape) != shapes or not typed:
        raise QuantizationError(
            f"The new weights of layer {op.name!r} do not fit. Expected int8 {shapes[0]} and int32 {shapes[1]}. "
            f"Received: {integers.dtype} {integers.shape} and {bias.dtype} {bias.shape}."
        )
    if op.name in graph.wide and not np.array_equal(integers, narrowed(graph.wide[op.name], graph.bits_of(op))):
        raise QuantizationError(
            f"Layer {op.name!r} has {graph.bits_of(op)} bits. Expected the weights that it has at this width, rounded "
            "to 8 bits. Received: others. Replace both with rescale_weights()."
        )
    # A file of others may use -128; our grid is symmetric.
    limit = top(min(graph.bits_of(op), EXPORT_BITS))
    known = any(layer.name == op.name for layer in graph.training.layers)
    if known and np.abs(integers.astype(np.int16)).max() > limit:
        raise QuantizationError(
            f"The new weights of layer {op.name!r} are out of range. Expected {-limit} to {limit}. "
            f"Received: {integers.min()} to {integers.max()}."
        )
