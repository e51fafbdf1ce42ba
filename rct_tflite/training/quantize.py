"""From a float Keras model to a quantised-only one."""

from typing import Any

import keras

from rct_tflite.errors import RecipeError, UnsupportedLayerError
from rct_tflite.spec.recipe import Recipe
from rct_tflite.training.model import RCTModel
from rct_tflite.training.placement import Role, is_model, problem_of, problem_of_name, role_of, supported, unwrapped
from rct_tflite.training.rebuild import Rebuilder, function_of, is_mask, nodes_of


def quantize(keras_model: Any, recipe: Recipe | None = None, seed: int = 0) -> RCTModel:
    """Makes a model with integer weights from a float one, which stays as it is.

    Branches, several inputs and outputs, nested models and shared layers stay what they are, and so do names. The
    weights, fresh or pretrained, are taken over. An `ActivationRange` is put behind each input and behind each layer
    that computes new values; one behind weights with their batch normalisation and ReLU. A softmax or sigmoid at an
    output stays float. Inputs that hold the indices of an `Embedding` have no range. Compile the result anew.

    Args:
        keras_model: A Sequential or functional model of supported layers.
        recipe: Bit-widths, rounding and range, with rules for some layers; the default starts at 6 bits.
        seed: Of the stochastic rounding.

    Returns:
        The quantised model.

    Raises:
        UnsupportedLayerError: If a layer cannot be quantised. Every such layer is named.
        RecipeError: If a rule of the recipe fits no layer, rules do not fit together, or it is no `Recipe`.
        QuantizationError: If a weight is not a finite number.
    """
    recipe = recipe or Recipe()
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"This is not a recipe. Expected an rct.Recipe. Received: {recipe!r}. "
            "Read a file with rct.Recipe.load(path), a dict with rct.Recipe.from_dict(values)."
        )
    _check(keras_model)
    rebuilder = Rebuilder(recipe)
    inputs, outputs = rebuilder.rebuild(keras_model, "")
    model = RCTModel(inputs, outputs, name=keras_model.name, seed=seed)
    _check_rules(recipe, [*rebuilder.paths, *(weight.label for weight in model.integer_weights)])
    return model


def _check(model: Any) -> None:
    if isinstance(model, RCTModel):
        raise UnsupportedLayerError(
            f"Model {model.name!r} is quantised already. Expected a float Keras model. "
            "Received: an RCTModel. Train it as it is."
        )
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(
            f"This is not a Keras model. Received: {type(model).__module__}.{type(model).__name__}."
        )
    problems = _problems(model, "")
    if not problems and not _has_weights(model):
        problems = ["no layer with weights such as Conv2D or Dense, so there is nothing to quantise"]
    if problems:
        listed = "".join(f"\n  - {problem}." for problem in problems)
        raise UnsupportedLayerError(
            f"Model {model.name!r} cannot be quantised. Expected a Sequential or functional model of: {supported()}. "
            f"Received:{listed}\nNothing was changed: replace these layers and try again."
        )


def _problems(model: Any, path: str) -> list[str]:
    shown = f"{path[:-1] or model.name!r} ({type(model).__name__})"
    if isinstance(model, RCTModel):
        return [f"{shown}: it is quantised already; give a float model"]
    if not is_model(model) or not getattr(model, "inputs", None):
        reason = "a subclass with code of its own" if not is_model(model) else "a model without input"
        return [
            f"{shown}: {reason}; its layers are not known. Make it a Sequential model with a keras.Input, or a "
            "functional one"
        ]
    problem = problem_of_name(model.name, outermost=not path)
    found = [] if problem is None else [f"{shown}: {problem}"]
    for layer in _operations_of(model):
        if not isinstance(layer, keras.Model) and (problem := problem_of(layer)) is not None:
            found.append(f"{path + layer.name!r} ({type(layer).__name__}): {problem}")
        elif isinstance(unwrapped(layer), keras.Model):
            found += _problems(unwrapped(layer), f"{path}{layer.name}/")
    return found


def _operations_of(model: Any) -> list[Any]:
    """Returns the layers that a model calls, each once, and operations that are no layers."""
    calls = [node.operation for node in nodes_of(function_of(model)) if not is_mask(node)]
    return list({id(operation): operation for operation in calls}.values())


def _has_weights(model: Any) -> bool:
    return any(
        _has_weights(unwrapped(layer)) if is_model(unwrapped(layer)) else role_of(layer) is Role.WEIGHTS
        for layer in _operations_of(model)
    )


def _check_rules(recipe: Recipe, names: list[str]) -> None:
    for rule in recipe.rules:
        if not rule.matches(names):
            raise RecipeError(
                f"The rule for {rule.pattern!r} fits no layer. Expected a pattern of one of these names: "
                f"{sorted(set(names))}. Received: {rule.pattern!r}."
            )
