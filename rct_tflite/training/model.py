"""A Keras model that trains integers."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rct_tflite.errors import DataError, ModelFileError, RecipeError
from rct_tflite.training import replicas, rounding
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.integer_weight import IntegerWeight, active_weights
from rct_tflite.training.losses import check_losses
from rct_tflite.training.optimizers import SGD
from rct_tflite.training.quantized_layer import labelled_weights
from rct_tflite.training.soundness import Soundness


@keras.saving.register_keras_serializable("rct_tflite")
class RCTModel(keras.Model):
    """A functional model whose `rct.layers` train on their integers: `fit` works as in Keras.

    Eager execution, a graph and several steps per execution give the same integers, bit for bit. XLA draws the
    same random numbers, but sums gradients in another order, so that its integers differ.

    With `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`, quantise and compile within
    `strategy.scope()`. Gradients are summed over the replicas before they are rounded, and all replicas hold equal
    integers after each step. As in Keras, batch normalisation sees its own replica's samples only, unless it is
    `synchronized`. Over several workers, `fit`, `evaluate` and `predict` take a `tf.data.Dataset`.

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
        # Losses and metrics of several outputs go by the names of the layers, not of the ranges behind them.
        self.output_names = [_layer_of(output).name for output in self.outputs]
        for position, (label, weight) in enumerate(self._labelled_weights()):
            weight.label = label
            weight.stream = rounding.stream_of(seed, position)

    def _labelled_weights(self) -> list[tuple[str, IntegerWeight]]:
        seen: dict[int, tuple[str, IntegerWeight]] = {}
        for label, weight in labelled_weights(self.layers):
            seen.setdefault(id(weight), (label, weight))
        return list(seen.values())

    @property
    def integer_weights(self) -> list[IntegerWeight]:
        """The weights that are kept as integers, also those of nested models; a shared one once; first layer first."""
        return [weight for _, weight in self._labelled_weights()]

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """Configures training, as in Keras.

        Args:
            optimizer: An `rct.optimizers.SGD`.
            loss: As in Keras, one or several. A cross-entropy needs from_logits=True unless the output is a softmax
                or a sigmoid.
            **kwargs: Passed on to `keras.Model.compile`. XLA is off unless asked for.

        Raises:
            RecipeError: If the optimizer cannot update integers, or a loss expects probabilities of logits.
        """
        if not isinstance(optimizer, SGD):
            raise RecipeError(
                "This optimizer cannot update integers, or would keep floats of every kernel's shape. "
                f"Expected rct.optimizers.SGD(learning_rate). Received: optimizer={optimizer!r}."
            )
        check_losses(self, loss)
        kwargs.setdefault("jit_compile", False)  # so that all ways to run give the same integers
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        optimizer.build_integers(self.integer_weights)
        with self.distribute_strategy.scope():
            self._soundness = Soundness()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as it was when it was saved, with the optimizer's state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, as in Keras.

        Args:
            x: As in Keras.
            y: As in Keras.
            *args: Passed on to `keras.Model.fit`.
            **kwargs: Passed on to `keras.Model.fit`.

        Raises:
            DataError: If NumPy samples or labels hold text or objects, which Keras refuses without saying which.
        """
        _check_arrays(x, y)
        return super().fit(x, y, *args, **kwargs)

    def train_step(self, data: Any) -> Any:
        """Runs one batch: forward, backward, and the update of integers and floats."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _check_numbers(x)
        weights = [weight for weight in self.integer_weights if weight.trainable]
        variables = self.trainable_variables
        values = [weight.dequantised() for weight in weights]
        moving = self._moving_statistics()
        before = [tf.convert_to_tensor(variable.value) for variable in moving]
        with tf.GradientTape() as tape, active_weights(weights, values):
            for value in values:
                tape.watch(value)
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
        sources = [*values, *(variable.value for variable in variables)]
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, sources, unconnected_gradients="zero")]
        gradients, (good_input, good_loss) = replicas.summed(
            gradients, [_is_finite(*tf.nest.flatten(x)), _is_finite(loss)]
        )
        names = [*(weight.label for weight in weights), *(variable.path for variable in variables)]
        finite = {"input of the model": good_input}
        finite |= {f"gradient of {name}": _is_finite(gradient) for name, gradient in zip(names, gradients, strict=True)}
        finite["loss"] = good_loss
        tf.cond(  # a spoiled batch must change nothing
            self._soundness.note(finite),
            lambda: self.optimizer.apply_all(weights, variables, gradients),
            lambda: replicas.assign_own(moving, before),
        )
        return self._metrics_of(data, y_pred, loss)

    def _metrics_of(self, data: Any, y_pred: Any, loss: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        samples = tf.shape(tf.nest.flatten(x)[0])[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(
                    loss * float(replicas.count()), sample_weight=samples
                )  # the loss is a replica's share
        return replicas.for_mean(self.compute_metrics(x, y, y_pred, sample_weight=sample_weight))

    def test_step(self, data: Any) -> Any:
        """Evaluates one batch."""
        return replicas.for_mean(super().test_step(data))

    def _moving_statistics(self) -> list[Any]:
        """Returns the numbers that a forward pass in training changes: activation ranges, moving means."""
        return [
            variable
            for layer in self._flatten_layers(include_self=False)
            if not isinstance(layer, IntegerWeight)
            for variable in layer._non_trainable_variables
            if str(variable.dtype).startswith(("float", "int"))
        ]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras averages the first batch over the workers to learn its shapes, which fails outside of a function.
        with self.distribute_strategy.scope():
            if iterator is not None and replicas.workers() > 1:
                _, _, batches = next(iterator.enumerate_epoch())
                data_batch = replicas.first_local(next(batches))
                iterator = None
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def make_train_function(self, force: bool = False) -> Any:
        """Builds the function that `fit` calls; a gradient that is not finite stops it with a named layer."""
        if self.train_function is not None and not force:
            return self.train_function
        super().make_train_function(force=force)
        run = self.train_function

        def train_function(iterator: Any) -> Any:
            logs = run(iterator)
            self._soundness.check()
            return logs

        self.train_function = train_function
        return train_function

    def save(self, filepath: Any, **kwargs: Any) -> None:
        """Saves integers, bit-widths, ranges and the optimizer's state to a `.keras` file.

        Args:
            filepath: Name that ends in `.keras`.
            **kwargs: Keras's `overwrite` and `zipped`.

        Raises:
            ModelFileError: If the name ends as one of Keras's older format does, which it could not load again.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ModelFileError(
                f"A quantised model cannot be loaded from this format. Expected a name that ends in .keras. "
                f"Received: {str(filepath)!r}. Rename it; weights alone go into .weights.h5 with save_weights()."
            )
        super().save(filepath, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Saves the state of dropout too, which Keras forgets: a training that goes on draws the next numbers."""
        super().save_own_variables(store)
        for name, state in self._random_states().items():
            store[name] = state

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables()` saved."""
        states = self._random_states()
        super().load_own_variables({name: store[name] for name in store.keys() - states.keys()})
        for name in store.keys() & states.keys():
            states[name].assign(store[name])

    def _random_states(self) -> dict[str, Any]:
        """Returns the counters of all random layers by the names that they have in a file."""
        generators = [generator for layer in self._flatten_layers() for generator in layer._seed_generators]
        return {f"random_{number}": generator.state for number, generator in enumerate(generators)}

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the model, without its integers."""
        return {**super().get_config(), "seed": self.seed}


def _layer_of(output: Any) -> Any:
    """Returns the layer that computes an output, without the range behind it."""
    layer, node_index, _ = output._keras_history
    return _layer_of(layer._inbound_nodes[node_index].input_tensors[0]) if isinstance(layer, ActivationRange) else layer


def _check_arrays(x: Any, y: Any) -> None:
    for name, values in (("x", x), ("y", y)):
        arrays = [value for value in tf.nest.flatten(values) if isinstance(value, np.ndarray)]
        if any(array.dtype.kind in "OSU" for array in arrays):
            raise DataError(
                f"A model trains on numbers. Expected floats or integers in {name}. "
                f"Received: dtypes {[str(array.dtype) for array in arrays]}. Convert the data first."
            )


def _check_numbers(x: Any) -> None:
    """Refuses samples that are no numbers.

    Raises:
        DataError: If an input is text, complex, or of another such dtype.
    """
    dtypes = [tf.as_dtype(value.dtype) for value in tf.nest.flatten(x)]
    if not all(dtype.is_floating or dtype.is_integer or dtype.is_bool for dtype in dtypes):
        raise DataError(
            "A model trains on numbers. Expected floats or integers for each input. "
            f"Received: dtypes {[dtype.name for dtype in dtypes]}. Convert the data first."
        )


def _is_finite(*values: Any) -> Any:
    """Whether all numbers of some float tensors are finite: one pass, and no tensor of their shape."""
    sums = [tf.reduce_sum(tf.cast(value, tf.float32)) for value in values if tf.as_dtype(value.dtype).is_floating]
    return tf.reduce_all(tf.math.is_finite(tf.stack(sums))) if sums else tf.constant(True)
