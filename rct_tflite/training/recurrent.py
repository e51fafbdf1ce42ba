"""Recurrent layers whose input kernel and recurrent kernel are integers."""

from typing import Any

import keras

from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.integer_weight import IntegerWeight, active_weights
from rct_tflite.training.quantized_layer import IntegerTensor, Quantized, recipe_of, refuse_settings


@keras.saving.register_keras_serializable("rct_tflite")
class LSTMCell(Quantized, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with two integer kernels."""

    kernel = IntegerTensor("kernel", -1)
    recurrent_kernel = IntegerTensor("recurrent_kernel", -1)


@keras.saving.register_keras_serializable("rct_tflite")
class GRUCell(Quantized, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with two integer kernels."""

    kernel = IntegerTensor("kernel", -1)
    recurrent_kernel = IntegerTensor("recurrent_kernel", -1)


class _Recurrent:
    """Mixin that puts an integer cell into a Keras layer."""

    cell_class: type[Any]
    tensors = LSTMCell.tensors  # the same names in a GRU
    cell: Any
    name: str
    _tracker: Any

    def __init__(self, *args: Any, recipe: Recipe | dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        refuse_settings(self.cell)
        self.recipe = recipe_of(recipe)
        self._exchange_cell()

    def _exchange_cell(self) -> None:
        # Keras has made a float cell. It is not built yet, so that it holds no weights.
        cell = self.cell
        self._tracker.untrack(cell)
        options = {
            **cell.get_config(),
            "implementation": cell.implementation,
            "recipe": self.recipe.for_layer(self.name, list(self.tensors)),
        }
        self.cell = self.cell_class(**options)

    @property
    def integer_weights(self) -> list[IntegerWeight]:
        """The two kernels; empty before the layer is built."""
        weights: list[IntegerWeight] = self.cell.integer_weights
        return weights

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds the cell."""
        super().build(sequences_shape, initial_state_shape)  # type: ignore[misc]
        for weight in self.integer_weights:
            weight.label = f"{self.name}/{weight.name}"

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Runs over the sequence; the kernels are dequantised once, and not at every time step."""
        with active_weights(self.integer_weights, [weight.value() for weight in self.integer_weights]):
            return super().call(  # type: ignore[misc]
                sequences, initial_state=initial_state, mask=mask, training=training
            )

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its integers."""
        config = super().get_config()  # type: ignore[misc]
        # Keras forgets the implementation, whose sums are rounded otherwise: training would not go on the same.
        return {**config, "implementation": self.cell.implementation, "recipe": self.recipe.to_dict()}


@keras.saving.register_keras_serializable("rct_tflite")
class LSTM(_Recurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` with integer kernels of shape (depth, 4 * units) and (units, 4 * units)."""

    cell_class = LSTMCell


@keras.saving.register_keras_serializable("rct_tflite")
class GRU(_Recurrent, keras.layers.GRU):
    """`keras.layers.GRU` with integer kernels of shape (depth, 3 * units) and (units, 3 * units)."""

    cell_class = GRUCell
