"""A Keras layer whose kernel exists as integers only."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS, Rounding, top
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training import rounding

RUNNING_MEAN = 0.9
"""Weight of the past in the running means of Gavg and of the underflow."""

ACTIVATIONS = ("linear", "relu", "relu6")


class _ActiveKernels(threading.local):
    """The dequantised kernels of the training step that runs in this thread, by the layer's identity."""

    def __init__(self) -> None:
        self.kernels: Mapping[int, Any] = {}


_active = _ActiveKernels()


@contextlib.contextmanager
def active_kernels(kernels: Mapping[int, Any]) -> Iterator[None]:
    """Makes layers compute with the given kernels, so that a gradient tape can watch them.

    Args:
        kernels: `id(layer)` to the float32 kernel; layers that are not named dequantise their own.
    """
    outer, _active.kernels = _active.kernels, kernels
    try:
        yield
    finally:
        _active.kernels = outer


class QuantizedLayer(keras.layers.Layer):
    """Base of `Dense` and `Conv2D`: an integer kernel, its scale, and the update in integers.

    The range of the weights is `headroom * max(abs(initial weights))` and frozen; at `k` bits the scale is
    `range / 2**(k - 1)` and the integers are clamped to `top(k)`. Nothing here holds a float of the kernel's
    shape: `dequantised()` makes one, that lives as long as a forward pass.

    Args:
        activation: None, "linear", "relu" or "relu6".
        use_bias: Whether a float32 bias is added.
        kernel_initializer: Of the float weights that the first integers are made from.
        bias_initializer: Of the bias.
        recipe: Bit-widths, rounding and range.

    Attributes:
        kernel_q: The integers, int8 (int16 if `recipe.max_bits` is above 8).
        scale: float32, () or (channels,): `weight = scale * integer`.
        bits: int32 scalar, the present bit-width.
        gavg: Running mean of `abs(gradient) / scale`.
        underflow: Running share of the nonzero gradients that moved no integer.
        saturated: Share of the integers at either end of the range.
        updates: int32 scalar, number of updates and bit-width changes so far: counts the random draws.
    """

    def __init__(
        self,
        *,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        recipe: Recipe | dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation = activation or "linear"
        if self.activation not in ACTIVATIONS:
            raise UnsupportedLayerError(
                f"Layer {self.name!r} has an activation that cannot be quantised. Expected one of {ACTIVATIONS}. "
                f"Received: activation={activation!r}."
            )
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.recipe = Recipe(**recipe) if isinstance(recipe, dict) else recipe or Recipe()
        self.stream = rounding.stream_of(0, 0)  # the model gives each of its layers another

    def build_weights(self, kernel_shape: tuple[int, ...]) -> None:
        """Adds the variables; the last axis of `kernel_shape` is the output channels."""
        channels = kernel_shape[-1]
        integer = "int8" if self.recipe.max_bits <= EXPORT_BITS else "int16"
        self.kernel_q = self._add_state("kernel_q", integer, kernel_shape)
        self.scale = self._add_state("scale", "float32", (channels,) if self.recipe.per_channel else ())
        self.bits = self._add_state("bits", "int32")
        self.gavg = self._add_state("gavg", "float32")
        self.underflow = self._add_state("underflow", "float32")
        self.saturated = self._add_state("saturated", "float32")
        self.updates = self._add_state("updates", "int32")
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(channels,), initializer=self.bias_initializer)
        with tf.init_scope():
            initial = self.kernel_initializer(kernel_shape, dtype="float32")
            self.assign_kernel(keras.ops.convert_to_numpy(initial))

    def _add_state(self, name: str, dtype: str, shape: tuple[int, ...] = ()) -> Any:
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False
        )

    @property
    def weight_count(self) -> int:
        """Number of integers in the kernel."""
        return int(np.prod(self.kernel_q.shape, dtype=np.int64))

    def assign_kernel(self, weights: npt.NDArray[np.float32]) -> None:
        """Freezes the range of the given weights and keeps their integers at the recipe's bit-width.

        Args:
            weights: float32, of the kernel's shape.

        Raises:
            QuantizationError: If a weight is not finite.
        """
        if not np.isfinite(weights).all():
            raise QuantizationError(
                f"The weights of layer {self.name!r} cannot be quantised. Expected finite numbers. "
                f"Received: {int((~np.isfinite(weights)).sum())} of {weights.size} are NaN or infinite."
            )
        bits = self.recipe.bits
        scale = (_weight_range(weights, self.recipe) / np.float32(2 ** (bits - 1))).astype(np.float32)
        self.kernel_q.assign(np.clip(np.rint(weights / scale), -top(bits), top(bits)))
        self.scale.assign(scale)
        self.bits.assign(bits)
        for statistic in (self.gavg, self.underflow, self.saturated, self.updates):
            statistic.assign(0)

    def dequantised(self) -> Any:
        """Returns the float32 kernel that the integers stand for."""
        return tf.cast(self.kernel_q.value, tf.float32) * self.scale.value

    def kernel(self) -> Any:
        """Returns the kernel to compute with: the one that the training step watches, else the layer's own."""
        active = _active.kernels.get(id(self))
        return self.dequantised() if active is None else active

    def finish(self, outputs: Any) -> Any:
        """Adds the bias and applies the activation."""
        if self.use_bias:
            outputs = outputs + self.bias
        if self.activation == "linear":
            return outputs
        return keras.ops.relu(outputs) if self.activation == "relu" else keras.ops.relu6(outputs)

    def apply_gradient(self, gradient: Any, learning_rate: Any) -> None:
        """Updates the integers: `q := clamp(q - round(learning_rate * gradient / scale))`.

        Args:
            gradient: float32, of the kernel's shape, finite.
            learning_rate: float32 scalar.
        """
        limit = tf.bitwise.left_shift(1, self.bits.value - 1) - 1
        span = 2.0 * tf.cast(limit, tf.float32)  # further than any integer can go: the cast stays in range
        scale = self.scale.value
        steps = tf.clip_by_value(learning_rate * gradient / scale, -span, span)
        noise = rounding.uniform(self.stream, self.updates.value, tuple(self.kernel_q.shape))
        moves = rounding.to_integers(steps, self.recipe.rounding, noise)
        updated = tf.clip_by_value(tf.cast(self.kernel_q.value, tf.int32) - moves, -limit, limit)
        self.kernel_q.assign(tf.cast(updated, self.kernel_q.dtype))
        self._observe(gradient, moves, tf.abs(updated) == limit)
        self.updates.assign(self.updates.value + 1)

    def _observe(self, gradient: Any, moves: Any, at_limit: Any) -> None:
        """Follows Gavg, the underflow and the saturation."""
        asked = tf.cast(gradient != 0.0, tf.float32)
        lost = asked * tf.cast(moves == 0, tf.float32)
        underflow = tf.reduce_sum(lost) / tf.maximum(tf.reduce_sum(asked), 1.0)
        # The mean starts with the first value: a start from 0 would read as a layer that starves.
        past = tf.where(self.gavg.value > 0.0, RUNNING_MEAN, 0.0)
        gavg = tf.reduce_mean(tf.abs(gradient) / self.scale.value)
        self.gavg.assign(past * self.gavg.value + (1.0 - past) * gavg)
        self.underflow.assign(past * self.underflow.value + (1.0 - past) * underflow)
        self.saturated.assign(tf.reduce_mean(tf.cast(at_limit, tf.float32)))

    def set_bits(self, bits: int) -> None:
        """Changes the bit-width; the range of the weights stays.

        A wider grid holds every old weight exactly (one bit doubles the integers). A narrower one rounds,
        stochastically for a stochastic recipe, else to the nearest (ties to even), and clamps.

        Args:
            bits: New bit-width, 2 to 8 (to 16 if `recipe.max_bits` is above 8).

        Raises:
            QuantizationError: If the integers cannot hold this bit-width.
        """
        widest = EXPORT_BITS if self.kernel_q.dtype == "int8" else MAX_BITS
        if not MIN_BITS <= bits <= widest:
            raise QuantizationError(
                f"Layer {self.name!r} cannot change to this bit-width. Expected {MIN_BITS} to {widest} bits. "
                f"Received: bits={bits}. For more than {EXPORT_BITS} bits, quantise with Recipe(max_bits=...)."
            )
        factor = 2.0 ** (bits - int(self.bits))
        if factor == 1.0:
            return
        values = self.kernel_q.numpy() * factor  # float64: exact
        if self.recipe.rounding == Rounding.STOCHASTIC:
            integers = np.floor(values + rounding.uniform(self.stream, self.updates.value, values.shape).numpy())
        else:
            integers = np.rint(values)
        self.kernel_q.assign(np.clip(integers, -top(bits), top(bits)))
        self.scale.assign(self.scale.value / factor)
        self.gavg.assign(self.gavg.value * factor)
        self.bits.assign(bits)
        self.updates.assign(self.updates.value + 1)

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its integers."""
        return {
            **super().get_config(),
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "recipe": {**asdict(self.recipe), "rounding": str(self.recipe.rounding)},
        }


def _weight_range(weights: npt.NDArray[np.float32], recipe: Recipe) -> npt.NDArray[np.float32]:
    """Returns the frozen range, () or (channels,)."""
    magnitude = np.abs(weights)
    whole = magnitude.max()
    if whole == 0.0:  # all zero, a usual start of a last layer: the limit of Glorot's initialiser
        fans = weights.size / weights.shape[-1] + weights.shape[-1]
        whole = np.float32(np.sqrt(6.0 / fans))
    largest = magnitude.max(axis=tuple(range(weights.ndim - 1))) if recipe.per_channel else whole
    return np.asarray(recipe.headroom * np.where(largest > 0.0, largest, whole), np.float32)
