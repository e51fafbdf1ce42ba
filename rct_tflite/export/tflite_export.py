"""Writes a trained network as a `.tflite` and proves that the file says the same."""

import numpy as np

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.graph import Graph, Op, Tensor, TrainingMetadata
from rct_tflite.spec.network import INPUT, TrainedLayer, TrainedNetwork
from rct_tflite.spec.quantization import AffineQuantization
from rct_tflite.tflite.reader import read_graph
from rct_tflite.tflite.writer import bias_integers, write_exact


def export_tflite(network: TrainedNetwork, training: TrainingMetadata) -> bytes:
    """Exports a network through TFLiteConverter, reads the file back and compares every number.

    Args:
        network: What training gave, batch normalisation folded.
        training: Stored in the file. With `layers=()` the layers and the rounding are the network's.

    Returns:
        The `.tflite`'s bytes; equal arguments give equal bytes.

    Raises:
        ModelFileError: If the file differs from the network in any integer, scale, zero point, shape or option.
        QuantizationError: If a number does not fit the `.tflite` quantisation.
    """
    from rct_tflite.export.converter import convert  # imports TensorFlow

    model = write_exact(convert(network), network, training)
    check_equal(read_graph(model, network.name), network)
    return model


def check_equal(graph: Graph, network: TrainedNetwork) -> None:
    """Compares a graph with the network that it was written from.

    Raises:
        ModelFileError: With all that differs.
    """
    differences = _tensor_differences(
        graph.tensors[graph.input], network.input_shape, None if network.takes_ids else network.input
    )
    if len(graph.ops) != len(network.layers):
        differences.append(f"{len(graph.ops)} ops for {len(network.layers)} layers")
    places = {graph.input: INPUT} | {op.output: place for place, op in enumerate(graph.ops)}
    for place, (op, layer) in enumerate(zip(graph.ops, network.layers, strict=False)):
        reads = tuple(places[tensor] for tensor in graph.sources(op))
        if reads != network.sources(place):
            differences.append(f"{layer.name}: it reads the layers {reads} instead of {network.sources(place)}")
        source = network.quantization(network.sources(place)[0])
        differences += [f"{layer.name}: {what}" for what in _differences(graph, op, layer, source)]
    if differences:
        raise ModelFileError(
            f"The .tflite differs from the trained network {network.name!r}. Expected equal numbers. "
            f"Received: {'; '.join(differences)}. Use the TensorFlow version that pyproject.toml pins."
        )


def _differences(graph: Graph, op: Op, layer: TrainedLayer, source: AffineQuantization) -> list[str]:
    found = []
    if (op.name, op.kind, op.options) != (layer.name, layer.kind, layer.options):
        found.append(f"op {op.name!r} is {op.kind.name} with {op.options}, not {layer.kind.name} with {layer.options}")
    found += _tensor_differences(graph.tensors[op.output], layer.output_shape, layer.output)
    if layer.weights is None or not op.has_weights:
        return found if op.has_weights == (layer.weights is not None) else [*found, "weights only on one side"]
    weights, *biases = (graph.tensors[index] for index in op.inputs[1:])
    scales = layer.weights.scales
    if not np.array_equal(weights.data, layer.weights.integers):  # type: ignore[arg-type]
        found.append("weight integers")
    if not np.array_equal(graph.wide.get(op.name, ()), () if layer.weights.wide is None else layer.weights.wide):
        found.append("weight integers of more than 8 bits")
    if any(not np.array_equal(bias.data, bias_integers(layer, source)) for bias in biases):  # type: ignore[arg-type]
        found.append("bias integers")
    for tensor, expected in ((weights, scales), *((bias, source.scale * scales) for bias in biases)):
        quantization = tensor.quantization
        if quantization is None or not np.array_equal(quantization.scales.astype(np.float64), expected):
            found.append(f"scales of {tensor.name!r}")
        elif quantization.zero_points.any():
            found.append(f"zero points of {tensor.name!r}")
    return found


def _tensor_differences(tensor: Tensor, shape: tuple[int, ...], quantization: AffineQuantization | None) -> list[str]:
    """Compares a tensor with its shape and quantisation; None is that of ids."""
    found = []
    if tensor.shape != (1, *shape):
        found.append(f"shape {tensor.shape} instead of {(1, *shape)}")
    if quantization is None:
        return found if tensor.dtype == np.int32 else [*found, f"{tensor.dtype} instead of ids"]
    if (tensor.scale, tensor.zero_point) != (quantization.scale, quantization.zero_point):
        found.append(f"quantisation ({tensor.scale}, {tensor.zero_point}) instead of {quantization}")
    return found
