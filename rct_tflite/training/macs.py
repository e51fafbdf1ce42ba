"""Multiply-accumulates of a model's integer weights, from the shapes of its layers."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras

Shape = Sequence[int | None]


def macs_per_sample(model: Any) -> dict[int, float]:
    """Counts the multiply-accumulates of one forward pass for one sample.

    A kernel is used once for each output position (each input position of a transposed convolution, each time step
    of a recurrent layer), by every call of its layer. An embedding is a look-up and computes none.

    Args:
        model: A functional model, with models and wrappers in it.

    Returns:
        `id(weight)` to the count; NaN where a shape is not known before there is data, such as the length of a text.
    """
    found: dict[int, float] = {}
    for layer, inputs, outputs, times in _calls(model):
        for weight in layer.integer_weights:
            macs = weight.weight_count * times * _positions(layer, inputs, outputs)
            found[id(weight)] = found.get(id(weight), 0.0) + macs
    return found


def _calls(model: Any) -> Iterator[tuple[Any, Shape, Shape, float]]:
    """Yields each call of a layer with integer weights: layer, shapes of input and output, and how often it runs."""
    functional = getattr(model, "_functional", None) or model
    for nodes in functional._nodes_by_depth.values():
        for node in nodes:
            if node.input_tensors:
                yield from _unwrapped(node.operation, node.input_tensors[0].shape, node.output_tensors[0].shape, 1.0)


def _unwrapped(layer: Any, inputs: Shape, outputs: Shape, times: float) -> Iterator[tuple[Any, Shape, Shape, float]]:
    if isinstance(layer, keras.Model):
        yield from ((*call, times * calls) for *call, calls in _calls(layer))
    elif isinstance(layer, keras.layers.TimeDistributed):
        batch, steps, *inner = inputs
        yield from _unwrapped(layer.layer, (batch, *inner), (batch, *outputs[2:]), times * _product([steps]))
    elif isinstance(layer, keras.layers.Bidirectional):
        for half in (layer.forward_layer, layer.backward_layer):
            yield from _unwrapped(half, inputs, outputs, times)
    elif getattr(layer, "integer_weights", None):
        yield layer, inputs, outputs, times


def _positions(layer: Any, inputs: Shape, outputs: Shape) -> float:
    """Returns how often a call multiplies with each weight."""
    if isinstance(layer, keras.layers.Embedding):
        return 0.0
    if isinstance(layer, keras.layers.RNN):
        return _product(inputs[1:2])
    shape = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return _product(shape[2:] if channels_first else shape[1:-1])


def _product(sizes: Shape) -> float:
    return math.prod(math.nan if size is None else float(size) for size in sizes)
