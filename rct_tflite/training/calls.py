"""Reading a quantised model as a list of calls of its layers, nested models flattened."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.training.placement import is_model, unwrapped
from rct_tflite.training.rebuild import function_of, is_mask, nodes_of

INPUT_VALUE = 0
"""The number of the model's input."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer. Values, which layers read and compute, are numbered.

    Attributes:
        layer: The layer.
        label: Its name behind those of the models around it, each followed by a slash.
        sources: What it reads.
        output: What it computes.
        input_shapes: Of the sources, without batch axis.
        output_shape: Without batch axis.
    """

    layer: Any
    label: str
    sources: tuple[int, ...]
    output: int
    input_shapes: tuple[Shape, ...]
    output_shape: Shape

    @property
    def shown(self) -> str:
        """Name and class, for error messages."""
        return f"{self.label!r} ({type(self.layer).__name__})"


class Calls:
    """The calls of a model, in an order in which each reads what is there.

    Args:
        model: A functional model.

    Attributes:
        all: The calls.
        output: The value that the model gives.
        input_shape: Of the model's input, without batch axis.

    Raises:
        UnsupportedLayerError: If the model has several inputs or outputs, or a layer within has several outputs.
    """

    def __init__(self, model: Any):
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UnsupportedLayerError(
                f"Model {model.name!r} trains in Keras, but the device runs one input and one output. "
                f"Expected one of each. Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs. "
                "Join the inputs in one tensor, and export a model for each output."
            )
        self.all: list[Call] = []
        self.input_shape: Shape = tuple(model.inputs[0].shape[1:])
        self._values = 1
        (self.output,) = self._flatten(model, [INPUT_VALUE], "")
        self._readers: dict[int, list[Call]] = defaultdict(list)
        for call in self.all:
            for source in set(call.sources):
                self._readers[source].append(call)

    def readers(self, value: int) -> list[Call]:
        """Returns the calls that read a value."""
        return self._readers[value]

    def sole_reader(self, value: int) -> Call | None:
        """Returns the only call that reads a value, None where there are several, or the model gives it."""
        readers = self._readers[value]
        return readers[0] if len(readers) == 1 and value != self.output else None

    def uses(self, layer: Any) -> int:
        """Returns how often a layer is called."""
        return sum(call.layer is layer for call in self.all)

    def _flatten(self, model: Any, inputs: list[int], path: str) -> list[int]:
        """Adds the calls of a model that reads some values; returns those that it gives."""
        function = function_of(model)
        known = {id(tensor): value for tensor, value in zip(function.inputs, inputs, strict=True)}
        for node in nodes_of(function):
            if is_mask(node):
                continue
            tensors = [tensor for tensor in node.input_tensors if id(tensor) in known]
            sources = [known[id(tensor)] for tensor in tensors]
            layer, label = node.operation, f"{path}{node.operation.name}"
            if is_model(layer):
                outputs = self._flatten(layer, sources, f"{label}/")
            else:
                outputs = [self._add(layer, label, sources, tensors, node.outputs)]
            known |= {id(tensor): value for tensor, value in zip(node.outputs, outputs, strict=True)}
        return [known[id(tensor)] for tensor in function.outputs]

    def _add(self, layer: Any, label: str, sources: list[int], tensors: list[Any], outputs: list[Any]) -> int:
        if len(outputs) != 1:
            raise UnsupportedLayerError(
                f"Layer {label!r} ({type(layer).__name__}) cannot be exported. Expected one output. "
                f"Received: {len(outputs)} outputs. Leave out return_state, or keep the model in Keras."
            )
        output = self._values
        self._values += 1
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors)
        self.all.append(Call(unwrapped(layer), label, tuple(sources), output, shapes, tuple(outputs[0].shape[1:])))
        return output
