"""From a trained Keras model to the integers, scales and biases that ship."""

import dataclasses
from typing import Any

import keras

from rct_tflite.errors import QuantizationError, UnsupportedLayerError
from rct_tflite.spec.network import INPUT, TrainedNetwork
from rct_tflite.spec.quantization import AffineQuantization
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.calls import INPUT_VALUE, Call, Calls
from rct_tflite.training.input_scaling import input_scaling
from rct_tflite.training.layers import Embedding
from rct_tflite.training.lowering import Rule, sizes_of
from rct_tflite.training.lowering_plain import RULES as PLAIN_RULES
from rct_tflite.training.lowering_table import RULES as TABLE_RULES
from rct_tflite.training.lowering_weights import RULES as WEIGHTED_RULES
from rct_tflite.training.model import RCTModel
from rct_tflite.training.network_builder import NetworkBuilder
from rct_tflite.training.stages import Stage, grid_of, stages_of

_RULES: dict[type, Rule] = {**PLAIN_RULES, **WEIGHTED_RULES, **TABLE_RULES}
_PREPARE = (
    "the device scales its input with one number: use one (axis=None), first in the model, or scale the data before"
)
_ADVICE = {
    "Average": "use Add, and let the next layer learn the half",
    "GRU": "the device has no recurrent layers; use Conv1D over the time steps",
    "LSTM": "the device has no recurrent layers; use Conv1D over the time steps",
    "LayerNormalization": "the device has no op for it; use BatchNormalization",
    "Normalization": _PREPARE,
    "Rescaling": _PREPARE,
    "UpSampling2D": "use Conv2DTranspose",
}

_OF_IDS = AffineQuantization(1.0, 0)
"""An id is its own number."""

_LOGITS = "the network must end in logits: remove the {} and use a loss with from_logits=True"


def freeze(model: RCTModel) -> TrainedNetwork:
    """Folds batch normalisation into scales and biases and returns the network that is exported.

    The integers are those that were trained; a channel whose gamma is negative has its signs flipped. Only the
    integers of a channel that batch normalisation all but switches off (gamma near 0) are rounded anew. Batch
    normalisation that does not follow weights becomes an op of its own. Nested models are flattened.

    Args:
        model: A trained model.

    Raises:
        UnsupportedLayerError: If the model is not an `RCTModel`, or holds what the device cannot run. Every such
            layer is named.
        QuantizationError: If a range was never observed, or a number is not finite.
    """
    if not isinstance(model, RCTModel):
        raise UnsupportedLayerError(
            f"Only a quantised model can be exported. Received: {type(model).__name__}. "
            "Make one with rct.quantize(model) and train it."
        )
    calls = Calls(model)
    scaling = input_scaling(calls)
    stages = [stage for stage in stages_of(calls) if stage.call not in scaling.calls]
    first = calls.sole_reader(scaling.value)
    readers = calls.readers(INPUT_VALUE)
    takes_ids = bool(readers) and all(isinstance(call.layer, Embedding) for call in readers)
    _check(model, calls, stages, first, takes_ids)
    roundings = sorted({str(weight.recipe.rounding) for weight in model.integer_weights})
    if not roundings:
        raise UnsupportedLayerError(f"Model {model.name!r} has no layer with weights. Expected at least one.")
    if len(roundings) != 1:
        raise QuantizationError(f"All layers must round alike. Expected one rounding. Received: {roundings}.")
    read, grid = (INPUT_VALUE, _OF_IDS) if takes_ids or first is None else (first.output, grid_of(first.layer))
    builder = NetworkBuilder(sizes_of(calls.input_shape), grid)
    places = {read: INPUT}
    for stage in stages:
        if takes_ids or stage.call is not first:
            sources = [places[value] for value in stage.call.sources]
            places[stage.output] = _RULES[type(stage.call.layer)].add(builder, stage, sources)
    network = builder.network(model.name, places[calls.output], roundings[0])
    return dataclasses.replace(network, input_scale=scaling.scale, input_offset=scaling.offset, takes_ids=takes_ids)


def _check(model: Any, calls: Calls, stages: list[Stage], first: Call | None, takes_ids: bool) -> None:
    """Refuses all that cannot be exported, in one error."""
    found = [(stage.call, _problem(calls, stage, first)) for stage in stages]
    found += [(stage.function_call, _function_problem(stage)) for stage in stages]
    problems = [f"{call.shown}: {problem}" for call, problem in found if problem is not None]
    if None in calls.input_shape:
        problems.append(f"the input: every dimension but the batch must be known, but it is {calls.input_shape}")
    if problems:
        listed = "".join(f"\n  - {problem}." for problem in problems)
        raise UnsupportedLayerError(
            f"Model {model.name!r} trains in Keras, but cannot be exported. Expected layers of: {_supported()}. "
            f"Received:{listed}\nReplace these layers, or keep the model in Keras."
        )
    if not takes_ids and (first is None or not isinstance(first.layer, ActivationRange)):
        received = "several layers" if first is None else first.shown
        raise UnsupportedLayerError(
            f"The input of model {model.name!r} has no quantisation. Expected an rct.layers.ActivationRange "
            f"directly after the input. Received: {received}."
        )


def _problem(calls: Calls, stage: Stage, first: Call | None) -> str | None:
    call, layer = stage.call, stage.call.layer
    kind = type(layer).__name__
    if isinstance(layer, ActivationRange):
        return None if call is first else "it must directly follow the input, or what computes values"
    if isinstance(layer, keras.layers.Softmax):
        return _LOGITS.format("softmax")
    if type(layer) not in _RULES:
        return f"this class is not supported{f'; {_ADVICE[kind]}' if kind in _ADVICE else ''}"
    if layer.compute_dtype != "float32":
        return f"its dtype must be float32, but it is {layer.compute_dtype}"
    learns = any(weight.trainable for weight in getattr(layer, "integer_weights", []))
    if learns and calls.uses(layer) > 1:
        return (
            f"it is used {calls.uses(layer)} times, and on the device each use would learn on its own; freeze it "
            "(trainable=False), or give each use a layer of its own"
        )
    return _RULES[type(layer)].check(call)


def _function_problem(stage: Stage) -> str | None:
    name = stage.function.name
    if name == "softmax" or (name == "sigmoid" and stage.ends and stage.range is None):
        return _LOGITS.format(name)
    return stage.function.problem


def _supported() -> str:
    names = sorted({kind.__name__ for kind in _RULES} | {"ActivationRange"})
    return f"{', '.join(names)}, and nested models of these"
