"""The layers of `rct.layers`: Keras layers whose kernels are integers."""

from typing import Any

import keras

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.quantized_layer import QuantizedLayer

__all__ = ["ActivationRange", "Conv2D", "Dense"]


@keras.saving.register_keras_serializable("rct_tflite")
class Dense(QuantizedLayer):
    """Fully connected layer on (batch, depth).

    Args:
        units: Number of outputs.
        **kwargs: `activation`, `use_bias`, `kernel_initializer`, `bias_initializer` and `recipe` of
            `QuantizedLayer`, and Keras's `name` and `trainable`.

    Example:
        >>> layer = Dense(3)
        >>> layer(keras.ops.ones((1, 4))).shape, layer.kernel_q.dtype
        (TensorShape([1, 3]), 'int8')
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the weights: `kernel_q` is (depth, units)."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise UnsupportedLayerError(
                f"Layer {self.name!r} (Dense) expects inputs of shape (batch, depth). "
                f"Received: input_shape={tuple(input_shape)}. Put a Flatten layer before it."
            )
        self.build_weights((int(input_shape[-1]), self.units))

    def call(self, inputs: Any) -> Any:
        """Returns (batch, units)."""
        return self.finish(keras.ops.matmul(inputs, self.kernel()))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (batch, units)."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its integers."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("rct_tflite")
class Conv2D(QuantizedLayer):
    """2D convolution on (batch, height, width, channels).

    Args:
        filters: Number of output channels.
        kernel_size: Height and width, or one number for both.
        strides: Vertical and horizontal, or one number for both.
        padding: "valid" or "same".
        **kwargs: `activation`, `use_bias`, `kernel_initializer`, `bias_initializer` and `recipe` of
            `QuantizedLayer`, and Keras's `name` and `trainable`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = _pair(kernel_size)
        self.strides = _pair(strides)
        self.padding = padding
        if padding not in ("valid", "same"):
            raise UnsupportedLayerError(
                f"Layer {self.name!r} (Conv2D) has an unknown padding. Expected 'valid' or 'same'. "
                f"Received: padding={padding!r}."
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the weights: `kernel_q` is (kernel_h, kernel_w, input channels, filters)."""
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise UnsupportedLayerError(
                f"Layer {self.name!r} (Conv2D) expects inputs of shape (batch, height, width, channels). "
                f"Received: input_shape={tuple(input_shape)}."
            )
        self.build_weights((*self.kernel_size, int(input_shape[-1]), self.filters))

    def call(self, inputs: Any) -> Any:
        """Returns (batch, height, width, filters)."""
        return self.finish(
            keras.ops.conv(inputs, self.kernel(), self.strides, self.padding, data_format="channels_last")
        )

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its integers."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
