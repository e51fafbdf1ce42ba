"""The optimizer of `rct.optimizers`: one learning rate for integers and for biases."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import Rounding
from rct_tflite.training import replicas, rounding
from rct_tflite.training.integer_weight import IntegerWeight

_OPTIONS = ("clipnorm", "clipvalue", "global_clipnorm", "name")
_MOMENTUM_TOP = 127.0
_MOMENTUM_STREAM = 0x9E3779B9  # another stream of random numbers than the weight's own updates
_SMALLEST_SCALE = 2.0**-100


@keras.saving.register_keras_serializable("rct_tflite")
class SGD(keras.optimizers.SGD):
    """Gradient descent: on integers for kernels, on floats for biases and batch normalisation.

    Learning-rate schedules and the Keras callbacks that set `learning_rate` act on both.

    The momentum of a kernel is held as int8 integers and one power of two, chosen anew at each step so that the
    largest momentum fits; it is rounded stochastically, so that its decay does not get stuck. That of biases and
    of batch normalisation is float32.

    Args:
        learning_rate: A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: 0 to 1. The momentum is a sum of gradients, `m := momentum * m + g`, so that a schedule acts at
            once. 0 holds nothing.
        nesterov: Whether to follow `g + momentum * m` instead of `m`.
        weight_decay: Decoupled decay, a share of each weight times the learning rate at each step. On integers it
            is part of the update before rounding.
        **kwargs: Keras's `clipnorm`, `clipvalue`, `global_clipnorm` and `name`. The gradients of all replicas are
            summed before they are clipped. Also `initial_learning_rate`, by which a saved model remembers the rate
            that its training started with, when a callback has lowered it since.

    Raises:
        RecipeError: If a setting is out of range, or needs floats of every kernel's shape.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **kwargs: Any,
    ):
        started = kwargs.pop("initial_learning_rate", None)
        unknown = sorted(set(kwargs) - set(_OPTIONS))
        if unknown:
            raise RecipeError(
                f"rct.optimizers.SGD does not have these settings. Expected some of {_OPTIONS} beside learning_rate, "
                f"momentum, nesterov and weight_decay. Received: {unknown}. Accumulators and moving averages would "
                "be floats of every kernel's shape."
            )
        if not 0.0 <= momentum < 1.0 or (weight_decay is not None and not 0.0 <= weight_decay <= 1.0):
            raise RecipeError(
                "Expected 0 <= momentum < 1 and 0 <= weight_decay <= 1. "
                f"Received: momentum={momentum}, weight_decay={weight_decay}."
            )
        super().__init__(
            learning_rate=learning_rate,
            momentum=float(momentum),
            nesterov=nesterov,
            weight_decay=weight_decay or None,
            **{"name": "sgd", **kwargs},
        )
        plain = isinstance(learning_rate, (int, float))
        self.initial_learning_rate = float(learning_rate) if plain and started is None else started
        self._integer_momentums: dict[int, tuple[Any, Any]] = {}

    def build_integers(self, weights: Sequence[IntegerWeight]) -> None:
        """Adds the momentum of integer weights, if there is any. The order of the weights decides on the names.

        Args:
            weights: All integer weights of the model.
        """
        for weight in weights if self.momentum else ():
            if id(weight) in self._integer_momentums:
                continue
            self._integer_momentums[id(weight)] = (
                self._add_state(f"{weight.name}_momentum", "int8", weight.weight_shape.shape),
                self._add_state(f"{weight.name}_momentum_scale", "float32"),
            )

    def _add_state(self, name: str, dtype: str, shape: tuple[int, ...] = ()) -> Any:
        variable = replicas.state_variable(name, dtype, shape)
        self._track_variable(variable)
        return variable

    @property
    def state_bytes(self) -> int:
        """Bytes of the momentum: one a weight for kernels, four for each float."""
        held = [variable for pair in self._integer_momentums.values() for variable in pair]
        held += getattr(self, "momentums", [])
        return sum(
            int(keras.ops.size(variable)) * (1 if variable.dtype == "int8" else 4)
            for variable in held
            if variable is not None
        )

    def apply_all(self, weights: Sequence[IntegerWeight], variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Updates the integers of `weights` and the floats of `variables`.

        Args:
            weights: Integer weights that train.
            variables: Ordinary trainable variables.
            gradients: One for each weight, then one for each variable, summed over the replicas.
        """
        if not self.built:
            with tf.init_scope():
                self.build(variables)
        # Clipped together: a norm over all gradients must see the kernels too.
        gradients = self._clip_gradients(list(gradients))
        learning_rate = tf.convert_to_tensor(self.learning_rate)
        decay = self.weight_decay or 0.0
        for weight, gradient in zip(weights, gradients, strict=False):
            weight.apply_gradient(gradient, learning_rate, self._follow(weight, gradient), decay)
        for variable, gradient in zip(variables, gradients[len(weights) :], strict=True):
            if decay:
                self.assign_sub(variable, tf.convert_to_tensor(variable.value) * decay * learning_rate)
            self.update_step(gradient, variable, learning_rate)
            if variable.constraint is not None:
                self.assign(variable, variable.constraint(variable))
        self.assign_add(self._iterations, 1)

    # Keras sends what it assigns to the other replicas, which compute the same here.

    def assign(self, variable: Any, value: Any) -> None:
        """Assigns to this replica's copy of a variable."""
        replicas.own(variable).assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to this replica's copy of a variable."""
        replicas.own(variable).assign_add(value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtracts from this replica's copy of a variable."""
        replicas.own(variable).assign_sub(value)

    def _follow(self, weight: IntegerWeight, gradient: Any) -> Any:
        """Returns the direction of a weight's update; keeps its momentum."""
        if not self.momentum:
            return None
        integers, scale = self._integer_momentums[id(weight)]
        held = tf.cast(integers.value, tf.float32) * tf.convert_to_tensor(scale.value)
        moved = self.momentum * held + gradient
        largest = tf.maximum(tf.reduce_max(tf.abs(moved)), _SMALLEST_SCALE)
        exponent = tf.math.ceil(tf.math.log(largest / _MOMENTUM_TOP) / tf.math.log(2.0))
        step = tf.pow(2.0, exponent)
        noise = rounding.uniform(
            weight.stream ^ _MOMENTUM_STREAM, tf.convert_to_tensor(weight.updates.value), weight.weight_shape.shape
        )
        rounded = rounding.to_integers(
            tf.clip_by_value(moved / step, -_MOMENTUM_TOP, _MOMENTUM_TOP), Rounding.STOCHASTIC, noise
        )
        integers.assign(tf.cast(rounded, tf.int8))
        scale.assign(step)
        return gradient + self.momentum * moved if self.nesterov else moved

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the optimizer."""
        config = super().get_config()
        kept = {key: config[key] for key in ("learning_rate", "momentum", "nesterov", "weight_decay", *_OPTIONS)}
        return {**kept, "initial_learning_rate": self.initial_learning_rate}
