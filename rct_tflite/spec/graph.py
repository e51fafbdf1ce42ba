"""What a `.tflite` file says, as frozen values: everything after the file works on this."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN

Inputs = npt.NDArray[np.int8] | npt.NDArray[np.int32]
"""Samples of a network: int8 activations, or ids."""

ID_BYTES = 2
"""Of an id in the runtime and on the wire: no table has more rows than 16 bits count."""


class OpKind(enum.Enum):
    """The ops we run; names and values are those of TFLite's `BuiltinOperator`."""

    ADD = 0
    AVERAGE_POOL_2D = 1
    CONCATENATION = 2
    CONV_2D = 3
    DEPTHWISE_CONV_2D = 4
    FULLY_CONNECTED = 9
    LOGISTIC = 14
    MAX_POOL_2D = 17
    MUL = 18
    RELU = 19
    RELU6 = 21
    RESHAPE = 22
    SOFTMAX = 25
    TANH = 28
    PAD = 34
    GATHER = 36
    MEAN = 40
    SUB = 41
    TRANSPOSE_CONV = 67
    LEAKY_RELU = 98
    QUANTIZE = 114
    HARD_SWISH = 117


WEIGHTED_KINDS = (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED, OpKind.TRANSPOSE_CONV)
"""Ops that multiply with weights and add a bias."""

LEARNING_KINDS = (*WEIGHTED_KINDS, OpKind.GATHER)
"""Ops with weights, which can learn: those, and GATHER with its table."""

PAIR_KINDS = (OpKind.ADD, OpKind.SUB, OpKind.MUL)
"""Ops that join two tensors, element by element."""

TABLE_KINDS = (
    OpKind.HARD_SWISH,
    OpKind.LEAKY_RELU,
    OpKind.LOGISTIC,
    OpKind.QUANTIZE,
    OpKind.RELU,
    OpKind.RELU6,
    OpKind.TANH,
)
"""Ops whose output depends on one int8 value: a table of 256 entries says it all."""


class Activation(enum.Enum):
    """Fused activation; names and values are those of TFLite's `ActivationFunctionType`."""

    NONE = 0
    RELU = 1
    RELU6 = 3


class Padding(enum.Enum):
    """Names and values are those of TFLite's `Padding`."""

    SAME = 0
    VALID = 1


@dataclass(frozen=True)
class Conv2DOptions:
    """Attributes of CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV (dilation 1)."""

    padding: Padding
    stride_h: int
    stride_w: int
    activation: Activation


@dataclass(frozen=True)
class FullyConnectedOptions:
    """Attributes of FULLY_CONNECTED."""

    activation: Activation


@dataclass(frozen=True)
class Pool2DOptions:
    """Attributes of MAX_POOL_2D and AVERAGE_POOL_2D."""

    padding: Padding
    stride_h: int
    stride_w: int
    filter_h: int
    filter_w: int
    activation: Activation


@dataclass(frozen=True)
class ReshapeOptions:
    """RESHAPE has none: the output tensor's shape says it all."""


@dataclass(frozen=True)
class PairOptions:
    """Attributes of ADD, SUB and MUL."""

    activation: Activation


@dataclass(frozen=True)
class ConcatenationOptions:
    """Attributes of CONCATENATION; `axis` counts from 0 and is never the batch."""

    axis: int


@dataclass(frozen=True)
class PadOptions:
    """Attributes of PAD: cells (before, after) each axis, the batch included."""

    cells: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GatherOptions:
    """GATHER picks whole rows of a table: along axis 0, no batch dimensions."""


@dataclass(frozen=True)
class MeanOptions:
    """MEAN over height and width; the output tensor's shape says whether they stay as 1."""


@dataclass(frozen=True)
class SoftmaxOptions:
    """Attributes of SOFTMAX, which runs along the last axis."""

    beta: float


@dataclass(frozen=True)
class TableOptions:
    """Attributes of the ops in `TABLE_KINDS`; `alpha` is the slope of LEAKY_RELU below 0."""

    alpha: float = 0.0


OpOptions = (
    Conv2DOptions
    | FullyConnectedOptions
    | Pool2DOptions
    | ReshapeOptions
    | PairOptions
    | ConcatenationOptions
    | PadOptions
    | GatherOptions
    | MeanOptions
    | SoftmaxOptions
    | TableOptions
)


@dataclass(frozen=True, eq=False)
class TensorQuantization:
    """`real = scales[c] * (integer - zero_points[c])`; one entry, or one per slice along `axis`."""

    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor; `data` is None where the value is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    quantization: TensorQuantization | None
    data: npt.NDArray[np.generic] | None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def scale(self) -> float:
        """The scale of a tensor with one."""
        assert self.quantization is not None
        assert self.quantization.scales.size == 1
        return float(self.quantization.scales[0])

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor with one."""
        assert self.quantization is not None
        return int(self.quantization.zero_points[0])


@dataclass(frozen=True)
class Op:
    """One node.

    Ops with weights read (input, weights, bias), GATHER (ids, table), ADD, SUB and MUL two tensors, of which one may
    be a constant, CONCATENATION any number, the others (input). Weights are (units, depth), (channels, kernel_h,
    kernel_w, input_channels), or (1, kernel_h, kernel_w, channels) in DEPTHWISE_CONV_2D; the bias is int32. A table is
    (rows, depth): what holds for an output channel of other weights holds for a row of it.
    """

    kind: OpKind
    name: str
    inputs: tuple[int, ...]
    output: int
    options: OpOptions

    @property
    def has_weights(self) -> bool:
        """Whether the op can learn."""
        return self.kind in LEARNING_KINDS

    @property
    def has_bias(self) -> bool:
        """Whether the op has a bias beside its weights."""
        return self.kind in WEIGHTED_KINDS


@dataclass(frozen=True)
class LayerTraining:
    """What training must know of one op with weights; `name` is the op's and the Keras layer's name."""

    name: str
    bits: int
    trainable: bool = True


@dataclass(frozen=True)
class TrainingMetadata:
    """What travels in the `.tflite` beside TFLite's own fields.

    `input_scale` and `input_offset` turn the user's raw numbers into what the network was trained on:
    `real = raw * input_scale + input_offset`.
    """

    layers: tuple[LayerTraining, ...] = ()
    learning_rate: float = 0.01
    rounding: str = "stochastic"
    labels: tuple[str, ...] = ()
    input_scale: float = 1.0
    input_offset: float = 0.0
    loss: str = "softmax_cross_entropy"


@dataclass(frozen=True, eq=False)
class Graph:
    """An int8 network: one input, one output, ops in the order of execution, batch 1.

    A tensor may be read by several ops. The input is int8 or, where GATHER reads it, int32 ids. `wide` has, by the name
    of the op, weights of more than 8 bits: int16 in the shape of the tensor, which holds the same rounded to int8
    (`quantization.narrowed()`).
    """

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    input: int
    output: int
    training: TrainingMetadata = field(default_factory=TrainingMetadata)
    wide: Mapping[str, npt.NDArray[np.int16]] = field(default_factory=dict)

    def bits_of(self, op: Op) -> int:
        """Returns the bit-width of an op's weights: 8 where the file does not say."""
        return next((layer.bits for layer in self.training.layers if layer.name == op.name), 8)

    @property
    def takes_ids(self) -> bool:
        """Whether the input holds numbers of a table's rows."""
        return self.tensors[self.input].dtype == np.dtype(np.int32)

    @property
    def id_limit(self) -> int:
        """Number of ids of an input that `takes_ids`, from 0 on: the rows of the smallest table that it reads."""
        return min(self.row_shape(op)[0] for op in self.ops if op.kind is OpKind.GATHER)

    @property
    def input_bytes(self) -> int:
        """Bytes of a sample in the runtime, where an id has two."""
        return self.tensors[self.input].size * (ID_BYTES if self.takes_ids else 1)

    def random_inputs(self, count: int, random: np.random.Generator) -> Inputs:
        """Returns samples of noise, (count, *input shape without batch), in the type of the input."""
        shape = (count, *self.tensors[self.input].shape[1:])
        if self.takes_ids:
            return random.integers(0, self.id_limit, shape, np.int32)
        return random.integers(ACTIVATION_MIN, ACTIVATION_MAX + 1, shape, np.int8)

    def check_ids(self, inputs: npt.NDArray[Any]) -> None:
        """Refuses ids that are no rows of a table; an input of another kind passes.

        Raises:
            DataError: With the first sample that holds such an id.
        """
        if not self.takes_ids or inputs.size == 0:
            return
        wrong = (inputs < 0) | (inputs >= self.id_limit)
        if wrong.any():
            sample = int(np.argmax(wrong.reshape(len(inputs), -1).any(axis=1)))
            raise DataError(
                f"An id is out of range. Expected 0 to {self.id_limit - 1}, the rows of the table. Received: "
                f"{inputs[wrong][0]} in sample {sample}. Map what the vocabulary does not hold to one of its ids."
            )

    def sources(self, op: Op) -> tuple[int, ...]:
        """Returns the computed tensors that an op reads; its other inputs are constants."""
        return tuple(index for index in op.inputs if self.tensors[index].data is None)

    def row_shape(self, op: Op) -> tuple[int, int]:
        """Returns (output channels, weights of one) of an op with weights; (rows, depth) of a table."""
        shape = self.tensors[op.inputs[1]].shape
        channels = shape[-1] if op.kind is OpKind.DEPTHWISE_CONV_2D else shape[0]
        return channels, self.tensors[op.inputs[1]].size // channels

    def weight_rows(self, op: Op) -> npt.NDArray[np.int64]:
        """Returns the weights of an op as the kernels see them, of 8 bits at most: int64 (channels, depth)."""
        data = self.tensors[op.inputs[1]].data
        assert data is not None
        return self._rows(op, data)

    def full_rows(self, op: Op) -> npt.NDArray[np.int64]:
        """Returns the weights of an op at their full bit-width: int64 (channels, depth)."""
        return self._rows(op, self.wide[op.name]) if op.name in self.wide else self.weight_rows(op)

    def _rows(self, op: Op, data: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        channels, depth = self.row_shape(op)
        if op.kind is OpKind.DEPTHWISE_CONV_2D:
            return data.reshape(depth, channels).T.astype(np.int64)
        return data.reshape(channels, depth).astype(np.int64)

    def weights_of_rows(self, op: Op, rows: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.int16]:
        """Returns rows (channels, depth) as int16 in the file's shape."""
        ordered = rows.T if op.kind is OpKind.DEPTHWISE_CONV_2D else rows
        return ordered.reshape(self.tensors[op.inputs[1]].shape).astype(np.int16)
