"""The int8 grid of an activation, learned while training."""

from typing import Any

import keras
import tensorflow as tf

from rct_tflite.training import replicas


@keras.saving.register_keras_serializable("rct_tflite")
class ActivationRange(keras.layers.Layer):
    """Rounds activations to int8 over their range; the gradient passes straight through.

    In training, the range takes in every value of the batch at once, and falls back to a moving average of the batches'
    extremes when they get smaller. Later, values outside of it are clamped. Before the first training batch,
    activations pass unchanged. On several replicas the range is that of the whole batch.

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
        with keras.name_scope(self.name):
            self.minimum = replicas.state_variable("minimum", "float32")
            self.maximum = replicas.state_variable("maximum", "float32")
            self.observed = replicas.state_variable("observed", "int32")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the rounded activations; in training, follows their range first."""
        if training:
            minimum, maximum = self._observe(inputs)
            return tf.quantization.fake_quant_with_min_max_vars(inputs, minimum, maximum, num_bits=8)
        minimum, maximum = tf.convert_to_tensor(self.minimum.value), tf.convert_to_tensor(self.maximum.value)
        seen = tf.convert_to_tensor(self.observed.value) > 0
        # An unseen range is empty: the grid of [0, 1] stands in, and its result is not used.
        rounded = tf.quantization.fake_quant_with_min_max_vars(
            inputs, minimum, tf.where(seen, maximum, 1.0), num_bits=8
        )
        return tf.where(seen, rounded, inputs)

    def _observe(self, inputs: Any) -> tuple[Any, Any]:
        """Follows the range and returns it."""
        past = tf.where(tf.convert_to_tensor(self.observed.value) > 0, self.momentum, 0.0)
        lowest, highest = replicas.range_of(tf.stop_gradient(inputs))
        # It widens at once: values outside have no gradient, and a layer whose activations grow would wait for them.
        minimum = tf.minimum(lowest, past * self.minimum.value + (1.0 - past) * lowest)
        maximum = tf.maximum(highest, past * self.maximum.value + (1.0 - past) * highest)
        self.minimum.assign(minimum)
        self.maximum.assign(maximum)
        self.observed.assign(self.observed.value + 1)
        return minimum, maximum

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its range."""
        return {**super().get_config(), "momentum": self.momentum}
