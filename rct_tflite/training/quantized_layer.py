"""Keras layers as they are, but for their kernels: what `rct.layers` has in common."""

from collections.abc import Iterator
from typing import Any, ClassVar

import keras

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.integer_weight import IntegerWeight, WeightShape


class IntegerTensor:
    """The attribute of a layer where Keras expects a weight: reads as float32, is kept as integers.

    Args:
        weight: Name that Keras gives the weight when it adds it.
        *channel_axes: Axes of the output channels, negative.
    """

    def __init__(self, weight: str, *channel_axes: int):
        self.weight, self.channel_axes = weight, channel_axes

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"integer_{name.lstrip('_')}"

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        if layer is None:
            return self
        weight = layer.__dict__.get(self.name)
        if weight is None:
            raise AttributeError(f"Layer {layer.name!r} has no weights before it is built.")
        return weight.value()

    def __set__(self, layer: Any, weight: IntegerWeight) -> None:
        layer.__dict__[self.name] = weight


class Quantized:
    """Mixin that makes `add_weight` keep some weights of a Keras layer as integers.

    Args:
        *args: Of the Keras layer.
        recipe: Bit-widths, rounding and range. Its rules are matched with the layer's name.
        **kwargs: Of the Keras layer.
    """

    tensors: ClassVar[dict[str, IntegerTensor]] = {}
    """The integer weights, by Keras's name."""

    reads_rows: ClassVar[bool] = False
    """Whether a batch reads some rows of the weight only."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.tensors = {item.weight: item for item in vars(cls).values() if isinstance(item, IntegerTensor)}

    def __init__(self, *args: Any, recipe: Recipe | dict[str, Any] | None = None, **kwargs: Any):
        # Before Keras's own: some layers build themselves there.
        self.__dict__["recipe"] = recipe_of(recipe)
        super().__init__(*args, **kwargs)
        refuse_settings(self)

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a weight; one that the class names becomes an `IntegerWeight`."""
        name = kwargs.get("name")
        if name not in self.tensors:
            return super().add_weight(*args, **kwargs)  # type: ignore[misc]
        shape = WeightShape(
            tuple(int(size) for size in kwargs["shape"]), self.tensors[name].channel_axes, self.reads_rows
        )
        recipe = self.recipe.resolved(self.name, f"{self.name}/{name}")
        weight = IntegerWeight(shape, recipe, kwargs.get("initializer"), name=name, trainable=self.trainable)
        weight.regularizer = kwargs.get("regularizer")
        weight.label = self.name if len(self.tensors) == 1 else f"{self.name}/{name}"
        return weight

    @property
    def integer_weights(self) -> list[IntegerWeight]:
        """The weights that are kept as integers; empty before the layer is built."""
        return [value for value in self.__dict__.values() if isinstance(value, IntegerWeight)]

    def save_own_variables(self, store: Any) -> None:
        """Saves the variables beside the integer weights, which save themselves."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables()` saved."""
        keras.layers.Layer.load_own_variables(self, store)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Refuses Keras's own quantisation.

        Raises:
            UnsupportedLayerError: Always.
        """
        raise UnsupportedLayerError(
            f"Layer {self.name!r} is quantised already. Keras's quantize() is for float layers. "
            "Use set_bits() of its integer_weights."
        )

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Refuses LoRA, which needs a float kernel.

        Raises:
            UnsupportedLayerError: Always.
        """
        raise UnsupportedLayerError(f"Layer {self.name!r} has integer weights: LoRA adds to float ones. Remove it.")

    def get_config(self) -> dict[str, Any]:
        """Returns what rebuilds the layer, without its integers."""
        return {**super().get_config(), "recipe": self.recipe.to_dict()}  # type: ignore[misc]

    name: str
    recipe: Recipe
    trainable: bool


def recipe_of(recipe: Recipe | dict[str, Any] | None) -> Recipe:
    """Returns a recipe from what a layer is given, or from its saved form."""
    return Recipe.from_dict(recipe) if isinstance(recipe, dict) else recipe or Recipe()


def refuse_settings(layer: Any) -> None:
    """Refuses settings that have no meaning for integer weights.

    Raises:
        UnsupportedLayerError: If the layer has a constraint, LoRA or another dtype than float32.
    """
    problem = problem_of_settings(layer)
    if problem is not None:
        raise UnsupportedLayerError(f"Layer {layer.name!r} ({type(layer).__name__}) cannot be quantised: {problem}.")


def problem_of_settings(layer: Any) -> str | None:
    """Returns which setting of a float layer has no meaning for integer weights, or None."""
    for name, value in vars(layer).items():
        if name.endswith("_constraint") and value is not None and name != "bias_constraint":
            return f"{name} has no meaning for integer weights; remove it"
    if getattr(layer, "lora_rank", None):
        return "LoRA adds to float weights; merge or remove it"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"it is quantised by Keras already ({layer.quantization_mode}); give the float model"
    if layer.compute_dtype != "float32":
        return f"its dtype must be float32, but it is {layer.compute_dtype}"
    return None


def labelled_weights(layers: Any, path: str = "") -> Iterator[tuple[str, IntegerWeight]]:
    """Yields the integer weights of layers and of what they hold, with labels that are unique in the model.

    Args:
        layers: Keras layers of one model.
        path: Names of the models and wrappers around them, each followed by a slash.
    """
    for layer in layers:
        name = f"{path}{layer.name}"
        own = getattr(layer, "integer_weights", None)
        if isinstance(layer, keras.Model):
            yield from labelled_weights(layer.layers, f"{name}/")
        elif own is not None:
            yield from ((name if len(own) == 1 else f"{name}/{weight.name}", weight) for weight in own)
        elif isinstance(layer, keras.layers.TimeDistributed):
            yield from ((label.replace(layer.layer.name, name, 1), w) for label, w in labelled_weights([layer.layer]))
        else:
            yield from labelled_weights(layer._flatten_layers(include_self=False, recursive=False), f"{name}/")
