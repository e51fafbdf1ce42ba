"""Scales of weights that moved by powers of two, and their bit-widths, inside a finished `.tflite`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError
from rct_tflite.spec.graph import Graph, LayerTraining, Op, TrainingMetadata
from rct_tflite.spec.quantization import EXPORT_BITS, narrowed
from rct_tflite.tflite.flatfile import int_tuple, load_model, pack_model, schema, text
from rct_tflite.tflite.metadata import METADATA_NAME, encode_metadata
from rct_tflite.tflite.patch import replace_weights, with_own_constants
from rct_tflite.tflite.reader import GraphSource, parameter_positions, read_graph, read_source
from rct_tflite.tflite.wide import WIDE_NAME, encode_wide

WideWeights = Mapping[str, npt.NDArray[np.int16]]
"""By the name of the op, weights of more than 8 bits, in the shape of its tensor."""


@dataclass(frozen=True)
class Resolution:
    """How finely the weights of a layer are resolved.

    Attributes:
        bits: Their bit-width.
        octave: `log2(scale / scale in the file)` of the int8 tensor.
    """

    bits: int
    octave: int


def rescale_weights(model: bytes, resolutions: Mapping[str, Resolution], wide: WideWeights | None = None) -> bytes:
    """Multiplies scales of weights and biases by powers of two, and notes bit-widths in our metadata.

    Integers of 8 bits at most stay: they are to be replaced next. A file of others gets metadata where a layer gets
    more than 8 bits; its ops then keep their names as names of their outputs.

    Args:
        model: A `.tflite`, ours or of others.
        resolutions: By the name of the op.
        wide: The weights of all of these that have more than 8 bits.

    Returns:
        The file, written anew only where a scale, a width or a wide weight changes.
    """
    source, wide = read_source(model), wide or {}
    ops = {op.name: op for op in source.graph.ops}
    changed = {
        name: resolution
        for name, resolution in resolutions.items()
        if resolution.octave or resolution.bits != source.graph.bits_of(ops[name]) or name in wide
    }
    if not changed:
        return model
    tree = load_model(with_own_constants(model, source, changed.keys()))
    subgraph = tree.subgraphs[0]
    for raw, op in zip(subgraph.operators, source.graph.ops, strict=True):
        if op.name not in changed:
            continue
        inputs = int_tuple(raw.inputs)
        positions = parameter_positions(op.kind)
        for index in (inputs[position] for position in positions):
            quantization = subgraph.tensors[index].quantization
            if quantization is not None and quantization.scale is not None:  # a bias may come without
                quantization.scale = np.ldexp(quantization.scale, changed[op.name].octave).astype(np.float32)
        if op.name in wide:
            seen = narrowed(wide[op.name], changed[op.name].bits).astype(np.int8)
            tree.buffers[subgraph.tensors[inputs[positions[0]]].buffer].data = np.frombuffer(seen.tobytes(), np.uint8)
    _note(tree, source, {name: resolution.bits for name, resolution in changed.items()}, wide)
    return pack_model(tree)


def widen_weights(model: bytes, widths: Mapping[str, int]) -> bytes:
    """Gives layers more bits: their integers double for each, their scales halve.

    Args:
        model: A `.tflite`, ours or of others.
        widths: By the name of the op, none below its present width.

    Returns:
        A file whose weights and biases are worth the same.

    Raises:
        QuantizationError: If a bias would not fit, a file of others holds a weight of -128, or a table has fewer than
            8 bits.
    """
    graph = read_graph(model)
    resolutions, wide, doubled = {}, {}, {}
    for op in graph.ops:
        old, bits = graph.bits_of(op), widths.get(op.name, 0) if op.has_weights else 0
        if bits <= old:
            continue
        seen = min(bits, EXPORT_BITS) - min(old, EXPORT_BITS)
        _check_widening(graph, op, bits, seen)
        weights, bias = (*(graph.tensors[index].data for index in op.inputs[1:]), np.zeros(0, np.int32))[:2]
        assert weights is not None
        assert bias is not None
        integers, offsets = weights.astype(np.int64) << seen, bias.astype(np.int64) << seen
        resolutions[op.name] = Resolution(bits, -seen)
        doubled[op.name] = integers.astype(np.int8), offsets.astype(np.int32)
        if bits > EXPORT_BITS:
            wide[op.name] = graph.weights_of_rows(op, graph.full_rows(op) << (bits - old))
    return replace_weights(rescale_weights(model, resolutions, wide), doubled)


def _check_widening(graph: Graph, op: Op, bits: int, seen: int) -> None:
    """Refuses a layer whose integers, doubled `seen` times, would not fit, or would take others along."""
    weights, *biases = (graph.tensors[index].data for index in op.inputs[1:])
    assert weights is not None
    largest = max((int(np.abs(bias.astype(np.int64)).max()) for bias in biases if bias is not None), default=0)
    if largest << seen > np.iinfo(np.int32).max or (bits > EXPORT_BITS and weights.min() << seen < -127):
        raise QuantizationError(
            f"Layer {op.name!r} cannot get {bits} bits. Expected weights of at least -127, and biases that fit "
            f"int32 with {seen} bits more. Received: {weights.min()} and a bias of {largest}. Leave the "
            "layer out of --weight-bits."
        )
    if seen and not op.has_bias:
        raise QuantizationError(
            f"Layer {op.name!r} cannot get {bits} bits: what is read of a table has its scale, which layers behind it "
            f"know. Expected a table of {EXPORT_BITS} bits. Received: {graph.bits_of(op)}. Train it with {EXPORT_BITS} "
            "bits in Keras, or leave the layer out of --weight-bits."
        )


def without_wide_weights(model: bytes) -> bytes:
    """Returns the file with layers of 8 bits at most, as inference sees them: without what only training reads."""
    source = read_source(model)
    bits = {op.name: EXPORT_BITS for op in source.graph.ops if op.name in source.graph.wide}
    if not bits:
        return model
    tree = load_model(model)
    _note(tree, source, bits, {})
    return pack_model(tree)


def _note(tree: Any, source: GraphSource, bits: Mapping[str, int], wide: WideWeights) -> None:
    """Writes bit-widths, and the weights of more than 8 bits, into our metadata, which is added where it must be."""
    graph = source.graph
    named = any(text(entry.name) == METADATA_NAME for entry in tree.metadata or [])
    if not named and not wide:
        return  # a file of others does not tell widths
    training = _with_widths(graph, bits)
    integers = {**graph.wide, **wide}
    content = [integers[layer.name] for layer in training.layers if layer.bits > EXPORT_BITS]
    _set_metadata(tree, METADATA_NAME, encode_metadata(training))
    _set_metadata(tree, WIDE_NAME, encode_wide(content) if content else None)
    if not named:
        subgraph = tree.subgraphs[0]
        for raw, op in zip(subgraph.operators, graph.ops, strict=True):
            subgraph.tensors[int_tuple(raw.outputs)[0]].name = op.name


def _with_widths(graph: Graph, bits: Mapping[str, int]) -> TrainingMetadata:
    layers = tuple(replace(layer, bits=bits.get(layer.name, layer.bits)) for layer in graph.training.layers)
    known = {layer.name for layer in layers}
    added = tuple(LayerTraining(name, width) for name, width in bits.items() if name not in known)
    return replace(graph.training, layers=layers + added)


def _set_metadata(tree: Any, name: str, content: bytes | None) -> None:
    """Adds, replaces or, for None, takes out an entry of the metadata table."""
    fb = schema()
    entries = list(tree.metadata or [])
    found = next((entry for entry in entries if text(entry.name) == name), None)
    if content is None:
        tree.metadata = [entry for entry in entries if entry is not found]
        if found is not None:
            tree.buffers[found.buffer].data = None
        return
    if found is None:
        tree.buffers.append(fb.BufferT())
        found = fb.MetadataT(name=name.encode(), buffer=len(tree.buffers) - 1)
        tree.metadata = [*entries, found]
    tree.buffers[found.buffer].data = np.frombuffer(content, np.uint8)
