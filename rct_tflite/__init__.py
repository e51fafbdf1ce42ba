"""Train quantised-only in Keras, ship to a microcontroller, keep training there, with the same integers.

The public names load on first use: importing the package imports neither Keras nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rct_tflite.spec.recipe import Recipe, Rule
    from rct_tflite.training import layers, optimizers
    from rct_tflite.training.callback import RCTCallback
    from rct_tflite.training.model import RCTModel
    from rct_tflite.training.quantize import quantize
    from rct_tflite.training.saving import load_model
    from rct_tflite.training.tfmot_bridge import from_tfmot

_MODULES = {
    "RCTCallback": "rct_tflite.training.callback",
    "RCTModel": "rct_tflite.training.model",
    "Recipe": "rct_tflite.spec.recipe",
    "Rule": "rct_tflite.spec.recipe",
    "from_tfmot": "rct_tflite.training.tfmot_bridge",
    "layers": "rct_tflite.training.layers",
    "load_model": "rct_tflite.training.saving",
    "optimizers": "rct_tflite.training.optimizers",
    "quantize": "rct_tflite.training.quantize",
}
"""Public name to the module that holds it; a lower-case name without such an attribute is the module."""

__all__ = ["RCTCallback", "RCTModel", "Recipe", "Rule", "from_tfmot", "layers", "load_model", "optimizers", "quantize"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES[name])
    value: object = getattr(module, name, module)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
