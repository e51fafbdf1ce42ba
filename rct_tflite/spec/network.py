"""A trained Keras network with its batch normalisation folded: what the exporter writes into a `.tflite`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.spec.graph import OpKind, OpOptions
from rct_tflite.spec.quantization import AffineQuantization

INPUT = -1
"""The place of a network's input, before its first layer."""


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """The integers of one layer and how they are read.

    Attributes:
        integers: int8, each within `top(bits)`, or within `top(8)` where `bits` is larger: (units, depth) for
            FULLY_CONNECTED, (1, kernel_h, kernel_w, channels) for DEPTHWISE_CONV_2D, (channels, kernel_h, kernel_w,
            input_channels) for CONV_2D and TRANSPOSE_CONV, (rows, depth) for GATHER.
        scales: Of `integers`: float64, (1,) or (output channels,), rounded to 12 significant bits.
        bias: float64, (output channels,), real values; (0,) for GATHER.
        bits: Bit-width, 2 to 16.
        trainable: Whether the layer may learn on the device.
        wide: int16, same shape, the integers at their full width where that is more than 8 bits, else None:
            `integers` are these, `quantization.narrowed()`.
    """

    integers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    bits: int
    trainable: bool = True
    wide: npt.NDArray[np.int16] | None = None


@dataclass(frozen=True, eq=False)
class TrainedLayer:
    """One op of the exported network, batch-norm and activation already folded in.

    Attributes:
        name: Unique in the network.
        kind: Of the op.
        options: Of the op.
        output_shape: Without batch axis.
        output: The quantisation of the result; what only moves values carries its input's.
        weights: None for an op without.
        sources: Places in the network of the layers that it reads, `INPUT` for the network's input; None for the
            layer before it.
    """

    name: str
    kind: OpKind
    options: OpOptions
    output_shape: tuple[int, ...]
    output: AffineQuantization
    weights: TrainedWeights | None = None
    sources: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, its layers in the order of execution; the last one gives the output.

    `input_shape` has no batch axis. The model scales what it is given itself: `raw * input_scale + input_offset` is
    what `input` quantises. A network that `takes_ids` reads them with GATHER alone; an id is its own number.
    """

    name: str
    input_shape: tuple[int, ...]
    input: AffineQuantization
    layers: tuple[TrainedLayer, ...]
    rounding: str
    input_scale: float = 1.0
    input_offset: float = 0.0
    takes_ids: bool = False

    def sources(self, place: int) -> tuple[int, ...]:
        """Returns the places of the layers that the one at `place` reads, `INPUT` for the network's input."""
        sources = self.layers[place].sources
        return (place - 1,) if sources is None else sources

    def quantization(self, place: int) -> AffineQuantization:
        """Returns the quantisation of a layer's result, or of the network's input."""
        return self.input if place == INPUT else self.layers[place].output

    def shape(self, place: int) -> tuple[int, ...]:
        """Returns the shape of a layer's result, or of the network's input, without batch axis."""
        return self.input_shape if place == INPUT else self.layers[place].output_shape
