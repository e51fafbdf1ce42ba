"""The cost of a layer from its shape, for kernels whose instructions nobody counted (those of the published stacks).

Ours are counted on the emulated core; these are not at hand, so their cost items stand in for instructions.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.shrinkage import LogNormal, tied
from tools.energy_evaluation.table import Layer

Array = npt.NDArray[np.float64]

ITEMS = (
    ("conv_mac", 2.0),
    ("pointwise_mac", 2.0),
    ("fully_connected_mac", 2.0),
    ("gathered_run", 30.0),
    ("gathered_byte", 6.0),
    ("output", 50.0),
    ("depthwise_output", 50.0),
    ("depthwise_mac", 10.0),
    ("depthwise_position", 100.0),
    ("add_element", 120.0),
)
"""Cost items of int8 kernels, and the cycles of a Cortex-M4 that are expected before anything is measured, each
known to a factor of 2 (`PRIOR_DEVIATION`). A MAC: 6 to 8 instructions for four. A gathered run: the call that copies
the channels of one kernel tap, with its bounds. A gathered byte: load, subtract, store. An output: 64-bit multiply,
rounding, shift, clamp, store. A depthwise MAC: two byte loads, address, multiply. A position: its bounds. An added
element: three requantisations."""

PRIOR_DEVIATION = 0.7
LIKE = ((0, 1, 2), (5, 6, 9))
"""Items of like work: MACs, and what is mostly requantising, outputs and added elements."""
LAYER_ERROR = 0.05
"""Relative error of a measured layer, beside its borders."""
FORM_ERROR = 0.12
"""Relative error of the cost items for a shape that was not measured: kernels have cases that they do not know."""
BORDER_MS = 1.0
"""Borders of the layers in the traces are good to one sample."""


def items_of(layer: Layer) -> Array:
    """Returns how often each of `ITEMS` occurs in a layer, float64 (len(ITEMS),)."""
    counts = dict.fromkeys((name for name, _ in ITEMS), 0.0)
    if layer.op == "CONV_2D":
        counts["output"] = layer.outputs
        if layer.kernel == layer.stride == (1, 1):
            counts["pointwise_mac"] = layer.macs
        else:
            runs = layer.positions * layer.kernel[0] * layer.kernel[1]
            counts |= {"conv_mac": layer.macs, "gathered_run": runs, "gathered_byte": runs * layer.in_channels}
    elif layer.op == "DEPTHWISE_CONV_2D":
        counts |= {"depthwise_mac": layer.macs, "depthwise_output": layer.outputs}
        counts["depthwise_position"] = layer.positions
    elif layer.op == "FULLY_CONNECTED":
        counts |= {"fully_connected_mac": layer.macs, "output": layer.outputs}
    elif layer.op == "ADD":
        counts["add_element"] = layer.outputs
    return np.array([counts[name] for name, _ in ITEMS])


def items_of_model(layers: Sequence[Layer], model: str) -> Array:
    """Returns the sum over a model's layers."""
    return np.sum([items_of(layer) for layer in layers if layer.model == model], axis=0)


def default_costs() -> LogNormal:
    """Returns the cycles of each item before anything is measured."""
    return tied(np.array([cost for _, cost in ITEMS]), np.full(len(ITEMS), PRIOR_DEVIATION), 0.0, LIKE)


def border_error(layer: Layer) -> float:
    """Returns the relative error of a measured layer."""
    return float(np.hypot(LAYER_ERROR, BORDER_MS / layer.duration_ms))


def likeness(layers: Sequence[Layer], models: Sequence[str]) -> Array:
    """Returns how alike the op mixes of models are, float64 (n, n): 1 for itself, 0 for nothing in common.

    The Bhattacharyya coefficient of the shares of MACs by kind of op; a fifth is kept for what is a model's own.
    """
    shares = np.sqrt([_mac_shares(layers, model) for model in models])
    own = 0.2
    return (1 - own) * shares @ shares.T + own * np.eye(len(models))


def _mac_shares(layers: Sequence[Layer], model: str) -> Array:
    shares = np.zeros(4)
    for layer in layers:
        if layer.model == model:
            conv = layer.op == "CONV_2D"
            kinds = (conv and layer.kernel == (1, 1), conv, layer.op == "DEPTHWISE_CONV_2D", layer.macs > 0)
            shares[kinds.index(True) if any(kinds) else -1] += layer.macs
    return shares / shares.sum()
