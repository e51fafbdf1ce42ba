"""The integers, scales and biases that ship: batch normalisation folded, in TFLite's layout."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError
from rct_tflite.spec.network import TrainedWeights
from rct_tflite.spec.quantization import EXPORT_BITS, low_bits, narrowed, round_scale
from rct_tflite.training.integer_weight import IntegerWeight

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SMALLEST_SHARE = 2.0**-16
"""A channel's scale is at least this share of the layer's largest: a bias divided by it still fits an int32."""
_ONE = 64
"""The integer of a batch normalisation that is an op of its own."""


def trained_weights(
    weight: IntegerWeight, integers: Integers, bias: Floats | None, batch_norm: Any, channels_first: bool
) -> TrainedWeights:
    """Folds batch normalisation into a weight.

    Args:
        weight: Bit-width, scales and whether it learns.
        integers: Its integers, brought to an order in which the output channels come last.
        bias: Of the layer, None for zeros.
        batch_norm: None where there is none.
        channels_first: Whether TFLite has the output channels first, else last behind an axis of 1.

    Raises:
        QuantizationError: If a bias is not finite.
    """
    bits = int(weight.bits.numpy())
    scales = weight.scale.numpy().astype(np.float64).reshape(-1)
    bias = np.zeros(integers.shape[-1]) if bias is None else bias
    if batch_norm is not None:
        integers, scales, bias = _fold(integers, scales, bias, batch_norm)
    if not np.isfinite(bias).all():
        raise QuantizationError(
            f"A bias of layer {weight.label!r} is not a finite number. Received: {bias}. Lower the learning rate."
        )
    # The scale is that of the int8 integers; a power of two lies between it and that of wider ones.
    rounded = np.array([round_scale(float(scale)) * 2.0 ** low_bits(bits) for scale in scales])
    ordered = np.moveaxis(integers, -1, 0) if channels_first else integers[None]
    wide = ordered.astype(np.int16) if bits > EXPORT_BITS else None
    return TrainedWeights(narrowed(ordered, bits).astype(np.int8), rounded, bias, bits, bool(weight.trainable), wide)


def batch_norm_weights(batch_norm: Any, channels: int) -> TrainedWeights:
    """Returns a batch normalisation as the weights of a DEPTHWISE_CONV_2D of 1 by 1 that does not learn."""
    integers = np.full((1, 1, channels), _ONE, np.int64)
    integers, scales, bias = _fold(integers, np.array([1.0 / _ONE]), np.zeros(channels), batch_norm)
    if not np.isfinite(bias).all():
        raise QuantizationError(
            f"An offset of layer {batch_norm.name!r} is not a finite number. Received: {bias}. Lower the learning rate."
        )
    rounded = np.array([round_scale(float(scale)) for scale in scales])
    return TrainedWeights(integers[None].astype(np.int8), rounded, bias, EXPORT_BITS, trainable=False)


def _fold(integers: Integers, scales: Floats, bias: Floats, batch_norm: Any) -> tuple[Integers, Floats, Floats]:
    """Returns integers, scales and bias of the layer with its batch normalisation in them."""
    mean = batch_norm.moving_mean.numpy().astype(np.float64)
    variance = batch_norm.moving_variance.numpy().astype(np.float64)
    gamma = batch_norm.gamma.numpy().astype(np.float64) if batch_norm.scale else np.ones_like(mean)
    beta = batch_norm.beta.numpy().astype(np.float64) if batch_norm.center else np.zeros_like(mean)
    gain = gamma / np.sqrt(variance + batch_norm.epsilon)
    exact = scales * np.abs(gain)
    folded = np.maximum(exact, _SMALLEST_SHARE * (exact.max() or scales.max()))
    # folded == exact but for switched-off channels, whose integers are read with a larger scale than their own.
    integers = np.rint(integers * (np.sign(gain) * exact / folded)).astype(np.int64)
    return integers, folded, beta + (bias - mean) * gain
