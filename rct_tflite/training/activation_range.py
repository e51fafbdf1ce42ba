"""The int8 grid of an activation, learned while training."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("rct_tflite")
class ActivationRange(keras.layers.Layer):
    """Rounds activations to int8 over a moving average of their range; the gradient passes straight through.

    Before the first training batch, activations pass unchanged. Values outside of the range are clamped and
    have no gradient.

    Args:
        momentum: Weight of the past in the moving average, 0 to 1.

    Attributes:
        minimum: float32 scalar, at most 0.
        maximum: float32 scalar, at least 0.
        observed: int32 scalar, number of training batches seen.
    """

    def __init__(self, momentum: float = 0.95, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Adds the variables of the range."""
        del input_shape
        self.minimum = self._add_state("minimum", "float32")
        self.maximum = self._add_state("maximum", "float32")
        self.observed = self._add_state("observed", "int32")

    def _add_state(self, name: str, dtype: str) -> Any:
        return self.add_weight(name=name, shape=(), dtype=dtype, initializer="zeros", trainable=False, autocast=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the rounded activations; in training, follows their range first."""
        if training:
            self._observe(inputs)
        seen = self.observed.value > 0
        # An unseen range is empty: the grid of [0, 1] stands in, and its result is not used.
        maximum = tf.where(seen, self.maximum.value, 1.0)
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, self.minimum.value, maximum, num_bits=8)
        return tf.where(seen, rounded, inputs)

    def _observe(self, inputs: Any) -> None:
        past = tf.where(self.observed.value > 0, self.momentum, 0.0)
        lowest = tf.minimum(tf.reduce_min(inputs), 0.0)
        highest = tf.maximum(tf.reduce_max(inputs), 0.0)
        self.minimum.assign(past * self.minimum.value + (1.0 - past) * lowest)
        self.maximum.assign(past * self.maximum.value + (1.0 - past) * highest)
        self.observed.assign(self.observed.value + 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its range."""
        return {**super().get_config(), "momentum": self.momentum}
