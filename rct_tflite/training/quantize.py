"""From a float Keras model to a quantised-only one."""

from typing import Any

import keras

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.chain import (
    PLAIN_CHECKS,
    Check,
    Stage,
    activation_name,
    check_activation,
    check_format,
    check_layers,
    is_compute,
    links_of,
    refuse,
    stages_of,
)
from rct_tflite.training.layers import ActivationRange, Conv2D, Dense
from rct_tflite.training.model import RCTModel
from rct_tflite.training.quantized_layer import Quantized


def quantize(keras_model: Any, recipe: Recipe | None = None, seed: int = 0) -> RCTModel:
    """Makes a model with integer kernels from a float one, which stays as it is.

    The weights, fresh or pretrained, are taken over; layer names stay. `ActivationRange` layers are put on the
    input and behind each Conv2D or Dense with its batch normalisation and ReLU. Compile the result anew.

    Args:
        keras_model: A chain of supported layers, Sequential or functional, that ends in logits.
        recipe: Bit-widths, rounding and range; the default starts at 6 bits.
        seed: Of the stochastic rounding.

    Returns:
        The quantised model.

    Raises:
        UnsupportedLayerError: If a layer cannot be quantised. Every such layer is named.
        QuantizationError: If a weight is not a finite number.
    """
    if isinstance(keras_model, RCTModel) or any(
        isinstance(layer, Quantized) for layer in getattr(keras_model, "layers", ())
    ):
        raise UnsupportedLayerError(
            f"Model {keras_model.name!r} is quantised already. Expected a float Keras model. "
            "Received: a model with rct layers. Train it as it is."
        )
    links = links_of(keras_model)
    check_layers(keras_model, links, _CHECKS)
    stages = stages_of(keras_model, links)
    if not any(is_compute(stage.link.layer) for stage in stages):
        refuse(keras_model, ["no Conv2D or Dense layer, so there is nothing to quantise"])
    return _rebuild(keras_model, stages, recipe or Recipe(), seed)


def _rebuild(keras_model: Any, stages: list[Stage], recipe: Recipe, seed: int) -> RCTModel:
    name = _input_name(keras_model)
    inputs = keras.Input(keras_model.input_shape[1:], name=name)
    outputs = ActivationRange(name=f"{name}_range")(inputs)
    for stage in stages:
        layer = stage.link.layer
        if not is_compute(layer):
            outputs = _copy(layer, outputs)
            continue
        outputs = _quantized(layer, outputs, recipe)
        for fused in (stage.batch_norm, stage.activation_layer):
            if fused is not None:
                outputs = _copy(fused, outputs)
        outputs = ActivationRange(name=f"{layer.name}_range")(outputs)
    return RCTModel(inputs, outputs, name=keras_model.name, seed=seed)


def _input_name(keras_model: Any) -> str:
    taken = {layer.name for layer in keras_model.layers if not isinstance(layer, keras.layers.InputLayer)}
    return "input" if "input" not in taken else "network_input"


def _copy(layer: Any, inputs: Any) -> Any:
    """Calls a copy of a float layer, with its weights."""
    copied = type(layer).from_config(layer.get_config())
    outputs = copied(inputs)
    if layer.weights:
        copied.set_weights(layer.get_weights())
    return outputs


def _quantized(layer: Any, inputs: Any, recipe: Recipe) -> Any:
    """Calls the quantised form of a Conv2D or Dense layer."""
    quantized_class = Dense if isinstance(layer, keras.layers.Dense) else Conv2D
    quantized = quantized_class.from_config({**layer.get_config(), "recipe": recipe.to_dict()})
    outputs = quantized(inputs)
    quantized.integer_weights[0].assign(keras.ops.convert_to_numpy(layer.kernel))
    if layer.use_bias:
        quantized.bias.assign(layer.bias)
    return outputs


def _check_conv(layer: Any) -> str | None:
    if tuple(layer.dilation_rate) != (1, 1) or layer.groups != 1:
        return f"dilation_rate and groups must be 1, but they are {tuple(layer.dilation_rate)} and {layer.groups}"
    return check_format(layer) or _check_compute(layer)


def _check_compute(layer: Any) -> str | None:
    for option in ("kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint"):
        if getattr(layer, option, None) is not None:
            return f"{option} has no meaning for integer weights; remove it"
    if layer.bias_constraint is not None:
        return "bias_constraint is not supported; remove it"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"it is quantised by Keras already ({layer.quantization_mode}); give the float model"
    return check_activation(layer)


_CHECKS: dict[type, Check] = {
    **PLAIN_CHECKS,
    keras.layers.Conv2D: _check_conv,
    keras.layers.Dense: _check_compute,
}
