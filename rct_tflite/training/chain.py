"""Reading a quantised model as a chain of layers, and grouping what computes as one op on the device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.spec.graph import Activation
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.layers import BatchNormalization, Conv2D, Dense

SUPPORTED = (
    "rct.layers.Conv2D and Dense with their ActivationRange, BatchNormalization, ReLU (also max_value=6), "
    "Activation('relu'), MaxPooling2D, AveragePooling2D, Flatten, Reshape, Dropout"
)
POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_SOFTMAX = "the network must end in logits: remove the softmax and use a loss with from_logits=True. The argmax stays"

Check = Callable[[Any], str | None]
"""Returns what is wrong with a layer's settings, or None."""


@dataclass(frozen=True, eq=False)
class Link:
    """One layer of a chain; the shapes have no batch axis."""

    layer: Any
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]


@dataclass(eq=False)
class Stage:
    """What becomes one op: a layer, and what is fused into it if it has weights.

    Attributes:
        link: The layer that gives the op its name.
        batch_norm: Folded into the weights.
        activation_layer: A layer of its own that is fused; None also where the layer itself has the activation.
        activation: The fused activation.
        range: The quantisation of the result; None where it is missing.
    """

    link: Link
    batch_norm: Any = None
    activation_layer: Any = None
    activation: Activation = Activation.NONE
    range: ActivationRange | None = None


def links_of(model: Any) -> list[Link]:
    """Returns the layers between the model's input and its output, first layer first.

    Raises:
        UnsupportedLayerError: If the model is not a chain.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedLayerError(
            f"Model {model.name!r} trains in Keras, but cannot be exported yet: it is not a chain of layers. "
            "Expected one input and one output. "
            f"Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs."
        )
    links: list[Link] = []
    tensor = model.outputs[0]
    while tensor is not model.inputs[0]:
        layer, node_index, _ = tensor._keras_history
        sources = layer._inbound_nodes[node_index].input_tensors
        if len(sources) != 1 or any(link.layer is layer for link in links):
            raise UnsupportedLayerError(
                f"Model {model.name!r} trains in Keras, but cannot be exported yet: it is not a chain of layers. "
                "Expected every layer to have one input and one use. "
                f"Received: layer {layer.name!r} ({type(layer).__name__}) with {len(sources)} inputs or several uses."
            )
        links.append(Link(layer, tuple(sources[0].shape[1:]), tuple(tensor.shape[1:])))
        tensor = sources[0]
    return links[::-1]


def check_layers(model: Any, links: Sequence[Link], checks: Mapping[type, Check]) -> None:
    """Refuses every layer that is not in `checks`, or fails its check, in one error.

    Raises:
        UnsupportedLayerError: Naming each such layer, its class and the reason.
    """
    problems = [
        f"{link.layer.name!r} ({type(link.layer).__name__}): {problem}"
        for link in links
        if (problem := _problem(link, checks)) is not None
    ]
    if None in links[0].input_shape if links else False:
        problems.append(f"the input: every dimension but the batch must be known, but it is {links[0].input_shape}")
    refuse(model, problems)


def refuse(model: Any, problems: Sequence[str]) -> None:
    """Raises one error that lists the problems, if there are any.

    Raises:
        UnsupportedLayerError: If `problems` is not empty.
    """
    if problems:
        listed = "".join(f"\n  - {problem}." for problem in problems)
        raise UnsupportedLayerError(
            f"Model {model.name!r} trains in Keras, but cannot be exported yet. Expected a chain of: {SUPPORTED}. "
            f"Received:{listed}\nReplace these layers, or keep the model in Keras."
        )


def _problem(link: Link, checks: Mapping[type, Check]) -> str | None:
    layer = link.layer
    if type(layer) not in checks:
        return _SOFTMAX if isinstance(layer, keras.layers.Softmax) else "this class is not supported"
    if layer.compute_dtype != "float32":
        return f"its dtype must be float32, but it is {layer.compute_dtype}"
    if hasattr(layer, "units") and len(link.input_shape) != 1:
        return f"its input must have one axis beside the batch, but it is {link.input_shape}; put a Flatten before it"
    return checks[type(layer)](layer)


def activation_name(layer: Any) -> str:
    """Returns the name of a layer's activation: "linear", "relu", or another that is not supported."""
    if isinstance(layer, keras.layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value, "other") if plain else "other"
    if isinstance(layer.activation, str):
        return layer.activation
    return str(getattr(layer.activation, "__name__", layer.activation))


def check_activation(layer: Any) -> str | None:
    """Returns what is wrong with a layer's activation, or None."""
    name = activation_name(layer)
    if name == "softmax":
        return _SOFTMAX
    if name not in ("linear", "relu", "relu6"):
        return f"its activation must be linear, ReLU or ReLU6 (no slope, no threshold), but it is {name}"
    return None


def check_format(layer: Any) -> str | None:
    """Returns what is wrong with a layer's data format, or None."""
    return None if layer.data_format == "channels_last" else "its data_format must be 'channels_last'"


def check_batch_norm(layer: Any) -> str | None:
    """Returns what is wrong with a batch normalisation, or None."""
    last = len(layer.input.shape) - 1 if layer.built and layer._inbound_nodes else -1
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    return None if axis in (-1, last) else f"its axis must be the last one, but it is {axis}"


PLAIN_CHECKS: dict[type, Check] = {
    keras.layers.BatchNormalization: check_batch_norm,
    BatchNormalization: check_batch_norm,
    keras.layers.ReLU: check_activation,
    keras.layers.Activation: check_activation,
    keras.layers.MaxPooling2D: check_format,
    keras.layers.AveragePooling2D: check_format,
    keras.layers.Flatten: check_format,
    keras.layers.Reshape: lambda _: None,
    keras.layers.Dropout: lambda _: None,
}
"""The layers that are exported as they are."""


def stages_of(model: Any, links: Sequence[Link]) -> list[Stage]:
    """Groups checked layers: Conv2D or Dense, then BatchNormalization, then ReLU, then ActivationRange.

    An `ActivationRange` on the model's input is left out.

    Raises:
        UnsupportedLayerError: If a layer stands where it cannot be fused.
    """
    stages: list[Stage] = []
    problems: list[str] = []
    for position, link in enumerate(links):
        problem = None
        if isinstance(link.layer, keras.layers.BatchNormalization):
            problem = _fuse_batch_norm(stages, link.layer)
        elif isinstance(link.layer, (keras.layers.ReLU, keras.layers.Activation)):
            problem = _fuse_activation(stages, link.layer)
        elif isinstance(link.layer, ActivationRange):
            problem = _fuse_range(stages, link.layer) if position else None
        else:
            activation = activation_name(link.layer) if is_compute(link.layer) else "linear"
            stages.append(Stage(link, activation=_ACTIVATIONS[activation]))
        if problem:
            problems.append(f"{link.layer.name!r} ({type(link.layer).__name__}): {problem}")
    refuse(model, problems)
    return stages


_ACTIVATIONS = {"linear": Activation.NONE, "relu": Activation.RELU, "relu6": Activation.RELU6}


def is_compute(layer: Any) -> bool:
    """Whether the layer has integer weights."""
    return isinstance(layer, (Conv2D, Dense))


def _fuse_batch_norm(stages: list[Stage], layer: Any) -> str | None:
    stage = stages[-1] if stages else None
    free = stage and is_compute(stage.link.layer) and not (stage.batch_norm or stage.activation_layer or stage.range)
    if stage is None or not free or stage.activation is not Activation.NONE:
        return "it must directly follow a Conv2D or Dense without activation, so that it folds into the weights"
    stage.batch_norm = layer
    return None


def _fuse_activation(stages: list[Stage], layer: Any) -> str | None:
    name = activation_name(layer)
    if name == "linear":
        return None
    stage = stages[-1] if stages else None
    if stage is None or not is_compute(stage.link.layer) or stage.range or stage.activation is not Activation.NONE:
        return "it must directly follow a Conv2D, Dense or BatchNormalization, so that it is fused"
    stage.activation_layer = layer
    stage.activation = _ACTIVATIONS[name]
    return None


def _fuse_range(stages: list[Stage], layer: ActivationRange) -> str | None:
    if not stages or not is_compute(stages[-1].link.layer) or stages[-1].range:
        return "it must directly follow the input, or a Conv2D or Dense with its BatchNormalization and ReLU"
    stages[-1].range = layer
    return None
