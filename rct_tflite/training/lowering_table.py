"""How an Embedding is exported: a GATHER of rows, on the grid of its table."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rct_tflite.spec.graph import Activation, GatherOptions, OpKind
from rct_tflite.spec.quantization import AffineQuantization
from rct_tflite.training import layers as rct_layers
from rct_tflite.training.calls import INPUT_VALUE, Call
from rct_tflite.training.lowering import Rule, add_function, sizes_of
from rct_tflite.training.network_builder import NetworkBuilder
from rct_tflite.training.stages import Stage
from rct_tflite.training.weights import trained_weights

MOST_ROWS = 65535
"""An id has two bytes on the device."""


def _check(call: Call) -> str | None:
    layer = call.layer
    (weight,) = layer.integer_weights
    if layer.mask_zero:
        return "mask_zero must be False: the device reads a row for id 0 as for any other, which learns to say nothing"
    if call.sources != (INPUT_VALUE,):
        return "it must read the model's input: ids are not computed on the device"
    if weight.scale.shape != ():
        return (
            "its table must have one scale, as the values of all rows meet in one tensor: "
            f"add Rule({layer.name!r}, per_channel=False) to the recipe"
        )
    if layer.input_dim > MOST_ROWS:
        return f"input_dim must be at most {MOST_ROWS}, but it is {layer.input_dim}"
    return None


def _add(builder: NetworkBuilder, stage: Stage, sources: Sequence[int]) -> int:
    """The rows as they are: the table's grid is finer than nothing that could be put behind it."""
    call = stage.call
    (weight,) = call.layer.integer_weights
    table = weight.integers.numpy().astype(np.int64)
    weights = trained_weights(weight, table.T, None, None, channels_first=True)
    weights = dataclasses.replace(weights, bias=np.zeros(0))
    grid = AffineQuantization(float(weights.scales[0]), 0)
    op = (OpKind.GATHER, GatherOptions())
    place = builder.add(call.label, op, sources, sizes_of(call.output_shape), grid, weights)
    return place if stage.function.fused is Activation.NONE else add_function(builder, stage, place)


RULES: dict[type, Rule] = {rct_layers.Embedding: Rule(_check, _add)}
