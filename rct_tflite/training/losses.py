"""Losses that fit the outputs of a model."""

from collections.abc import Mapping
from typing import Any

import keras

from rct_tflite.errors import RecipeError
from rct_tflite.training.activation_range import ActivationRange
from rct_tflite.training.placement import PROBABILITIES, activation_of, unwrapped


def check_losses(model: Any, loss: Any) -> None:
    """Refuses a loss that reads logits as probabilities.

    Args:
        model: A functional model.
        loss: What `compile()` takes: a loss, or a list or dict of losses for several outputs.

    Raises:
        RecipeError: If a cross-entropy without `from_logits=True` stands on an output without softmax or sigmoid.
    """
    for output, part in _pairs(model, loss):
        if _expects_probabilities(part) and not gives_probabilities(output):
            raise RecipeError(
                f"Output {output._keras_history.operation.name!r} of the model returns logits, but the loss expects "
                f"probabilities. Received: loss={part!r}. Use the loss class with from_logits=True, or end the model "
                "in a softmax or sigmoid."
            )


def _pairs(model: Any, loss: Any) -> list[tuple[Any, Any]]:
    """Returns each output with its loss; what does not fit together is left to Keras to refuse."""
    outputs = list(model.outputs)
    if isinstance(loss, Mapping):
        by_name = dict(zip(model.output_names, outputs, strict=True))
        if isinstance(model._outputs_struct, dict):
            by_name |= model._outputs_struct
        return [(by_name[name], part) for name, part in loss.items() if name in by_name]
    if isinstance(loss, (list, tuple)):
        return list(zip(outputs, loss, strict=False))
    return [(output, loss) for output in outputs]


def _expects_probabilities(loss: Any) -> bool:
    if isinstance(loss, keras.losses.Loss):
        return not loss.get_config().get("from_logits", True)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    known = isinstance(loss, str) or getattr(keras.losses, name, None) is loss
    return known and name.lower().replace("_", "").endswith("crossentropy")


def gives_probabilities(output: Any) -> bool:
    """Whether an output of a model comes from a softmax or a sigmoid, through layers that hand values on."""
    layer, node_index, position = output._keras_history
    layer = unwrapped(layer)
    if isinstance(layer, keras.Model):
        return bool(getattr(layer, "outputs", None)) and gives_probabilities(layer.outputs[position])
    if isinstance(layer, keras.layers.Softmax) or activation_of(layer) in PROBABILITIES:
        return True
    if isinstance(layer, (ActivationRange, keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity)):
        (source,) = layer._inbound_nodes[node_index].input_tensors
        return gives_probabilities(source)
    return False
