"""From a trained Keras model to the integers, scales and biases that ship."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    OpKind,
    OpOptions,
    Padding,
    Pool2DOptions,
    ReshapeOptions,
)
from rct_tflite.spec.network import TrainedLayer, TrainedNetwork, TrainedWeights
from rct_tflite.spec.quantization import EXPORT_BITS, AffineQuantization, affine_from_range, round_scale
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.chain import (
    PLAIN_CHECKS,
    POOLING,
    Check,
    Stage,
    check_activation,
    check_format,
    check_layers,
    links_of,
    stages_of,
)
from rct_tflite.training.layers import Conv2D, Dense
from rct_tflite.training.model import RCTModel
from rct_tflite.training.quantized_layer import Quantized

_SMALLEST_SHARE = 2.0**-16
"""A channel's scale is at least this share of the layer's largest: a bias divided by it still fits an int32."""


def freeze(model: RCTModel) -> TrainedNetwork:
    """Folds batch normalisation into scales and biases and returns the network that is exported.

    The integers are those that were trained; a channel whose gamma is negative has its signs flipped. Only the
    integers of a channel that batch normalisation all but switches off (gamma near 0) are rounded anew.

    Args:
        model: A trained model.

    Raises:
        UnsupportedLayerError: If the model is not an `RCTModel`, or not a chain of supported layers.
        QuantizationError: If a layer has more than 8 bits, a range was never observed, or a number is not finite.
    """
    if not isinstance(model, RCTModel):
        raise UnsupportedLayerError(
            f"Only a quantised model can be exported. Received: {type(model).__name__}. "
            "Make one with rct.quantize(model) and train it."
        )
    links = links_of(model)
    check_layers(model, links, _CHECKS)
    stages = stages_of(model, links)
    if not isinstance(links[0].layer, ActivationRange):
        raise UnsupportedLayerError(
            f"The input of model {model.name!r} has no quantisation. Expected an rct.layers.ActivationRange "
            f"directly after the input. Received: {type(links[0].layer).__name__} {links[0].layer.name!r}."
        )
    roundings = sorted({str(weight.recipe.rounding) for weight in model.integer_weights})
    if len(roundings) != 1:
        raise QuantizationError(f"All layers must round alike. Expected one rounding. Received: {roundings}.")
    network_input = current = _quantization(links[0].layer)
    layers = []
    for stage in stages:
        if isinstance(stage.link.layer, keras.layers.Dropout):
            continue
        if isinstance(stage.link.layer, Quantized):
            current = _output_quantization(stage)
        layers.append(_layer(stage, current))
    return TrainedNetwork(model.name, model.input_shape[1:], network_input, tuple(layers), roundings[0])


_CHECKS: dict[type, Check] = {
    **PLAIN_CHECKS,
    ActivationRange: lambda _: None,
    Conv2D: lambda layer: _check_conv(layer),
    Dense: check_activation,
}


def _check_conv(layer: Any) -> str | None:
    if tuple(layer.dilation_rate) != (1, 1) or layer.groups != 1:
        return f"dilation_rate and groups must be 1, but they are {tuple(layer.dilation_rate)} and {layer.groups}"
    return check_format(layer) or check_activation(layer)


def _quantization(layer: ActivationRange) -> AffineQuantization:
    try:
        return affine_from_range(float(layer.minimum.numpy()), float(layer.maximum.numpy()))
    except QuantizationError as error:
        raise QuantizationError(f"Layer {layer.name!r}: {error}") from error


def _output_quantization(stage: Stage) -> AffineQuantization:
    if stage.range is None:
        layer = stage.link.layer
        raise UnsupportedLayerError(
            f"The output of layer {layer.name!r} ({type(layer).__name__}) has no quantisation. Expected an "
            "rct.layers.ActivationRange after it and its batch normalisation and ReLU. Received: none."
        )
    return _quantization(stage.range)


def _layer(stage: Stage, output: AffineQuantization) -> TrainedLayer:
    layer = stage.link.layer
    kind, options = _op(stage)
    shape = tuple(int(size) for size in stage.link.output_shape if size is not None)
    weights = _weights(layer, stage.batch_norm) if isinstance(layer, Quantized) else None
    return TrainedLayer(layer.name, kind, options, shape, output, weights)


def _op(stage: Stage) -> tuple[OpKind, OpOptions]:
    layer = stage.link.layer
    if isinstance(layer, Dense):
        return OpKind.FULLY_CONNECTED, FullyConnectedOptions(stage.activation)
    if isinstance(layer, Conv2D):
        return OpKind.CONV_2D, Conv2DOptions(_padding(layer), *_pair(layer.strides), activation=stage.activation)
    if isinstance(layer, POOLING):
        kind = OpKind.MAX_POOL_2D if isinstance(layer, keras.layers.MaxPooling2D) else OpKind.AVERAGE_POOL_2D
        return kind, Pool2DOptions(
            _padding(layer), *_pair(layer.strides), *_pair(layer.pool_size), activation=Activation.NONE
        )
    return OpKind.RESHAPE, ReshapeOptions()


def _pair(value: Any) -> tuple[int, int]:
    return int(value[0]), int(value[1])


def _padding(layer: Any) -> Padding:
    return Padding.SAME if layer.padding == "same" else Padding.VALID


def _weights(layer: Any, batch_norm: Any) -> TrainedWeights:
    (weight,) = layer.integer_weights
    bits = int(weight.bits.numpy())
    if bits > EXPORT_BITS:
        raise QuantizationError(
            f"Layer {layer.name!r} is too wide for a .tflite of int8 weights. Expected at most {EXPORT_BITS} bits. "
            f"Received: {bits} bits. Train with Recipe(max_bits={EXPORT_BITS})."
        )
    integers = weight.integers.numpy().astype(np.int64)
    scales = np.atleast_1d(weight.scale.numpy().astype(np.float64))
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(integers.shape[-1])
    if batch_norm is not None:
        integers, scales, bias = _fold(integers, scales, bias, batch_norm)
    if not np.isfinite(bias).all():
        raise QuantizationError(
            f"A bias of layer {layer.name!r} is not a finite number. Received: {bias}. Lower the learning rate."
        )
    rounded = np.array([round_scale(float(scale)) for scale in scales])
    # Keras has the output channels last, TFLite first.
    return TrainedWeights(np.moveaxis(integers, -1, 0).astype(np.int8), rounded, bias, bits, bool(weight.trainable))


def _fold(
    integers: npt.NDArray[np.int64], scales: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], batch_norm: Any
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
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
