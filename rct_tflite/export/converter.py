"""The one door to TFLiteConverter: layers with weights become a fake-quant graph, and that a `.tflite`."""

import os

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError
from rct_tflite.native_output import swallowed
from rct_tflite.spec.graph import (
    Activation,
    Conv2DOptions,
    FullyConnectedOptions,
    OpKind,
)
from rct_tflite.spec.network import TrainedLayer, TrainedNetwork, TrainedWeights
from rct_tflite.spec.quantization import EXPORT_BITS, AffineQuantization, top

_TOP = top(EXPORT_BITS)
"""Every width is written as int8: narrower integers are int8 integers of a small range."""


with swallowed():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf


def convert(network: TrainedNetwork) -> bytes:
    """Converts the layers with weights with TFLiteConverter, side by side: each reads an input of its own.

    As a whole, the converter would change a network with branches: it drops a change of the quantisation between two
    ops, merges equal layers and reorders. Integers come out exactly; scales only to float32 precision and, but for
    CONV_2D, always one a layer. `tflite.writer.write_exact()` puts the exact ones in, and the layers between.

    Args:
        network: The network, its weights at most 8 bits wide.

    Returns:
        An int8 `.tflite` of ops with weights, in the network's order.

    Raises:
        ModelFileError: If the converter refuses the network; the message holds its own words.
    """
    try:
        with swallowed():
            return _run_converter(_Forward(network))
    except Exception as error:
        raise ModelFileError(
            f"TFLiteConverter refused the network {network.name!r}. Expected a .tflite. "
            f"Received: {type(error).__name__}: {error}. Use the TensorFlow version that pyproject.toml pins."
        ) from error


def _run_converter(module: "_Forward") -> bytes:
    # The converter lists inputs in any order; their names, in the signature, say which is which.
    specs = [tf.TensorSpec(spec.shape, spec.dtype, f"input_{i:06}") for i, spec in enumerate(module.inputs)]
    function = tf.function(module.forward).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    # A per-channel fake-quant on a dense layer is refused (the transpose of its weights "has mismatched quantized
    # axes"), so dense layers are converted with one scale: the integers do not depend on it.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


class _Forward(tf.Module):
    """The layers with weights in float32, each weight and activation on its grid."""

    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__()
        self.places = [place for place, layer in enumerate(network.layers) if layer.weights is not None]
        self.layers = [network.layers[place] for place in self.places]
        sources = [network.sources(place)[0] for place in self.places]
        self.inputs = [
            tf.TensorSpec((1, *network.shape(source)), tf.int32 if layer.kind is OpKind.GATHER else tf.float32)
            for source, layer in zip(sources, self.layers, strict=True)
        ]
        self.grids = [network.quantization(source) for source in sources]

    def forward(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        return [
            _look_up(layer, x) if layer.kind is OpKind.GATHER else _apply(layer, _fake_quant(x, grid))
            for layer, x, grid in zip(self.layers, inputs, self.grids, strict=True)
        ]


def _look_up(layer: TrainedLayer, ids: tf.Tensor) -> tf.Tensor:
    """Returns the rows of a table, on the grid of the table."""
    weights = layer.weights
    assert weights is not None
    limit = _TOP * float(weights.scales[0])
    rows = tf.gather(_fake_quant_weights(weights, weights.integers), ids)
    return tf.quantization.fake_quant_with_min_max_args(rows, -limit, limit, EXPORT_BITS, narrow_range=True)


def _apply(layer: TrainedLayer, x: tf.Tensor) -> tf.Tensor:
    options, weights = layer.options, layer.weights
    assert weights is not None
    if isinstance(options, FullyConnectedOptions):
        acc = tf.matmul(x, _fake_quant_weights(weights, weights.integers.T))
    else:
        assert isinstance(options, Conv2DOptions)
        acc = _convolve(layer, options, weights, x)
    # The trained bias is written later. Without any, some activations would not be fused, and the op stay float.
    acc = acc + tf.ones(weights.bias.size)
    return _fake_quant(_activate(acc, options.activation), layer.output)


def _convolve(layer: TrainedLayer, options: Conv2DOptions, weights: TrainedWeights, x: tf.Tensor) -> tf.Tensor:
    strides, padding = (1, options.stride_h, options.stride_w, 1), options.padding.name
    if layer.kind is OpKind.CONV_2D:
        kernel = _fake_quant_weights(weights, weights.integers.transpose(1, 2, 3, 0), per_channel=True)
        return tf.nn.conv2d(x, kernel, strides, padding)
    kernel = _fake_quant_weights(weights, weights.integers)
    if layer.kind is OpKind.TRANSPOSE_CONV:
        kernel = tf.transpose(kernel, (1, 2, 0, 3))
        return tf.nn.conv2d_transpose(x, kernel, (1, *layer.output_shape), strides, padding)
    kernel = tf.reshape(kernel, (*weights.integers.shape[1:3], x.shape[3], -1))
    return tf.nn.depthwise_conv2d(x, kernel, strides, padding)


def _activate(x: tf.Tensor, activation: Activation) -> tf.Tensor:
    functions = {Activation.NONE: tf.identity, Activation.RELU: tf.nn.relu, Activation.RELU6: tf.nn.relu6}
    return functions[activation](x)


def _fake_quant(x: tf.Tensor, quantization: AffineQuantization) -> tf.Tensor:
    return tf.quantization.fake_quant_with_min_max_args(x, quantization.minimum, quantization.maximum)


def _fake_quant_weights(
    weights: TrainedWeights, integers: npt.NDArray[np.int8], per_channel: bool = False
) -> tf.Tensor:
    """Returns the weights on a grid; the integers do not depend on its step.

    They are float constants: `cast(int8) * scale` is not folded by the converter above a few thousand weights.
    """
    if weights.scales.size > 1 and per_channel:
        limits = (_TOP * weights.scales).astype(np.float32)
        values = tf.constant(integers * weights.scales, tf.float32)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            values, -limits, limits, num_bits=EXPORT_BITS, narrow_range=True
        )
    scale = float(weights.scales[0])
    return tf.quantization.fake_quant_with_min_max_args(
        tf.constant(integers * scale, tf.float32), -_TOP * scale, _TOP * scale, EXPORT_BITS, narrow_range=True
    )
