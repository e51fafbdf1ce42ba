"""tensorflow-model-optimization: the baseline that RCT is compared with, and taking over what it trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rct_tflite.errors import ModelFileError
from rct_tflite.spec.quantization import top
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.model import RCTModel
from rct_tflite.training.quantize import quantize
from rct_tflite.training.tf_keras_models import (
    LayerCopy,
    Rebuild,
    copy_of,
    inputs_in_tf_keras,
    tf_keras,
    tfmot,
    to_tf_keras,
)

_BITS = 8
_UNTRAINED = (-6.0, 6.0)
"""The range that a weight quantiser of tfmot holds before its first training step."""


@dataclass(frozen=True)
class QatModel:
    """A model for quantisation-aware training.

    Attributes:
        model: The `tf_keras.Model`, to be compiled with tf_keras's optimizers and losses.
        unquantized: "name (class)" of the layers with weights, or that compute, which tfmot leaves in float32.
    """

    model: Any
    unquantized: tuple[str, ...]


def quantization_aware(model: Any) -> QatModel:
    """Makes the baseline: the same architecture and weights, trained with fake quantisation by tfmot.

    Where tfmot has a scheme for every layer, this is `tfmot.quantization.keras.quantize_model`. The layers that
    it has none for (Embedding, LSTM, GRU, Conv1D, MaxPooling1D, Multiply...) stay in float32, and are listed.

    Args:
        model: A Keras 3 model, fresh or trained. It stays as it is.

    Raises:
        UnsupportedLayerError: If a layer has no counterpart in tf_keras.
        ModuleNotFoundError: If the extra `qat` is not installed.
    """
    tfmot()
    keras_2 = tf_keras()
    floating = to_tf_keras(model)
    embeddings = [layer for layer in floating.layers if isinstance(layer, keras_2.layers.Embedding)]
    if not embeddings:
        return _quantized(floating)
    # tfmot would round the input of the whole model to 8 bits: the numbers of words must stay outside.
    cut = [layer.get_output_at(call) for layer in embeddings for call in range(len(layer._inbound_nodes))]
    inner = _quantized(keras_2.Model(cut, floating.outputs, name=floating.name))
    outer = keras_2.Model(floating.inputs, cut, name=f"{floating.name}_embedding")
    joined = keras_2.Model(outer.inputs, inner.model(outer.outputs), name=floating.name)
    return QatModel(joined, (*_names(embeddings), *inner.unquantized))


def _quantized(floating: Any) -> QatModel:
    unquantized = _not_quantized(floating)
    if not unquantized:
        return QatModel(tfmot().quantization.keras.quantize_model(floating), ())
    return QatModel(_quantize_some(floating, {layer.name for layer in unquantized}), _names(unquantized))


def _names(layers: Sequence[Any]) -> tuple[str, ...]:
    return tuple(f"{layer.name} ({type(layer).__name__})" for layer in layers)


def _not_quantized(model: Any) -> list[Any]:
    keras_2 = tf_keras()
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as schemes,
    )

    registry = schemes.Default8BitQuantizeRegistry()
    split = (keras_2.layers.SeparableConv1D, keras_2.layers.SeparableConv2D)  # into layers that it supports
    return [
        layer
        for layer in model.layers
        if not isinstance(layer, (keras_2.layers.InputLayer, *split))
        and not registry.supports(layer)
        and not _folds(layer)
    ]


def _folds(layer: Any) -> bool:
    """Whether tfmot handles a batch normalisation together with the layer before it."""
    keras_2 = tf_keras()
    before = (keras_2.layers.Conv2D, keras_2.layers.DepthwiseConv2D, keras_2.layers.Dense)
    return isinstance(layer, keras_2.layers.BatchNormalization) and isinstance(layer.input._keras_history.layer, before)


def _quantize_some(model: Any, left_out: set[str]) -> Any:
    keras_2 = tf_keras()
    optimization = tfmot().quantization.keras
    annotated = keras_2.models.clone_model(
        model,
        clone_function=lambda layer: layer if layer.name in left_out else optimization.quantize_annotate_layer(layer),
    )
    return optimization.quantize_apply(annotated)


def from_tfmot(model: Any, recipe: Recipe | None = None, seed: int = 0) -> RCTModel:
    """Takes over a model that was trained with tfmot's quantisation-aware training.

    Its integers, scales and activation ranges become the start of an `RCTModel`, which predicts the same and
    trains on without the float copy. The range of the weights is frozen as tfmot left it: without headroom.

    Args:
        model: The `tf_keras` model, or the path of the `.h5` file that it was saved to.
        recipe: Rounding and limits of the bit-widths; it starts with 8 bits per channel in any case.
        seed: Of the stochastic rounding.

    Returns:
        The quantised model, to be compiled anew.

    Raises:
        ModelFileError: If the file cannot be read, or the model was not quantised or never trained.
        UnsupportedLayerError: If a layer cannot be quantised by us.
        ModuleNotFoundError: If the extra `qat` is not installed.
    """
    tfmot()
    source = _load(model) if isinstance(model, (str, Path)) else model
    start = replace(
        recipe or Recipe(), bits=_BITS, max_bits=max(_BITS, (recipe or Recipe()).max_bits), per_channel=True
    )
    quantized = quantize(_float_model(source), start, seed)
    trained = {layer.layer.name: layer for layer in source.layers if _is_wrapper(layer)}
    for weight in quantized.integer_weights:
        if weight.label in trained:
            _take_weight(weight, trained[weight.label])
    _take_ranges(source, quantized)
    return quantized


def _load(path: str | Path) -> Any:
    keras_2 = tf_keras()
    try:
        with tfmot().quantization.keras.quantize_scope():
            return keras_2.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(
            f"Cannot load {str(path)!r}. Expected an .h5 file that a tf_keras model with tfmot's quantisation was "
            f"saved to (a .keras file of such a model cannot be loaded by tf_keras). Received: {error}."
        ) from error


def _is_wrapper(layer: Any) -> bool:
    return hasattr(layer, "quantize_config") and hasattr(layer, "layer")


def _float_model(source: Any) -> Any:
    """Rebuilds the architecture in Keras 3 with the float weights that tfmot keeps."""
    layers = getattr(source, "layers", ())
    if not any(_is_wrapper(layer) for layer in layers):
        raise ModelFileError(
            "Only a model that tfmot has quantised can be taken over. Expected the result of "
            f"tfmot.quantization.keras.quantize_model. Received: {type(source).__module__}.{type(source).__name__} "
            "without quantised layers. A Keras 3 model becomes an RCT model with rct.quantize()."
        )
    rebuild = Rebuild(_copy_of_wrapped, keras.layers, inputs_in_tf_keras)
    inputs = [
        keras.Input(tuple(tensor.shape[1:]), dtype=tensor.dtype.name, name=tensor._keras_history.layer.name)
        for tensor in source.inputs
    ]
    return keras.Model(inputs, rebuild.graph(source, inputs), name=source.name)


def _copy_of_wrapped(wrapper: Any) -> LayerCopy | None:
    if type(wrapper).__name__ == "QuantizeLayer":
        return None
    layer = wrapper.layer if _is_wrapper(wrapper) else wrapper
    config = dict(layer.get_config())
    if "activation" in config:
        config["activation"] = _activation(layer.activation)
    for name, value in config.items():
        if name == "axis" and not isinstance(value, int):
            (config[name],) = value
        elif isinstance(value, np.ndarray):
            config[name] = value.item()
    # The wrapper puts tensors in the place of the variables that it quantises, so that the layer lists the others.
    kernels = [np.asarray(variable) for variable, _, _ in getattr(wrapper, "_weight_vars", ())]
    return copy_of(layer, config, [*kernels, *layer.get_weights()])


def _activation(activation: Any) -> str:
    wrapped = getattr(activation, "activation", activation)
    name = getattr(wrapped, "__name__", type(wrapped).__name__)
    return "linear" if name == "NoOpActivation" else str(name)


def _take_weight(weight: Any, wrapper: Any) -> None:
    """Gives an integer weight the integers and the scales that tfmot's quantiser computes with."""
    (variable, _, limits) = wrapper._weight_vars[0]
    low, high = (np.asarray(limits[name]) for name in ("min_var", "max_var"))
    if np.all(low == _UNTRAINED[0]) and np.all(high == _UNTRAINED[1]):
        raise ModelFileError(
            f"Layer {wrapper.layer.name!r} was never trained with quantisation: its quantiser has seen no weights. "
            "Expected a model after fit(). To start from float weights use rct.quantize()."
        )
    scale = (np.maximum(-low, high) / np.float32(top(_BITS))).astype(np.float32)
    weights = np.asarray(variable).reshape(weight.integers.shape)
    scale = np.broadcast_to(scale, weight.scale.shape)
    weight.scale.assign(scale)
    weight.integers.assign(np.clip(np.rint(weights / scale), -top(_BITS), top(_BITS)))


def _take_ranges(source: Any, quantized: RCTModel) -> None:
    """Gives each activation range of ours the one that tfmot holds for the output of the same layer."""
    limits = {
        layer.layer.name if _is_wrapper(layer) else layer.input._keras_history.layer.name: found
        for layer in source.layers
        if (found := _output_limits(layer)) is not None
    }
    inputs = {  # ours may have another name
        ours._keras_history.operation.name: theirs._keras_history.layer.name
        for ours, theirs in zip(quantized.inputs, source.inputs, strict=True)
    }
    for layer in quantized.layers:
        if isinstance(layer, ActivationRange):
            producer = layer.input._keras_history.operation.name
            found = limits.get(inputs.get(producer, producer))
            if found is not None:
                layer.minimum.assign(found[0])
                layer.maximum.assign(found[1])
                layer.observed.assign(1)


def _output_limits(layer: Any) -> tuple[float, float] | None:
    names = {variable.name.split("/")[-1].split(":")[0]: variable for variable in layer.weights}
    for kind in ("output", "post_activation", layer.name):
        if f"{kind}_min" in names:
            return float(names[f"{kind}_min"]), float(names[f"{kind}_max"])
    return None
