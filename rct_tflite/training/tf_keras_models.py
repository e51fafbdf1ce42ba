"""Between Keras 3 and tf_keras, the Keras 2 that tensorflow-model-optimization works on: layers, weights, graphs.

tf_keras is imported by the functions that need it: it comes with the extra `qat`.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import tensorflow as tf

from rct_tflite.errors import UnsupportedLayerError

_CONV = ("strides", "padding", "dilation_rate", "use_bias", "activation", "data_format")
_POOL = ("pool_size", "strides", "padding", "data_format")
_RNN = ("units", "activation", "recurrent_activation", "use_bias", "return_sequences", "go_backwards", "unroll")
_SETTINGS: dict[str, tuple[str, ...]] = {
    "Activation": ("activation",),
    "Add": (),
    "AveragePooling1D": _POOL,
    "AveragePooling2D": _POOL,
    "BatchNormalization": ("axis", "momentum", "epsilon", "center", "scale"),
    "Concatenate": ("axis",),
    "Conv1D": ("filters", "kernel_size", "groups", *_CONV),
    "Conv2D": ("filters", "kernel_size", "groups", *_CONV),
    "Conv2DTranspose": ("filters", "kernel_size", *_CONV),
    "Dense": ("units", "use_bias", "activation"),
    "DepthwiseConv2D": ("kernel_size", "depth_multiplier", *_CONV),
    "Dropout": ("rate",),
    "Embedding": ("input_dim", "output_dim", "mask_zero"),
    "Flatten": ("data_format",),
    "GRU": (*_RNN, "reset_after"),
    "GlobalAveragePooling1D": ("data_format", "keepdims"),
    "GlobalAveragePooling2D": ("data_format", "keepdims"),
    "GlobalMaxPooling1D": ("data_format", "keepdims"),
    "GlobalMaxPooling2D": ("data_format", "keepdims"),
    "LSTM": _RNN,
    "LayerNormalization": ("axis", "epsilon", "center", "scale"),
    "MaxPooling1D": _POOL,
    "MaxPooling2D": _POOL,
    "Multiply": (),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Rescaling": ("scale", "offset"),
    "Reshape": ("target_shape",),
    "SeparableConv1D": ("filters", "kernel_size", "depth_multiplier", *_CONV),
    "SeparableConv2D": ("filters", "kernel_size", "depth_multiplier", *_CONV),
    "Softmax": ("axis",),
    "ZeroPadding2D": ("padding", "data_format"),
}
"""Class of a layer, the same in both, to the settings that carry over. Initialisers do not: the weights do."""

_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "softmax", "elu", "swish", "hard_sigmoid")
_FOR_FLOAT_WEIGHTS = ("kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint")


@dataclass(frozen=True)
class LayerCopy:
    """What makes a layer anew in the other Keras.

    Attributes:
        kind: Name of its class.
        name: Name of the layer.
        settings: Arguments of its constructor.
        weights: Arrays, in the order of `set_weights()`; empty if it has none.
        trainable: Whether its weights train.
    """

    kind: str
    name: str
    settings: Mapping[str, Any]
    weights: tuple[Any, ...]
    trainable: bool


def tfmot() -> Any:
    """Imports tensorflow-model-optimization and leaves the process as it was.

    Its import sets `TF_USE_LEGACY_KERAS`, and would turn TensorFlow's own Keras into Keras 2 for the whole
    process: that one is resolved before, and the variable is put back.

    Raises:
        ModuleNotFoundError: If the extra `qat` is not installed.
    """
    for package in ("tensorflow_model_optimization", "tf_keras"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"Quantisation-aware training needs the package {package!r}, which is not installed. "
                "Install it with: pip install 'rct-tflite[qat]'",
                name=package,
            )
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    getattr(tf, "keras").__version__  # noqa: B009, B018 (resolves the lazy module; nothing of it is used)
    try:
        return importlib.import_module("tensorflow_model_optimization")
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


def tf_keras() -> Any:
    """Imports tf_keras.

    Raises:
        ModuleNotFoundError: If the extra `qat` is not installed.
    """
    return importlib.import_module("tf_keras")


def to_tf_keras(model: Any) -> Any:
    """Rebuilds a Keras 3 model in tf_keras, with its weights; nested models are unfolded.

    Args:
        model: A Sequential or functional `keras.Model`.

    Returns:
        A functional `tf_keras.Model` with the same layer names.

    Raises:
        UnsupportedLayerError: If a layer has no counterpart.
    """
    keras_2 = tf_keras()
    rebuild = Rebuild(_keras_3_copy, keras_2.layers, _keras_3_inputs)
    inputs = [keras_2.Input(tuple(t.shape[1:]), dtype=str(t.dtype), name=_input_name(t)) for t in model.inputs]
    outputs = rebuild.graph(model, inputs)
    return keras_2.Model(inputs, outputs, name=model.name)


def _input_name(tensor: Any) -> str:
    return str(tensor._keras_history[0].name)


def _keras_3_inputs(layer: Any, node_index: int) -> list[Any]:
    return list(layer._inbound_nodes[node_index].input_tensors)


def inputs_in_tf_keras(layer: Any, node_index: int) -> list[Any]:
    """Returns the input tensors of a tf_keras layer's call."""
    return list(layer._inbound_nodes[node_index].keras_inputs)


@dataclass
class Rebuild:
    """Builds the graph of a model anew from copies of its layers; a shared layer stays shared.

    Attributes:
        copy: Describes a layer; None for one that passes its input on.
        layers: The module with the classes to build.
        inputs_of: Gives the input tensors of a layer's call, by the index of the call.
        made: The new layers so far, by the identity of the old.
    """

    copy: Callable[[Any], LayerCopy | None]
    layers: Any
    inputs_of: Callable[[Any, int], list[Any]]
    made: dict[int, Any] = field(default_factory=dict)

    def graph(self, model: Any, inputs: list[Any]) -> list[Any]:
        """Returns the new outputs of a model that is called on the new tensors `inputs`."""
        known = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        return [self._tensor(tensor, known) for tensor in model.outputs]

    def _tensor(self, wanted: Any, known: dict[int, Any]) -> Any:
        """Returns the counterpart of a tensor. Deep networks need a stack of their own, not recursion."""
        open_tensors = [wanted]
        while open_tensors:
            tensor = open_tensors[-1]
            if id(tensor) in known:
                open_tensors.pop()
                continue
            layer, node, position = tensor._keras_history
            sources = self.inputs_of(layer, node)
            missing = [source for source in sources if id(source) not in known]
            if missing:
                open_tensors += missing
                continue
            results = self._call(layer, [known[id(source)] for source in sources])
            known[id(tensor)] = results[position]
        return known[id(wanted)]

    def _call(self, layer: Any, inputs: list[Any]) -> list[Any]:
        if getattr(layer, "inputs", None) is not None:  # a model in the model
            return self.graph(layer, inputs)
        if id(layer) in self.made:
            return [self.made[id(layer)](inputs[0] if len(inputs) == 1 else inputs)]
        copy = self.copy(layer)
        if copy is None:
            return inputs
        made = getattr(self.layers, copy.kind)(name=copy.name, trainable=copy.trainable, **copy.settings)
        results = made(inputs[0] if len(inputs) == 1 else inputs)
        if copy.weights:
            made.set_weights(copy.weights)
        self.made[id(layer)] = made
        return [results]


def copy_of(layer: Any, config: Mapping[str, Any], weights: Sequence[Any]) -> LayerCopy:
    """Describes a layer so that the other Keras can make it.

    Args:
        layer: A layer of either Keras.
        config: Its settings.
        weights: Its arrays.

    Raises:
        UnsupportedLayerError: If the layer has no counterpart, or a setting does not carry over.
    """
    kind = type(layer).__name__
    if kind not in _SETTINGS or type(layer).__module__.split(".")[0] not in ("keras", "tf_keras"):
        raise _refusal(layer, f"Expected one of: {', '.join(sorted(_SETTINGS))}")
    for option in _FOR_FLOAT_WEIGHTS:
        if config.get(option) is not None:
            raise _refusal(layer, f"Expected no {option}")
    settings = {name: config[name] for name in _SETTINGS[kind] if name in config}
    for name in ("activation", "recurrent_activation"):
        if name in settings and settings[name] not in _ACTIVATIONS:
            raise _refusal(layer, f"Expected {name} to be one of {_ACTIVATIONS}; a ReLU6 stands in a layer ReLU(6.0)")
    return LayerCopy(kind, layer.name, settings, tuple(weights), layer.trainable)


def _keras_3_copy(layer: Any) -> LayerCopy | None:
    if isinstance(layer, keras.layers.Activation) and layer.get_config()["activation"] == "linear":
        return None
    copy = copy_of(layer, layer.get_config(), layer.get_weights())
    if isinstance(layer, keras.layers.ReLU) and copy.settings["max_value"] is not None:
        return replace(copy, settings={**copy.settings, "max_value": float(copy.settings["max_value"])})
    return copy


def _refusal(layer: Any, expected: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"Layer {layer.name!r} cannot be carried between Keras 3 and tf_keras. {expected}. "
        f"Received: {type(layer).__module__.split('.')[0]} layer {type(layer).__name__} with {layer.get_config()}."
    )
