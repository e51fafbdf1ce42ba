"""The optimizer of `rct.optimizers`: one learning rate for integers and for biases."""

from collections.abc import Sequence
from typing import Any

import keras

from rct_tflite.training.quantized_layer import QuantizedLayer


@keras.saving.register_keras_serializable("rct_tflite")
class SGD(keras.optimizers.SGD):
    """Plain gradient descent: on integers for kernels, on floats for biases and batch normalisation.

    There is no momentum: it would be a float of every kernel's shape. Learning-rate schedules and the Keras
    callbacks that set `learning_rate` act on both.

    Args:
        learning_rate: A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
        clipnorm: Largest norm of each gradient.
        clipvalue: Largest magnitude of each element of a gradient.
        global_clipnorm: Largest norm of all gradients together.
        name: Name of the optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "sgd",
    ):
        super().__init__(
            learning_rate=learning_rate,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )

    def apply_all(self, layers: Sequence[QuantizedLayer], variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Updates the integers of `layers` and the floats of `variables`.

        Args:
            layers: Layers whose kernels train.
            variables: Ordinary trainable variables.
            gradients: One for each layer, then one for each variable.
        """
        # Clipped together: a norm over all gradients must see the kernels too. Clipping twice changes nothing.
        gradients = self._clip_gradients(list(gradients))
        for layer, gradient in zip(layers, gradients, strict=False):
            layer.apply_gradient(gradient, self.learning_rate)
        if variables:
            self.apply(gradients[len(layers) :], variables)
        else:
            self.iterations.assign_add(1)  # apply() does not count an empty list, and schedules follow the count

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the optimizer."""
        config = super().get_config()
        return {key: config[key] for key in ("learning_rate", "clipnorm", "clipvalue", "global_clipnorm", "name")}
