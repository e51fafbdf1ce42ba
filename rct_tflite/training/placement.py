"""Which part each Keras layer plays in a quantised model, and which layers cannot play one."""

import enum
import re
from typing import Any

import keras
from keras.src.models.functional import Functional

from rct_tflite.training import layers as rct_layers
from rct_tflite.training.quantized_layer import Quantized, problem_of_settings

L = keras.layers

QUANTIZED_CLASSES: dict[type, Any] = {
    L.Conv1D: rct_layers.Conv1D,
    L.Conv2D: rct_layers.Conv2D,
    L.Conv2DTranspose: rct_layers.Conv2DTranspose,
    L.Dense: rct_layers.Dense,
    L.DepthwiseConv2D: rct_layers.DepthwiseConv2D,
    L.Embedding: rct_layers.Embedding,
    L.GRU: rct_layers.GRU,
    L.LSTM: rct_layers.LSTM,
    L.SeparableConv1D: rct_layers.SeparableConv1D,
    L.SeparableConv2D: rct_layers.SeparableConv2D,
}
"""Float class to the class with integer weights."""


class Role(enum.Enum):
    """What a layer does with quantised activations; decides where an `ActivationRange` belongs."""

    WEIGHTS = "multiplies by integer weights; its result needs a range"
    NORM = "scales each channel; fused into weights directly before it"
    CLAMP = "a ReLU; fused into what computes directly before it"
    COMPUTE = "computes new values; its result needs a range"
    PROBABILITY = "as COMPUTE, but at the model's output its result stays float"
    HAND_ON = "moves, picks or drops values; the range before it holds behind it"
    PREPARE = "prepares raw inputs; at the input the range comes behind it"
    MODEL = "a model of its own"


_ROLES: dict[Role, tuple[type, ...]] = {
    Role.NORM: (L.BatchNormalization, rct_layers.BatchNormalization),
    Role.COMPUTE: (
        L.Add, L.Average, L.Concatenate, L.ELU, L.GlobalAveragePooling1D, L.GlobalAveragePooling2D,
        L.LayerNormalization, L.LeakyReLU, L.Maximum, L.Minimum, L.Multiply, L.PReLU, L.Subtract,
    ),
    Role.PROBABILITY: (L.Softmax,),
    Role.HAND_ON: (
        L.AveragePooling1D, L.AveragePooling2D, L.Cropping1D, L.Cropping2D, L.Dropout, L.Flatten,
        L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.Identity, L.MaxPooling1D, L.MaxPooling2D, L.Permute,
        L.RepeatVector, L.Reshape, L.SpatialDropout1D, L.SpatialDropout2D, L.UpSampling1D, L.UpSampling2D,
        L.ZeroPadding1D, L.ZeroPadding2D,
    ),
    Role.PREPARE: (L.Masking, L.Normalization, L.Rescaling),
}  # fmt: skip

_ROLE_OF_CLASS = {kind: role for role, kinds in _ROLES.items() for kind in kinds}
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")
"""What the name of a layer must not hold: TensorFlow makes scopes of them."""
PROBABILITIES = ("softmax", "sigmoid")
CLAMPS = ("relu", "relu6")


def supported() -> str:
    """Returns the names of the supported layers, for error messages."""
    own = sorted(kind.__name__ for kind in QUANTIZED_CLASSES)
    others = sorted({kind.__name__ for kind in _ROLE_OF_CLASS})
    return ", ".join([*own, "Bidirectional", "TimeDistributed", "Activation", "ReLU", *others, "nested models"])


def is_model(layer: Any) -> bool:
    """Whether the layer is a Sequential or functional model, and no subclass with code of its own."""
    return type(layer) in (keras.Sequential, Functional)


def unwrapped(layer: Any) -> Any:
    """Returns what a `TimeDistributed` holds, or one within it; any other layer, models too, as it is."""
    return unwrapped(layer.layer) if isinstance(layer, L.TimeDistributed) else layer


def activation_of(layer: Any) -> str:
    """Returns the name of a layer's activation: "linear" where it has none, "other" for a user's function."""
    if isinstance(layer, L.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return "relu" if plain else "leaky_relu"
    return _name_of(getattr(layer, "activation", None))


def _name_of(function: Any) -> str:
    if function is None:
        return "linear"
    name = str(getattr(function, "__name__", type(function).__name__))
    known = getattr(keras.activations, name, None)
    return name if known is function else "other"


def role_of(layer: Any) -> Role | None:
    """Returns the part that a layer plays, or None if it is not supported."""
    kind = type(layer)
    if is_model(layer):
        return Role.MODEL
    if kind in QUANTIZED_CLASSES:
        return Role.WEIGHTS
    if kind is L.Bidirectional:
        inner = {type(layer.forward_layer), type(layer.backward_layer)}
        return Role.WEIGHTS if inner <= {L.LSTM, L.GRU} else None
    if kind is L.TimeDistributed:
        return role_of(layer.layer)
    if kind in (L.Activation, L.ReLU):
        name = activation_of(layer)
        if name == "linear":
            return Role.HAND_ON
        if name in PROBABILITIES:
            return Role.PROBABILITY
        return Role.CLAMP if name in CLAMPS else Role.COMPUTE
    return _ROLE_OF_CLASS.get(kind)


def problem_of_name(name: str, outermost: bool = False) -> str | None:
    """Returns why no model with this name trains, in Keras neither, or None.

    Args:
        name: Of a layer or a model.
        outermost: Whether it is the name of the whole model.
    """
    if NOT_IN_A_NAME.search(name):
        return "TensorFlow allows only letters from A to Z, digits, '_', '.' and '-' in its name; rename it"
    if outermost and name[:1] in ("_", "-"):
        return "TensorFlow wants the name of a model to begin with a letter or a digit; rename it"
    return None


def problem_of(layer: Any) -> str | None:
    """Returns why a float layer cannot be quantised, or None."""
    if isinstance(layer, Quantized) or getattr(layer, "integer_weights", None):
        return "it is quantised already; give a float model"
    if not isinstance(layer, keras.layers.Layer):
        return "operations of keras.ops are not supported; use the layer of that name"
    if role_of(layer) is None:
        return "this class is not supported"
    if (problem := problem_of_name(layer.name)) is not None:
        return problem
    inner = [getattr(layer, name) for name in ("layer", "forward_layer", "backward_layer") if hasattr(layer, name)]
    for part in [layer, *inner, *([layer.cell] if hasattr(layer, "cell") else [])]:
        problem = problem_of_settings(part)
        for option in ("activation", "recurrent_activation"):
            function = getattr(part, option, None)
            if problem is None and _name_of(function) == "other":
                problem = f"its {option} must be one of keras.activations, but it is {function!r}"
        if problem is not None:
            return problem
    return None
