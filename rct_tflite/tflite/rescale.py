"""Scales of weights that moved by powers of two, and their bit-widths, inside a finished `.tflite`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rct_tflite.tflite.flatfile import int_tuple, load_model, pack_model, text
from rct_tflite.tflite.metadata import METADATA_NAME, decode_metadata, encode_metadata
from rct_tflite.tflite.patch import with_own_constants
from rct_tflite.tflite.reader import parameter_positions, read_source


@dataclass(frozen=True)
class Resolution:
    """How finely the weights of a layer are resolved.

    Attributes:
        bits: Their bit-width.
        octave: `log2(scale / scale in the file)`.
    """

    bits: int
    octave: int


def rescale_weights(model: bytes, resolutions: Mapping[str, Resolution]) -> bytes:
    """Multiplies scales of weights and biases by powers of two, and notes bit-widths in our metadata.

    The integers stay: they are to be replaced next.

    Args:
        model: A `.tflite`, ours or of others.
        resolutions: By the name of the op.

    Returns:
        The file, written anew only where a scale or a width changes.
    """
    source = read_source(model)
    ops = {op.name: op for op in source.graph.ops}
    changed = {
        name: resolution
        for name, resolution in resolutions.items()
        if resolution.octave or resolution.bits != source.graph.bits_of(ops[name])
    }
    if not changed:
        return model
    tree = load_model(with_own_constants(model, source, changed.keys()))
    subgraph = tree.subgraphs[0]
    for raw, op in zip(subgraph.operators, source.graph.ops, strict=True):
        if op.name in changed:
            inputs = int_tuple(raw.inputs)
            for index in (inputs[position] for position in parameter_positions(op.kind)):
                quantization = subgraph.tensors[index].quantization
                if quantization is not None and quantization.scale is not None:  # a bias may come without
                    quantization.scale = np.ldexp(quantization.scale, changed[op.name].octave).astype(np.float32)
    for entry in tree.metadata or []:
        if text(entry.name) == METADATA_NAME:
            buffer = tree.buffers[entry.buffer]
            training = decode_metadata(bytes(bytearray(buffer.data)))
            layers = tuple(
                replace(layer, bits=changed[layer.name].bits) if layer.name in changed else layer
                for layer in training.layers
            )
            buffer.data = np.frombuffer(encode_metadata(replace(training, layers=layers)), np.uint8)
    return pack_model(tree)
