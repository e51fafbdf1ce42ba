"""What a `.tflite` file says, as frozen values: everything after the file works on this."""

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


class OpKind(enum.Enum):
    """The ops we run; names and values are those of TFLite's `BuiltinOperator`."""

    AVERAGE_POOL_2D = 1
    CONV_2D = 3
    FULLY_CONNECTED = 9
    MAX_POOL_2D = 17
    RESHAPE = 22


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
    """Attributes of CONV_2D (dilation 1)."""

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


OpOptions = Conv2DOptions | FullyConnectedOptions | Pool2DOptions | ReshapeOptions


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
        return int(np.prod(self.shape, dtype=np.int64))

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
    """One node. CONV_2D and FULLY_CONNECTED read (input, weights, bias); the others read (input).

    Weights are (units, depth) or (channels, kernel_h, kernel_w, input_channels); the bias is int32.
    """

    kind: OpKind
    name: str
    inputs: tuple[int, ...]
    output: int
    options: OpOptions

    @property
    def has_weights(self) -> bool:
        """Whether the op can learn."""
        return self.kind in (OpKind.CONV_2D, OpKind.FULLY_CONNECTED)


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


@dataclass(frozen=True, eq=False)
class Graph:
    """A sequential int8 network: one input, one output, ops in the order of execution, batch 1."""

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    input: int
    output: int
    training: TrainingMetadata = field(default_factory=TrainingMetadata)

    def bits_of(self, op: Op) -> int:
        """Returns the bit-width of an op's weights: 8 where the file does not say."""
        return next((layer.bits for layer in self.training.layers if layer.name == op.name), 8)
