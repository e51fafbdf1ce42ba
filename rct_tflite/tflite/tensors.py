"""Reads single tensors of a `.tflite`: activations, weights, biases and other constants, each checked."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.spec.graph import OpKind, Tensor, TensorQuantization
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.tflite.flatfile import int_tuple, schema, text

ABSENT = -1
"""The index of an optional input that is not there."""

_LARGEST_TENSOR = 1 << 31
_RANKS = {OpKind.FULLY_CONNECTED: 2}
"""Dimensions of weights, 4 where it is not said."""


def buffer_of(model: Any, index: int) -> npt.NDArray[np.uint8] | None:
    """Returns the bytes of one of the file's buffers, None for an empty one."""
    if not 0 <= index < len(model.buffers or []):
        raise ModelFileError(f"The .tflite file is damaged: there is no buffer {index}. Export it again.")
    data: npt.NDArray[np.uint8] | None = model.buffers[index].data
    return data


@dataclass(frozen=True)
class TensorReader:
    """Turns the schema's tensors into ours."""

    model: Any
    subgraph: Any

    def raw(self, index: int) -> Any:
        """Returns the schema's tensor."""
        if not 0 <= index < len(self.subgraph.tensors):
            raise ModelFileError(f"The .tflite file is damaged: there is no tensor {index}. Export it again.")
        return self.subgraph.tensors[index]

    def tensor(self, index: int, dtype: type[np.generic]) -> Tensor:
        """Reads name, shape, quantisation and, for a constant, data."""
        raw = self.raw(index)
        name, shape = text(raw.name), int_tuple(raw.shape)
        size = math.prod(shape)
        if any(extent < 1 for extent in shape) or size >= _LARGEST_TENSOR:
            raise ModelFileError(f"Tensor {name!r} has an impossible shape. Received: {shape}.")
        if raw.isVariable or raw.sparsity is not None:
            raise UnsupportedLayerError(f"Tensor {name!r} is a variable or sparse. Export the model without state.")
        raw_data = buffer_of(self.model, int(raw.buffer))
        data = None
        if raw_data is not None and len(raw_data):
            if len(raw_data) != size * np.dtype(dtype).itemsize:
                raise ModelFileError(
                    f"Constant {name!r} has the wrong length. Expected shape {shape} of {np.dtype(dtype)}. "
                    f"Received: {len(raw_data)} bytes."
                )
            data = np.frombuffer(raw_data.tobytes(), np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
            data.flags.writeable = False
        return Tensor(name, shape, np.dtype(dtype), _quantization(name, raw.quantization), data)

    def operand(self, index: int) -> Tensor:
        """Reads an int8 tensor with one scale: computed, or a constant."""
        tensor = self.tensor(index, np.int8)
        if self.raw(index).type != schema().TensorType.INT8 or tensor.quantization is None:
            raise UnsupportedLayerError(
                f"Tensor {tensor.name!r} is not quantised to int8. Quantise the model fully to int8."
            )
        if tensor.quantization.scales.size != 1:
            raise ModelFileError(f"Tensor {tensor.name!r} must have one scale. Export the model again.")
        return tensor

    def activation(self, index: int) -> Tensor:
        """Reads an int8 tensor that is computed, batch 1."""
        tensor = self.operand(index)
        if tensor.data is not None:
            raise ModelFileError(f"Activation {tensor.name!r} must be computed and have one scale.")
        return _one_sample(tensor)

    def ids(self, index: int) -> Tensor:
        """Reads the int32 input of a network that picks rows of a table, batch 1."""
        tensor = self.tensor(index, np.int32)
        if tensor.data is not None:
            raise ModelFileError(f"The input {tensor.name!r} must be computed. Received: a constant.")
        return _one_sample(tensor)

    def table(self, index: int, name: str) -> Tensor:
        """Reads the table of op `name`: one scale, any zero point."""
        tensor = self.operand(index)
        if tensor.data is None:
            raise UnsupportedLayerError(f"The table of op {name!r} is computed at run time. Expected a constant.")
        check_rank(name, tensor, 2)
        return tensor

    def weights(self, index: int, kind: OpKind, name: str, source: Tensor) -> Tensor:
        """Reads the weights of op `name`, which reads `source`."""
        tensor = self.tensor(index, np.int8)
        if tensor.data is None or tensor.quantization is None:
            raise UnsupportedLayerError(f"The weights of op {name!r} are computed at run time. Expected a constant.")
        rank = _RANKS.get(kind, 4)
        check_rank(name, tensor, rank)
        if rank == 4:
            check_rank(name, source, 4)
        _check_depth(kind, name, tensor, source)
        axis = 3 if kind is OpKind.DEPTHWISE_CONV_2D else 0
        scales = tensor.quantization.scales.size
        if scales not in (1, tensor.shape[axis]) or (scales > 1 and tensor.quantization.axis != axis):
            raise ModelFileError(f"The weights of op {name!r} must have one scale, or one per output channel.")
        if tensor.quantization.zero_points.any():
            raise UnsupportedLayerError(f"The weights of op {name!r} must be symmetric, with zero point 0.")
        return tensor

    def bias(self, index: int, name: str, source: Tensor, weights: Tensor, units: int) -> Tensor:
        """Reads the bias of an op; zeros where there is none."""
        if index == ABSENT:
            assert weights.quantization is not None
            scales = (source.scale * weights.quantization.scales.astype(np.float64)).astype(np.float32)
            quantization = TensorQuantization(scales, np.zeros(scales.size, np.int64))
            return Tensor(f"{name}/bias", (units,), np.dtype(np.int32), quantization, np.zeros(units, np.int32))
        tensor = self.tensor(index, np.int32)
        if tensor.shape != (units,) or tensor.data is None:
            raise ModelFileError(
                f"The bias of op {name!r} must be a constant of shape {(units,)}. Received: {tensor.shape}."
            )
        return tensor

    def integers(self, index: int, name: str) -> npt.NDArray[np.int64]:
        """Reads an int32 constant that says what op `name` does: axes, cells of padding."""
        tensor = self.tensor(index, np.int32)
        if self.raw(index).type != schema().TensorType.INT32 or tensor.data is None:
            raise UnsupportedLayerError(
                f"Input {tensor.name!r} of op {name!r} is computed at run time. Expected an int32 constant. "
                "Export with a fixed batch: keras.Input(batch_shape=(1, ...))."
            )
        return tensor.data.astype(np.int64)


def check_rank(name: str, tensor: Tensor, rank: int) -> None:
    """Refuses a tensor of op `name` with another number of dimensions."""
    if len(tensor.shape) != rank:
        raise UnsupportedLayerError(
            f"Tensor {tensor.name!r} of op {name!r} must have {rank} dimensions. Received: shape {tensor.shape}."
        )


def _one_sample(tensor: Tensor) -> Tensor:
    if tensor.shape[:1] != (1,):
        raise UnsupportedLayerError(
            f"Tensor {tensor.name!r} must have batch 1. Received: shape {tensor.shape}. "
            "Export with keras.Input(batch_shape=(1, ...))."
        )
    return tensor


def _check_depth(kind: OpKind, name: str, weights: Tensor, source: Tensor) -> None:
    if kind is OpKind.DEPTHWISE_CONV_2D:
        fits = weights.shape[0] == 1 and weights.shape[3] % source.shape[3] == 0
        depth = source.shape[3]
    else:
        depth = source.size if kind is OpKind.FULLY_CONNECTED else source.shape[-1]
        fits = weights.shape[-1] == depth
    if not fits:
        raise UnsupportedLayerError(
            f"The weights of op {name!r} do not cover its input. Grouped convolutions and batches are not "
            f"supported. Expected depth {depth}. Received: shape {weights.shape}."
        )


def _quantization(name: str, raw: Any) -> TensorQuantization | None:
    if raw is None or raw.scale is None or len(raw.scale) == 0:
        return None
    scales = np.array(raw.scale, np.float32)
    points = np.zeros(scales.size, np.int64) if raw.zeroPoint is None else np.array(raw.zeroPoint, np.int64)
    if not (np.isfinite(scales).all() and (scales > 0).all()) or points.size != scales.size:
        raise ModelFileError(f"Tensor {name!r} has damaged scales. Expected positive numbers and as many zero points.")
    if points.min() < ACTIVATION_MIN or points.max() > ACTIVATION_MAX:
        raise ModelFileError(f"Tensor {name!r} has a zero point out of int8. Received: {points.tolist()}.")
    return TensorQuantization(scales, points, int(raw.quantizedDimension))
