"""A Keras model that trains integers."""

from typing import Any

import keras
import tensorflow as tf

from rct_tflite.errors import QuantizationError, RecipeError
from rct_tflite.training import rounding
from rct_tflite.training.optimizers import SGD
from rct_tflite.training.quantized_layer import QuantizedLayer, active_kernels

_NOT_FINITE = "is not a finite number"


@keras.saving.register_keras_serializable("rct_tflite")
class RCTModel(keras.Model):
    """A functional model whose `rct.layers` train on their integers: `fit` works as in Keras.

    Eager execution, a graph and several steps per execution give the same integers, bit for bit. XLA draws the
    same random numbers, but sums gradients in another order, so that its integers differ.

    Args:
        inputs: Input of the network, from `keras.Input`.
        outputs: Output of the network.
        name: Name of the model.
        seed: Of the stochastic rounding. The same seed, data and initial weights give the same integers.
        **kwargs: Passed on to `keras.Model`.
    """

    train_function: Any

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, *, seed: int = 0, **kwargs: Any):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.seed = seed
        for position, layer in enumerate(self.quantized_layers):
            layer.stream = rounding.stream_of(seed, position)

    @property
    def quantized_layers(self) -> list[QuantizedLayer]:
        """The layers with integer kernels, first layer first."""
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """Configures training, as in Keras.

        Args:
            optimizer: An `rct.optimizers.SGD`.
            loss: Loss on logits.
            **kwargs: Passed on to `keras.Model.compile`. XLA is off unless asked for.

        Raises:
            RecipeError: If the optimizer cannot update integers, or the loss expects probabilities.
        """
        if not isinstance(optimizer, SGD):
            raise RecipeError(
                "This optimizer cannot update integers, or would keep floats of every kernel's shape. "
                f"Expected rct.optimizers.SGD(learning_rate). Received: optimizer={optimizer!r}."
            )
        if _expects_probabilities(loss):
            raise RecipeError(
                "The model returns logits, but the loss expects probabilities. "
                f"Received: loss={loss!r}. Use the loss class with from_logits=True."
            )
        kwargs.setdefault("jit_compile", False)  # under XLA a gradient that is not finite cannot stop the training
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as it was when it was saved, with the optimizer's state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def train_step(self, data: Any) -> Any:
        """Runs one batch: forward, backward, and the update of integers and floats."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        layers = [layer for layer in self.quantized_layers if layer.trainable]
        variables = self.trainable_variables
        kernels = [layer.dequantised() for layer in layers]
        moving = self._moving_statistics()
        before = [tf.identity(variable.value) for variable in moving]
        with tf.GradientTape() as tape:
            for kernel in kernels:
                tape.watch(kernel)
            with active_kernels({id(layer): kernel for layer, kernel in zip(layers, kernels, strict=True)}):
                y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
        sources = [*kernels, *(variable.value for variable in variables)]
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        names = [*(layer.name for layer in layers), *(variable.path for variable in variables)]
        finite = _finite(x, loss, dict(zip(names, gradients, strict=True)))
        sound = tf.reduce_all(tf.stack(list(finite.values())))
        # A spoiled batch must change nothing: statistics go back to what they were, gradients become 0.
        for variable, value in zip(moving, before, strict=True):
            variable.assign(tf.where(sound, variable.value, value))
        self.optimizer.apply_all(layers, variables, [tf.where(sound, g, tf.zeros_like(g)) for g in gradients])
        for what, good in finite.items():
            tf.debugging.Assert(good, [f"The {what} {_NOT_FINITE}."])
        # XLA drops the assertions, and rounding to int8 can make a number of NaN: the loss shows it in any case.
        loss = tf.where(sound, loss, float("nan"))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _moving_statistics(self) -> list[Any]:
        """Returns the floats that a forward pass in training changes: activation ranges, moving means."""
        return [
            variable
            for layer in self.layers
            if not isinstance(layer, QuantizedLayer)
            for variable in layer.non_trainable_variables
            if str(variable.dtype).startswith("float")
        ]

    def make_train_function(self, force: bool = False) -> Any:
        """Builds the function that `fit` calls; a gradient that is not finite stops it with a named layer."""
        if self.train_function is not None and not force:
            return self.train_function
        super().make_train_function(force=force)
        run = self.train_function

        def train_function(iterator: Any) -> Any:
            try:
                return run(iterator)
            except tf.errors.InvalidArgumentError as error:
                message = next((line for line in str(error).splitlines() if _NOT_FINITE in line), None)
                if message is None:
                    raise
                start = message.index("The ")
                raise QuantizationError(
                    f"Training stopped: {message[start : message.index(_NOT_FINITE) + len(_NOT_FINITE)]}. "
                    "The weights are those before this batch. Look for NaN in the data, or lower the learning rate."
                ) from error

        self.train_function = train_function
        return train_function

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the model, without its integers."""
        return {**super().get_config(), "seed": self.seed}


def _finite(x: Any, loss: Any, gradients: dict[str, Any]) -> dict[str, Any]:
    """Returns, for what a batch computes, whether all of its numbers are finite; what comes first is named first."""
    checked = {"input of the model": tf.nest.flatten(x)[0]}
    checked |= {f"gradient of {name}": gradient for name, gradient in gradients.items()}
    checked["loss"] = loss
    return {what: tf.reduce_all(tf.math.is_finite(tf.cast(value, tf.float32))) for what, value in checked.items()}


def _expects_probabilities(loss: Any) -> bool:
    """Whether a cross-entropy is set up for probabilities. Our outputs are logits."""
    if isinstance(loss, str):
        return loss.lower().replace("_", "").endswith("crossentropy")
    return isinstance(loss, keras.losses.Loss) and not loss.get_config().get("from_logits", True)
