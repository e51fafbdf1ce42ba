"""The layers of `rct.layers`: Keras layers whose weights are integers.

Each takes the arguments of the Keras layer of its name, and `recipe`. A Keras layer's `kernel` (`embeddings`,
`recurrent_kernel`, ...) reads as float32; the integers are in `layer.integer_weights`. They train in an
`rct.RCTModel(inputs, outputs)`; another Keras model computes with them, but refuses to train.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.batch_norm import BatchNormalization
from rct_tflite.training.quantized_layer import IntegerTensor, Quantized
from rct_tflite.training.recurrent import GRU, LSTM
from rct_tflite.training.separable import SeparableConv1D, SeparableConv2D

__all__ = [
    "GRU",
    "LSTM",
    "ActivationRange",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Embedding",
    "SeparableConv1D",
    "SeparableConv2D",
    "TimeDistributed",
]


@keras.saving.register_keras_serializable("rct_tflite")
class Dense(Quantized, keras.layers.Dense):
    """`keras.layers.Dense` with an integer kernel of shape (depth, units).

    Example:
        >>> layer = Dense(3)
        >>> layer(keras.ops.ones((1, 4))).shape, layer.integer_weights[0].integers.dtype
        (TensorShape([1, 3]), 'int8')
    """

    _kernel = IntegerTensor("kernel", -1)


@keras.saving.register_keras_serializable("rct_tflite")
class Conv1D(Quantized, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with an integer kernel of shape (width, input channels / groups, filters)."""

    _kernel = IntegerTensor("kernel", -1)


@keras.saving.register_keras_serializable("rct_tflite")
class Conv2D(Quantized, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with an integer kernel of shape (height, width, input channels / groups, filters)."""

    _kernel = IntegerTensor("kernel", -1)


@keras.saving.register_keras_serializable("rct_tflite")
class Conv2DTranspose(Quantized, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with an integer kernel of shape (height, width, filters, input channels)."""

    kernel = IntegerTensor("kernel", -2)


@keras.saving.register_keras_serializable("rct_tflite")
class DepthwiseConv2D(Quantized, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with an integer kernel of shape (height, width, channels, multiplier).

    Its output channels are the last two axes.
    """

    kernel = IntegerTensor("kernel", -2, -1)


@keras.saving.register_keras_serializable("rct_tflite")
class Embedding(Quantized, keras.layers.Embedding):
    """`keras.layers.Embedding` with an integer table of shape (input_dim, output_dim).

    Per channel means per row. Gavg and underflow are taken over the rows that a batch reads.
    """

    reads_rows = True
    _embeddings = IntegerTensor("embeddings", -2)

    def __init__(self, input_dim: int, output_dim: int, *args: Any, weights: Any = None, **kwargs: Any):
        super().__init__(input_dim, output_dim, *args, **kwargs)
        if weights is not None:
            table = weights[0] if isinstance(weights, list) and len(weights) == 1 else weights
            self.build()
            self.integer_weights[0].assign(np.asarray(table, np.float32))


@keras.saving.register_keras_serializable("rct_tflite")
class TimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed`, also where the number of time steps is not known when the model is built.

    The steps then join the batch: the layer within sees all of them at once, and an `ActivationRange` or a batch
    normalisation in it follows them together. Keras's own class fails there.

    Example:
        >>> inputs = keras.Input((None, 4))
        >>> TimeDistributed(Dense(3))(inputs).shape
        (None, None, 3)
    """

    def build(self, input_shape: Any) -> None:
        """Builds the layer within, and notes whether the time steps are known: so all calls do the same."""
        super().build(input_shape)
        self._steps = input_shape[1]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Calls the layer within for each time step."""
        if self._steps is not None:
            inputs = tf.ensure_shape(inputs, (None, self._steps, *inputs.shape[2:]))  # a data set may not tell it
            return super().call(inputs, training=training, mask=mask)
        kwargs: dict[str, Any] = {"training": training} if self.layer._call_has_training_arg else {}
        if self.layer._call_has_mask_arg and mask is not None:
            kwargs["mask"] = _joined(mask)
        outputs = self.layer.call(_joined(inputs), **kwargs)
        shape = tf.concat([tf.shape(inputs)[:2], tf.shape(outputs)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(outputs, shape), (*inputs.shape[:2], *outputs.shape[1:]))


def _joined(tensor: Any) -> Any:
    """Returns a tensor with its two first axes, batch and time, as one."""
    shape = tf.concat([[-1], tf.shape(tensor)[2:]], axis=0)
    return tf.ensure_shape(tf.reshape(tensor, shape), (None, *tensor.shape[2:]))
