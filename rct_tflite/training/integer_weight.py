"""A weight tensor that exists as integers only, and its update."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src.backend.common import global_state

from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS, Rounding, top
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training import replicas, rounding

RUNNING_MEAN = 0.9
"""Weight of the past in the running means of Gavg and of the underflow, unless a weight's `average` says otherwise."""


class _ActiveWeights(threading.local):
    """The dequantised weights of the training step that runs in this thread, by the identity of their owner."""

    def __init__(self) -> None:
        self.values: Mapping[int, Any] = {}


_active = _ActiveWeights()


@contextlib.contextmanager
def active_weights(weights: Sequence["IntegerWeight"], values: Sequence[Any]) -> Iterator[None]:
    """Makes layers compute with the given values, so that a gradient tape can watch them.

    Args:
        weights: Integer weights; those that are not named dequantise their own integers.
        values: float32 tensors, one for each weight.
    """
    outer = _active.values
    _active.values = {**outer, **{id(weight): value for weight, value in zip(weights, values, strict=True)}}
    try:
        yield
    finally:
        _active.values = outer


@dataclass(frozen=True)
class WeightShape:
    """Shape of a weight tensor.

    Attributes:
        shape: Of the tensor.
        channel_axes: The axes along which scales differ in a recipe with `per_channel`; negative.
        by_rows: Whether a batch reads some rows only (an embedding): Gavg is then taken over the rows with a
            gradient.
    """

    shape: tuple[int, ...]
    channel_axes: tuple[int, ...] = (-1,)
    by_rows: bool = False

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of one scale per channel, that broadcasts against the weights."""
        kept = [size if axis in self._channels else 1 for axis, size in enumerate(self.shape)]
        return tuple(kept[min(self._channels) :])

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        """The axes within a channel."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self._channels)

    @property
    def fans(self) -> float:
        """Inputs of one output, plus number of outputs, as for Glorot's initialiser."""
        channels = float(np.prod([self.shape[axis] for axis in self._channels]))
        return float(np.prod(self.shape)) / channels + channels

    @property
    def _channels(self) -> tuple[int, ...]:
        return tuple(axis % len(self.shape) for axis in self.channel_axes)


class IntegerWeight(keras.layers.Layer):
    """The integers of one weight tensor, their scale, and the update in integers.

    The range of the weights is `headroom * max(abs(initial weights))`; at `k` bits the scale is `range / 2**(k - 1)`
    and the integers are clamped to `top(k)`. A change of the bit-width leaves the range as it is; only
    `double_range()` widens it. Nothing here holds a float of the weight's shape: `dequantised()` makes one, that
    lives as long as a forward pass.

    On several replicas each holds the integers, and all do the same update with the same random numbers.

    Args:
        shape: Of the tensor.
        recipe: Bit-widths, rounding and range, without rules.
        initializer: Of the float weights that the first integers are made from.
        **kwargs: Keras's `name` (such as `"kernel"`) and `trainable`.

    Attributes:
        label: Name that is unique in its model: `"conv1"`, or `"lstm/kernel"` where a layer has several.
        integers: int8 (int16 if `recipe.max_bits` is above 8).
        scale: float32, () or one for each channel: `weight = scale * integer`.
        bits: int32 scalar, the present bit-width.
        gavg: Running mean of `abs(gradient) / scale`; 0 where none was observed.
        underflow: Running share of the nonzero gradients that moved no integer.
        saturated: Share of the integers at either end of the range.
        updates: int32 scalar, number of updates and bit-width changes so far: counts the random draws.
        average: Weight of the past in the running means. A training step that is traced already keeps the old one.
    """

    def __init__(self, shape: WeightShape, recipe: Recipe, initializer: Any = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        self.weight_shape = shape
        self.recipe = recipe
        self.label = self.name
        self.regularizer: Any = None
        self.average = RUNNING_MEAN
        self.stream = rounding.stream_of(0, 0)  # the model gives each of its weights another
        integer = "int8" if recipe.max_bits <= EXPORT_BITS else "int16"
        with keras.name_scope(self.name):
            self.integers = replicas.state_variable("integers", integer, shape.shape)
            self.scale = replicas.state_variable("scale", "float32", shape.scale_shape if recipe.per_channel else ())
            self.bits = replicas.state_variable("bits", "int32")
            self.gavg = replicas.state_variable("gavg", "float32")
            self.underflow = replicas.state_variable("underflow", "float32")
            self.saturated = replicas.state_variable("saturated", "float32")
            self.updates = replicas.state_variable("updates", "int32")
        with tf.init_scope():
            initial = keras.initializers.get(initializer)(shape.shape, dtype="float32")
            self.assign(keras.ops.convert_to_numpy(initial))
        self.built = True

    @property
    def trainable(self) -> bool:
        """Whether updates change the integers; never where the recipe freezes them."""
        return bool(self._trainable) and not self.recipe.frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @property
    def weight_count(self) -> int:
        """Number of integers."""
        return int(np.prod(self.weight_shape.shape, dtype=np.int64))

    def assign(self, weights: npt.NDArray[np.float32]) -> None:
        """Freezes the range of the given weights and keeps their integers at the recipe's bit-width.

        Args:
            weights: float32, of the weight's shape. With several workers, the first one's count.

        Raises:
            QuantizationError: If a weight is not finite.
        """
        weights = replicas.agreed(weights)
        if not np.isfinite(weights).all():
            raise QuantizationError(
                f"The weights of layer {self.label!r} cannot be quantised. Expected finite numbers. "
                f"Received: {int((~np.isfinite(weights)).sum())} of {weights.size} are NaN or infinite."
            )
        bits = self.recipe.bits
        scale = (self._range(weights) / np.float32(2 ** (bits - 1))).astype(np.float32)
        integers = np.clip(np.rint(weights / scale), -top(bits), top(bits))
        self.integers.assign(integers.astype(self.integers.dtype))
        self.scale.assign(scale)
        self.bits.assign(bits)
        for statistic in (self.gavg, self.underflow, self.saturated, self.updates):
            statistic.assign(0)

    def _range(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        magnitude = np.abs(weights)
        whole = magnitude.max()
        if whole == 0.0:  # all zero, a usual start of a last layer: the limit of Glorot's initialiser
            whole = np.float32(np.sqrt(6.0 / self.weight_shape.fans))
        if not self.recipe.per_channel:
            return np.asarray(self.recipe.headroom * whole, np.float32)
        largest = magnitude.max(axis=self.weight_shape.reduced_axes).reshape(self.weight_shape.scale_shape)
        return np.asarray(self.recipe.headroom * np.where(largest > 0.0, largest, whole), np.float32)

    def dequantised(self) -> Any:
        """Returns the float32 weights that the integers stand for."""
        return tf.cast(self.integers.value, tf.float32) * tf.convert_to_tensor(self.scale.value)

    def value(self) -> Any:
        """Returns the weights to compute with: those that the training step watches, else the layer's own.

        Raises:
            UnsupportedLayerError: In a training step of another model than an `RCTModel`, which would leave the
                integers as they are and not tell.
        """
        active = _active.values.get(id(self))
        if active is not None:
            return active
        self._refuse_other_trainers()
        return self.dequantised()

    def _refuse_other_trainers(self) -> None:
        context = global_state.get_global_attribute("current_call_ctx")
        outermost: Any = getattr(context, "entry_layer", None)
        other = isinstance(outermost, keras.Model) and not hasattr(type(outermost), "integer_weights")
        if other and self.trainable and getattr(context, "training", None) is True:
            raise UnsupportedLayerError(
                f"The integers of layer {self.label!r} would not train: Keras's own training step does not know them. "
                f"Expected an rct.RCTModel(inputs, outputs). Received: {type(outermost).__name__} {outermost.name!r}. "
                "Make it of the same inputs and outputs, or quantise a float model with rct.quantize()."
            )

    def _get_own_losses(self) -> list[Any]:
        # A regularizer sees the float weights; its gradient reaches the integers as that of any loss.
        losses: list[Any] = super()._get_own_losses()
        return losses if self.regularizer is None else [*losses, self.regularizer(self.value())]

    def apply_gradient(self, gradient: Any, learning_rate: Any, direction: Any = None, decay: float = 0.0) -> None:
        """Updates the integers: `q := clamp(q - round(learning_rate * (direction / scale + decay * q)))`.

        Args:
            gradient: float32, of the weight's shape, finite: what Gavg is taken from.
            learning_rate: float32 scalar.
            direction: What is followed, float32 of the weight's shape; None for the gradient itself.
            decay: Decoupled weight decay.
        """
        limit = tf.bitwise.left_shift(1, tf.convert_to_tensor(self.bits.value) - 1) - 1
        span = 2.0 * tf.cast(limit, tf.float32)  # further than any integer can go: the cast stays in range
        scale = tf.convert_to_tensor(self.scale.value)
        steps = learning_rate * (gradient if direction is None else direction) / scale
        integers = tf.convert_to_tensor(self.integers.value)
        if decay:
            steps += learning_rate * decay * tf.cast(integers, tf.float32)
        moves = self._rounded(tf.clip_by_value(steps, -span, span))
        updated = tf.clip_by_value(tf.cast(integers, tf.int32) - moves, -limit, limit)
        self._observe(tf.abs(gradient), scale, moves)
        self.saturated.assign(tf.reduce_mean(tf.cast(tf.abs(updated) == limit, tf.float32)))
        self.integers.assign(tf.cast(updated, self.integers.dtype))
        self.updates.assign(self.updates.value + 1)

    def _rounded(self, steps: Any) -> Any:
        if self.recipe.rounding == Rounding.TRUNCATE:
            return rounding.to_integers(steps, Rounding.TRUNCATE, None)
        noise = rounding.uniform(self.stream, tf.convert_to_tensor(self.updates.value), self.weight_shape.shape)
        return rounding.to_integers(steps, Rounding.STOCHASTIC, noise)

    def _observe(self, magnitude: Any, scale: Any, moves: Any) -> None:
        """Follows Gavg and the underflow."""
        asked = tf.cast(magnitude > 0.0, tf.float32)
        lost = asked * tf.cast(moves == 0, tf.float32)
        wanted = tf.reduce_sum(asked)
        underflow = tf.reduce_sum(lost) / tf.maximum(wanted, 1.0)
        if self.weight_shape.by_rows:
            rows = tf.reduce_sum(tf.reduce_max(asked, axis=-1))
            gavg = tf.reduce_sum(magnitude / scale) / tf.maximum(rows * self.weight_shape.shape[-1], 1.0)
        else:
            gavg = tf.reduce_mean(magnitude / scale)
        # The mean starts with the first value: a start from 0 would read as a layer that starves.
        known = tf.convert_to_tensor(self.gavg.value)
        past = tf.where(known > 0.0, self.average, 0.0)
        if self.weight_shape.by_rows:
            past = tf.where(wanted > 0.0, past, 1.0)  # no row was read: nothing is known
        self.gavg.assign(past * known + (1.0 - past) * gavg)
        self.underflow.assign(past * tf.convert_to_tensor(self.underflow.value) + (1.0 - past) * underflow)

    def set_bits(self, bits: int) -> None:
        """Changes the bit-width; the range of the weights stays.

        A wider grid holds every old weight exactly (one bit doubles the integers). A narrower one rounds,
        stochastically for a stochastic recipe, else to the nearest (ties to even), and clamps.

        Args:
            bits: New bit-width, 2 to 8 (to 16 if `recipe.max_bits` is above 8).

        Raises:
            QuantizationError: If the integers cannot hold this bit-width.
        """
        widest = EXPORT_BITS if self.integers.dtype == "int8" else MAX_BITS
        if not MIN_BITS <= bits <= widest:
            raise QuantizationError(
                f"Layer {self.label!r} cannot change to this bit-width. Expected {MIN_BITS} to {widest} bits. "
                f"Received: bits={bits}. For more than {EXPORT_BITS} bits, quantise with Recipe(max_bits=...)."
            )
        factor = 2.0 ** (bits - int(self.bits.numpy()))
        if factor != 1.0:
            self._regrid(factor, bits)

    def double_range(self) -> None:
        """Doubles the range at the same width: the scale doubles, integers halve, rounded as for a narrower grid."""
        self._regrid(0.5, int(self.bits.numpy()))

    def _regrid(self, factor: float, bits: int) -> None:
        """Brings the integers to the grid whose scale is `factor` times finer."""
        values = self.integers.numpy() * factor  # float64: exact
        if self.recipe.rounding == Rounding.STOCHASTIC:
            noise = rounding.uniform(self.stream, tf.constant(self.updates.numpy()), values.shape).numpy()
            integers = np.floor(values + noise)
        else:
            integers = np.rint(values)
        self.integers.assign(np.clip(integers, -top(bits), top(bits)).astype(self.integers.dtype))
        self.scale.assign(self.scale.numpy() / np.float32(factor))
        self.gavg.assign(self.gavg.numpy() * np.float32(factor))
        self.bits.assign(bits)
        self.updates.assign(self.updates.numpy() + 1)
