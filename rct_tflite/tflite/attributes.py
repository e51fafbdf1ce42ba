"""How ops without weights are written: options, versions, and the constants that say what they do."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.graph import (
    ConcatenationOptions,
    MeanOptions,
    OpKind,
    PadOptions,
    PairOptions,
    Pool2DOptions,
    TableOptions,
)
from rct_tflite.spec.network import TrainedLayer
from rct_tflite.tflite.flatfile import schema
from rct_tflite.tflite.options import OPTION_CLASSES

MEAN_AXES = (1, 2)

_VERSIONS = {
    OpKind.ADD: 2,
    OpKind.AVERAGE_POOL_2D: 2,
    OpKind.CONCATENATION: 2,
    OpKind.HARD_SWISH: 1,
    OpKind.LEAKY_RELU: 2,
    OpKind.LOGISTIC: 2,
    OpKind.MAX_POOL_2D: 2,
    OpKind.MEAN: 2,
    OpKind.MUL: 2,
    OpKind.PAD: 2,
    OpKind.QUANTIZE: 2,
    OpKind.RELU: 2,
    OpKind.RESHAPE: 1,
    OpKind.SUB: 2,
    OpKind.TANH: 2,
}
"""First version of each op that takes int8."""


def version_of(layer: TrainedLayer) -> int:
    """Returns the version of a layer's op.

    Raises:
        ModelFileError: If the op is not written.
    """
    if layer.kind not in _VERSIONS:
        raise ModelFileError(
            f"Layer {layer.name!r} cannot be written. Expected an op with weights, or one of "
            f"{[kind.name for kind in _VERSIONS]}. Received: {layer.kind.name}."
        )
    return _VERSIONS[layer.kind]


def schema_options(layer: TrainedLayer) -> tuple[Any, int]:
    """Returns the schema's options of a layer's op, None where it has none, and the number of their type."""
    fb, options = schema(), layer.options
    match options:
        case Pool2DOptions():
            fields: dict[str, Any] = {
                "padding": options.padding.value,
                "strideW": options.stride_w,
                "strideH": options.stride_h,
                "filterWidth": options.filter_w,
                "filterHeight": options.filter_h,
                "fusedActivationFunction": options.activation.value,
            }
        case PairOptions():
            fields = {"fusedActivationFunction": options.activation.value}
        case ConcatenationOptions():
            fields = {"axis": options.axis, "fusedActivationFunction": 0}
        case TableOptions(alpha) if layer.kind is OpKind.LEAKY_RELU:
            fields = {"alpha": alpha}
        case MeanOptions():
            fields = {"keepDims": len(layer.output_shape) > 1}
        case _:
            return None, 0
    name = "ReducerOptionsT" if layer.kind is OpKind.MEAN else OPTION_CLASSES[layer.kind]
    return getattr(fb, name)(**fields), int(getattr(fb.BuiltinOptions, name.removesuffix("T")))


def constant_input(layer: TrainedLayer) -> tuple[str, npt.NDArray[np.int32]] | None:
    """Returns the int32 constant that an op without weights reads, and the end of its name, or None."""
    if layer.kind is OpKind.RESHAPE:
        return "shape", np.array((1, *layer.output_shape), np.int32)
    if layer.kind is OpKind.MEAN:
        return "axes", np.array(MEAN_AXES, np.int32)
    if isinstance(layer.options, PadOptions):
        return "paddings", np.array(layer.options.cells, np.int32)
    return None
