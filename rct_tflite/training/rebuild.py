"""Copying a float model layer by layer: weights become integers, activations get their ranges."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.layers import BatchNormalization, TimeDistributed
from rct_tflite.training.placement import (
    NOT_IN_A_NAME,
    PROBABILITIES,
    QUANTIZED_CLASSES,
    Role,
    activation_of,
    is_model,
    role_of,
    unwrapped,
)


@dataclass(eq=False)
class _Value:
    """A tensor of the new model, and what it still lacks.

    Attributes:
        tensor: The symbolic tensor.
        anchor: Name of the layer that its range is called after; None where it needs none.
        takes: What may be fused between the layer that computed it and its range.
        prepared: Whether it is a model's input, or one that was prepared in float.
        probability: Whether it stays float at the model's output.
        ranged: The tensor behind its range, once that was asked for.
    """

    tensor: Any
    anchor: str | None = None
    takes: frozenset[Role] = frozenset()
    prepared: bool = False
    probability: bool = False
    ranged: Any = None


_FASTER: dict[type, Any] = {keras.layers.BatchNormalization: BatchNormalization}
_FUSED = frozenset({Role.NORM, Role.CLAMP})


class Rebuilder:
    """Copies a model and the models in it.

    Args:
        recipe: Of all integer weights.

    Attributes:
        paths: Names of the layers with weights, with those of the models around them.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.paths: list[str] = []
        self._copies: dict[int, Any] = {}

    def rebuild(self, model: Any, path: str) -> tuple[Any, Any]:
        """Returns inputs and outputs of the copy, in the model's own structure.

        Args:
            model: A Sequential or functional model that was checked.
            path: Names of the models around it, each followed by a slash; empty for the outermost.
        """
        return _Graph(self, function_of(model), path).rebuild()

    def copy_of(self, layer: Any, path: str) -> Any:
        """Returns the layer of the new model that stands for a float one; the same for each use."""
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._copy(layer, f"{path}{layer.name}")
        return self._copies[id(layer)]

    def _copy(self, layer: Any, path: str) -> Any:
        shared = {"name": layer.name, "trainable": layer.trainable}
        if is_model(layer):
            inputs, outputs = self.rebuild(layer, f"{path}/")
            return keras.Model(inputs, outputs, **shared)
        if isinstance(layer, keras.layers.TimeDistributed):
            return TimeDistributed(self._copy(layer.layer, path), **shared)
        if isinstance(layer, keras.layers.Bidirectional):
            forward, backward = (
                self._copy(part, f"{path}/{part.name}") for part in (layer.forward_layer, layer.backward_layer)
            )
            return keras.layers.Bidirectional(forward, merge_mode=layer.merge_mode, backward_layer=backward, **shared)
        config = layer.get_config()
        kind = QUANTIZED_CLASSES.get(type(layer))
        if kind is None:
            return _FASTER.get(type(layer), type(layer)).from_config(config)
        self.paths.append(path)
        recipe = self.recipe.for_layer(path, list(kind.tensors))
        config |= {"recipe": recipe.to_dict(), "trainable": layer.trainable and not recipe.frozen}
        if hasattr(layer, "cell"):
            config["implementation"] = layer.cell.implementation
        return kind.from_config(config)


class _Graph:
    """The copy of one model's graph while it grows."""

    def __init__(self, rebuilder: Rebuilder, function: Any, path: str):
        self.rebuilder, self.function, self.path = rebuilder, function, path
        self.values: dict[int, _Value] = {}
        self.taken = {layer.name for layer in function.layers}
        self.uses = Counter(id(tensor) for tensor in function.outputs)
        for node in nodes_of(function):
            self.uses.update(id(tensor) for tensor in node.input_tensors if not is_mask(node))

    def rebuild(self) -> tuple[Any, Any]:
        inputs = keras.tree.map_structure(self._input, self.function._inputs_struct)
        for node in nodes_of(self.function):
            self._call(node)
        return inputs, keras.tree.map_structure(self._output, self.function._outputs_struct)

    def _input(self, tensor: Any) -> Any:
        name = self._input_name(tensor)
        indices = self._are_indices(tensor)
        numbers = str(tensor.dtype).startswith(("int", "uint")) and not indices
        dtype = "float32" if numbers else tensor.dtype  # Keras casts what it is given
        copied = keras.Input(batch_shape=tensor.shape, dtype=dtype, name=name)
        # Within a nested model, whose inputs were rounded outside; indices are no activations.
        bare = bool(self.path) or indices or "float" not in str(dtype)
        self.values[id(tensor)] = _Value(copied, None if bare else name, prepared=True)
        return copied

    def _are_indices(self, tensor: Any) -> bool:
        """Whether a tensor only goes to embeddings."""
        users = [node for node in nodes_of(self.function) if any(t is tensor for t in node.input_tensors)]
        users = [node for node in users if not is_mask(node)]
        return bool(users) and all(self._reads_indices(node, tensor) for node in users)

    def _reads_indices(self, node: Any, tensor: Any) -> bool:
        layer = node.operation
        role = role_of(layer)
        if role is Role.HAND_ON:
            return all(self._are_indices(output) for output in node.outputs)
        if role is Role.MODEL:
            inner = function_of(unwrapped(layer))
            position = [id(t) for t in node.input_tensors].index(id(tensor))
            return _Graph(self.rebuilder, inner, "nested/")._are_indices(inner.inputs[position])
        return isinstance(unwrapped(layer), keras.layers.Embedding)

    def _output(self, tensor: Any) -> Any:
        value = self.values[id(tensor)]
        return value.tensor if value.probability else self._ranged(value)

    def _ranged(self, value: _Value) -> Any:
        """Returns the tensor behind its range; adds that range when it is asked for first."""
        if value.anchor is None:
            return value.tensor
        if value.ranged is None:
            # Keras takes any name for an input, but that of a layer must be a scope of TensorFlow's.
            name = NOT_IN_A_NAME.sub("_", f"{value.anchor}_range")
            value.ranged = ActivationRange(name=self._free_name(name))(value.tensor)
        return value.ranged

    def _input_name(self, tensor: Any) -> str:
        """Returns the user's name of an input, or "input" for the only one where Keras made the name up."""
        name = str(tensor._keras_history.operation.name)
        own = len(self.function.inputs) > 1 or not name.startswith("input_layer")
        return name if own else self._free_name("input")

    def _free_name(self, name: str) -> str:
        """Returns the name, with a number behind it where the model uses it already, and takes it."""
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
        free = next(candidate for candidate in candidates if candidate not in self.taken)
        self.taken.add(free)
        return free

    def _call(self, node: Any) -> None:
        if is_mask(node):
            arguments = {id(t): self.values[id(t)].tensor for t in node.input_tensors}
            args, kwargs = node.arguments.fill_in(arguments)
            outputs = [_Value(node.operation(*args, **kwargs))]
        else:
            outputs = self._call_layer(node)
        for old, new in zip(node.outputs, outputs, strict=True):
            self.values[id(old)] = new

    def _call_layer(self, node: Any) -> list[_Value]:
        layer = node.operation
        role = role_of(layer)
        copied = self.rebuilder.copy_of(layer, self.path)
        sources = [self.values[id(t)] for t in node.input_tensors]
        fused = self._fuses(role, node)
        prepares = role is Role.PREPARE and all(value.prepared for value in sources)
        arguments = {
            id(tensor): value.tensor if fused or prepares else self._ranged(value)
            for tensor, value in zip(node.input_tensors, sources, strict=True)
        }
        args, kwargs = node.arguments.fill_in(arguments)
        results = keras.tree.flatten(copied(*args, **kwargs))
        if not is_model(layer):
            take_over(layer, copied)
        if role is Role.HAND_ON:
            bare = all(value.prepared and value.anchor is None for value in sources)
            return [_Value(result, prepared=bare) for result in results]
        if role is Role.MODEL:
            return [self._of_model(copied, position, result) for position, result in enumerate(results)]
        anchor = sources[0].anchor if fused else layer.name
        takes = _takes(layer, role)
        probability = role is Role.PROBABILITY or (role is Role.WEIGHTS and _activation(layer) in PROBABILITIES)
        return [_Value(result, anchor, takes, prepares, probability) for result in results]

    def _fuses(self, role: Role | None, node: Any) -> bool:
        """Whether a layer is fused into the one that computed its input, so that the range comes behind both."""
        source = node.input_tensors[0]
        value = self.values[id(source)]
        return role in value.takes and value.anchor is not None and self.uses[id(source)] == 1

    def _of_model(self, copied: Any, position: int, result: Any) -> _Value:
        # An inner output without range is one that stays float at the output: a probability.
        ranged = isinstance(unwrapped(copied).outputs[position]._keras_history.operation, ActivationRange)
        return _Value(result, None if ranged else copied.name, probability=not ranged)


def _takes(layer: Any, role: Role | None) -> frozenset[Role]:
    if role is Role.WEIGHTS:
        return _FUSED if hasattr(layer, "activation") and activation_of(layer) == "linear" else frozenset()
    return frozenset({Role.CLAMP}) if role in (Role.NORM, Role.COMPUTE) else frozenset()


def _activation(layer: Any) -> str:
    inner = unwrapped(layer)
    return activation_of(inner) if not hasattr(inner, "cell") else "linear"


def is_mask(node: Any) -> bool:
    """Whether a node computes a mask: Keras adds such operations to the graph by itself."""
    return all(str(tensor.dtype) == "bool" for tensor in node.outputs)


def function_of(model: Any) -> Any:
    """Returns the functional model inside a Sequential one."""
    return model._functional if isinstance(model, keras.Sequential) else model


def nodes_of(function: Any) -> Iterator[Any]:
    """Yields the calls that a functional model consists of, inputs first."""
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from (node for node in function._nodes_by_depth[depth] if not node.is_input)


def take_over(source: Any, target: Any) -> None:
    """Gives a copied layer the weights of the float one."""
    if is_model(source):
        return  # its layers have theirs
    for name in ("layer", "cell", "forward_layer", "backward_layer"):
        if hasattr(source, name):
            take_over(getattr(source, name), getattr(target, name))
    own = {weight.name: weight for weight in _own_weights(target)}
    for name, weight in own.items():
        weight.assign(keras.ops.convert_to_numpy(getattr(source, name)))
    floats = [v for v in _own_variables(source) if v.name not in own]
    for old, new in zip(floats, _own_variables(target), strict=True):
        new.assign(old)
    if isinstance(target, keras.layers.Normalization):
        target.finalize_state()


def _own_weights(layer: Any) -> list[Any]:
    return [] if hasattr(layer, "cell") else getattr(layer, "integer_weights", [])


def _own_variables(layer: Any) -> list[Any]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]
