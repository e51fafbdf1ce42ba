"""A trained Keras network with its batch normalisation folded: what the exporter writes into a `.tflite`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.spec.graph import OpKind, OpOptions
from rct_tflite.spec.quantization import AffineQuantization


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """The integers of one layer and how they are read.

    Attributes:
        integers: int8, (units, depth) for FULLY_CONNECTED, (channels, kernel_h, kernel_w, input_channels)
            for CONV_2D, each within `top(bits)`.
        scales: float64, (1,) or (output channels,), rounded to 12 significant bits.
        bias: float64, (output channels,), real values.
        bits: Bit-width, 2 to 8.
        trainable: Whether the layer may learn on the device.
    """

    integers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    bits: int
    trainable: bool = True


@dataclass(frozen=True, eq=False)
class TrainedLayer:
    """One op of the exported network, batch-norm and activation already folded in.

    `output` is the quantisation of the result; pooling and reshape carry their input's.
    `output_shape` has no batch axis.
    """

    name: str
    kind: OpKind
    options: OpOptions
    output_shape: tuple[int, ...]
    output: AffineQuantization
    weights: TrainedWeights | None = None


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A sequential network, first layer first. `input_shape` has no batch axis."""

    name: str
    input_shape: tuple[int, ...]
    input: AffineQuantization
    layers: tuple[TrainedLayer, ...]
    rounding: str
