"""The one door to TFLiteConverter: a trained network becomes a fake-quant graph, and that a `.tflite`."""

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
    Pool2DOptions,
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
    """Converts a trained network with TFLiteConverter.

    Integers come out exactly; scales only to float32 precision and, in dense layers, always one a layer.
    `tflite.writer.write_exact()` puts the exact ones in.

    Args:
        network: The network, its weights at most 8 bits wide.

    Returns:
        A fully integer `.tflite`, int8 in and out, batch 1.

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
    shape = tf.TensorSpec((1, *module.network.input_shape), tf.float32)
    function = tf.function(module.forward).get_concrete_function(shape)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    # A per-channel fake-quant on a dense layer is refused (the transpose of its weights "has mismatched quantized
    # axes"), so dense layers are converted with one scale: the integers do not depend on it.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


class _Forward(tf.Module):
    """The network in float32, each weight and activation on its grid."""

    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        x = _fake_quant(x, self.network.input)
        for layer in self.network.layers:
            x = _apply(layer, x)
        return x


def _apply(layer: TrainedLayer, x: tf.Tensor) -> tf.Tensor:
    options = layer.options
    if layer.kind is OpKind.RESHAPE:
        return tf.reshape(x, (1, *layer.output_shape))
    if isinstance(options, Pool2DOptions):
        pool = tf.nn.max_pool2d if layer.kind is OpKind.MAX_POOL_2D else tf.nn.avg_pool2d
        window, strides = (options.filter_h, options.filter_w), (options.stride_h, options.stride_w)
        return _activate(pool(x, window, strides, options.padding.name), options.activation)
    assert layer.weights is not None
    if isinstance(options, Conv2DOptions):
        kernel = _fake_quant_weights(layer.weights, layer.weights.integers.transpose(1, 2, 3, 0))
        acc = tf.nn.conv2d(x, kernel, (options.stride_h, options.stride_w), options.padding.name)
    else:
        assert isinstance(options, FullyConnectedOptions)
        acc = tf.matmul(x, _fake_quant_weights(layer.weights, layer.weights.integers.T))
    acc = acc + tf.constant(layer.weights.bias, tf.float32)
    return _fake_quant(_activate(acc, options.activation), layer.output)


def _activate(x: tf.Tensor, activation: Activation) -> tf.Tensor:
    functions = {Activation.NONE: tf.identity, Activation.RELU: tf.nn.relu, Activation.RELU6: tf.nn.relu6}
    return functions[activation](x)


def _fake_quant(x: tf.Tensor, quantization: AffineQuantization) -> tf.Tensor:
    return tf.quantization.fake_quant_with_min_max_args(x, quantization.minimum, quantization.maximum)


def _fake_quant_weights(weights: TrainedWeights, integers: npt.NDArray[np.int8]) -> tf.Tensor:
    """Returns the weights on their grid, channels last.

    They are float constants: `cast(int8) * scale` is not folded by the converter above a few thousand weights.
    """
    if weights.scales.size > 1 and integers.ndim == 4:
        limits = (_TOP * weights.scales).astype(np.float32)
        values = tf.constant(integers * weights.scales, tf.float32)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            values, -limits, limits, num_bits=EXPORT_BITS, narrow_range=True
        )
    scale = float(weights.scales[0])
    return tf.quantization.fake_quant_with_min_max_args(
        tf.constant(integers * scale, tf.float32), -_TOP * scale, _TOP * scale, EXPORT_BITS, narrow_range=True
    )
