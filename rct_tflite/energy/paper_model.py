"""The energy and memory models of the RCT papers, for comparing with the papers: never joules of a microcontroller.

The papers judge training by arithmetic on bit-widths, on an ideal accelerator whose multipliers shrink with every
bit. A microcontroller is different: a 12-bit product costs what a 16-bit one does, fetching instructions dominates,
and a whole chip draws three orders of magnitude more than the 45 nm constants below. What a target draws is in
`energy/estimate.py`, from counted instructions.

The papers' formulas are not public. Each of three models reproduces the claim "86 % of the GEMM energy saved" at a
width inside the 8 to 15 bits that the papers report, so that a figure means nothing without the name of its model:

| model | energy of one multiply-accumulate, float32 = 1 | 86 % saved at |
|---|---|---|
| `bits-product` | left bits x right bits / 32^2 | 17.3 bits, times 8-bit operands |
| `bits-squared` | (k / 32)^2 | 12 bits |
| `horowitz` | (3.1 pJ x (k / 32)^1.98 + 0.1 pJ x k / 32) / 4.6 pJ | 14 bits |

A layer computes up to three GEMMs of equal size in a training step, with these operands:

| GEMM | operands | computed |
|---|---|---|
| forward | weights, activations | always |
| input gradient | weights, errors | where something trains below the layer |
| weight gradient | activations, errors | where the layer trains |

`bits-product` takes each operand at its own width: weights at k bits, activations and errors at 8 (on the device they
are int8; Keras computes them in float32, as the papers' simulations do). The other two models know one width for a
layer and take k for all three GEMMs, as the papers do: "the same precision forward and backward". Parameters are
counted as weights only, without biases, scales and optimizer state.
"""

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FLOAT_BITS = 32
QAT_BITS = 8 + FLOAT_BITS
"""Quantisation-aware training holds each weight as int8 for the pass and as float32 for the update."""
QAT_MOVED_BITS = 8 + 8 + FLOAT_BITS + FLOAT_BITS + 8
"""Bits that QAT moves per weight and step: int8 read forward and backward, float32 read and written, int8 written."""
ACCESSES = (3, 4)
"""Times that RCT moves a weight in a step: read forward, read backward, read and written by the update; three where
the update takes the weight from the backward pass."""

# Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm, 0.9 V, in pJ; the exponent fits int8 to int32.
INT32_MULTIPLY_PJ = 3.1
INT32_ADD_PJ = 0.1
MULTIPLY_EXPONENT = 1.98
FLOAT32_MAC_PJ = 3.7 + 0.9


class GemmModel(enum.StrEnum):
    """Which of the three models counts the energy of matrix products."""

    BITS_PRODUCT = "bits-product"
    BITS_SQUARED = "bits-squared"
    HOROWITZ = "horowitz"


@dataclass(frozen=True)
class LayerWork:
    """What one weight tensor has to do in a training step.

    Attributes:
        bits: Bit-width of the weights; `FLOAT_BITS` for a float32 layer.
        weight_count: Number of weights.
        macs: Multiply-accumulates of the forward pass for one sample; 0 for a look-up such as an embedding, NaN where
            they are not known.
        input_gradient: Whether errors are sent below the layer.
        weight_gradient: Whether the layer trains.
        activation_bits: Width of the activations.
        error_bits: Width of the errors.
    """

    bits: float
    weight_count: int
    macs: float
    input_gradient: bool = True
    weight_gradient: bool = True
    activation_bits: float = 8
    error_bits: float = 8


def mac_energy_product(left_bits: float, right_bits: float) -> float:
    """Returns the energy of one multiply-accumulate by `bits-product`, as a share of a float32 one.

    Example:
        >>> round(1 - mac_energy_product(17.3, 8), 3)
        0.865
    """
    return left_bits * right_bits / FLOAT_BITS**2


def mac_energy_squared(bits: float) -> float:
    """Returns the energy of one multiply-accumulate by `bits-squared`, as a share of a float32 one.

    Example:
        >>> round(1 - mac_energy_squared(12), 3)
        0.859
    """
    return (bits / FLOAT_BITS) ** 2


def mac_energy_horowitz(bits: float) -> float:
    """Returns the energy of one integer multiply-accumulate by `horowitz`, as a share of a float32 one.

    At 32 bits this is 0.70: an integer one. A layer that computes in float32 costs 1.

    Example:
        >>> round(1 - mac_energy_horowitz(14), 3)
        0.859
    """
    share = bits / FLOAT_BITS
    return float(INT32_MULTIPLY_PJ * share**MULTIPLY_EXPONENT + INT32_ADD_PJ * share) / FLOAT32_MAC_PJ


def gemm_share(layers: Iterable[LayerWork], model: GemmModel) -> float:
    """Returns the energy of all GEMMs of a training step, as a share of the same step in float32.

    Args:
        layers: The quantised weight tensors; those without GEMM count nothing.
        model: How a multiply-accumulate is counted.

    Returns:
        The share, 1 for float32; NaN if there is no GEMM, or one of unknown size.

    Example:
        >>> layers = [LayerWork(8, 72, 4608, input_gradient=False), LayerWork(6, 1000, 1000)]
        >>> [round(gemm_share(layers, model), 4) for model in GemmModel]
        [0.0599, 0.0558, 0.0438]
    """
    energy = macs = 0.0
    for layer in layers:
        energy += gemm_energy(layer, model)
        macs += layer.macs * len(_gemms(layer, _MAC_ENERGY[model]))
    return energy / macs if macs else math.nan


def gemm_energy(layer: LayerWork, model: GemmModel) -> float:
    """Returns the energy of a layer's GEMMs in a training step, in multiply-accumulates of float32.

    Example:
        >>> gemm_energy(LayerWork(8, 1, 1000, input_gradient=False), GemmModel.BITS_PRODUCT)
        125.0
    """
    return layer.macs * sum(_gemms(layer, _MAC_ENERGY[model]))


def _gemms(layer: LayerWork, mac_energy: Callable[[float, float, float], float]) -> list[float]:
    """Returns the energy of a multiply-accumulate in each GEMM that the layer computes."""
    shares = [mac_energy(layer.bits, layer.bits, layer.activation_bits)]
    if layer.input_gradient:
        shares.append(mac_energy(layer.bits, layer.bits, layer.error_bits))
    if layer.weight_gradient:
        shares.append(mac_energy(layer.bits, layer.activation_bits, layer.error_bits))
    return shares


_MAC_ENERGY: dict[GemmModel, Callable[[float, float, float], float]] = {
    GemmModel.BITS_PRODUCT: lambda _, left, right: mac_energy_product(left, right),
    GemmModel.BITS_SQUARED: lambda bits, _left, _right: mac_energy_squared(bits),
    GemmModel.HOROWITZ: lambda bits, _left, _right: mac_energy_horowitz(bits),
}
"""From (bits of the layer, bits of the left and of the right operand) to the share of float32."""


def moved_bits(bits: float, accesses: int = 4) -> float:
    """Returns the bits that training moves per weight and step.

    Args:
        bits: Width of the weight: k for RCT, `FLOAT_BITS` for float32. For QAT see `QAT_MOVED_BITS`.
        accesses: 3 or 4, see `ACCESSES`.

    Example:
        >>> moved_bits(11), moved_bits(FLOAT_BITS), QAT_MOVED_BITS
        (44, 128, 88)
    """
    return bits * accesses


def average_bits(layers: Iterable[LayerWork]) -> float:
    """Returns the mean width of a weight; NaN without weights.

    Example:
        >>> average_bits([LayerWork(8, 300, 0), LayerWork(4, 100, 0)])
        7.0
    """
    layers = list(layers)
    weights = sum(layer.weight_count for layer in layers)
    return sum(layer.bits * layer.weight_count for layer in layers) / weights if weights else math.nan


@dataclass(frozen=True)
class Shares:
    """A training step against its baselines. What is saved is 1 minus the share.

    Attributes:
        memory_of_float32: Bits of the weights, against 32.
        memory_of_qat: The same, against 8 + 32.
        moved_of_float32: Bits moved, against float32 with as many accesses: the same number as the memory's.
        moved_3_of_qat: Bits moved in 3 accesses, against QAT's 88.
        moved_4_of_qat: Bits moved in 4 accesses, against QAT's 88.
        gemm_of_float32: Energy of the GEMMs by each model, against float32.
    """

    memory_of_float32: float
    memory_of_qat: float
    moved_of_float32: float
    moved_3_of_qat: float
    moved_4_of_qat: float
    gemm_of_float32: dict[GemmModel, float]


def shares(layers: Iterable[LayerWork]) -> Shares:
    """Compares a training step with float32 and with QAT.

    Args:
        layers: The quantised weight tensors.

    Example:
        >>> step = shares([LayerWork(8, 72, 4608, input_gradient=False), LayerWork(8, 1000, 1000)])
        >>> round(1 - step.memory_of_qat, 3), round(step.moved_4_of_qat, 3)
        (0.8, 0.364)
    """
    layers = list(layers)
    bits = average_bits(layers)
    three, four = (moved_bits(bits, accesses) / QAT_MOVED_BITS for accesses in ACCESSES)
    return Shares(
        memory_of_float32=bits / FLOAT_BITS,
        memory_of_qat=bits / QAT_BITS,
        moved_of_float32=bits / FLOAT_BITS,
        moved_3_of_qat=three,
        moved_4_of_qat=four,
        gemm_of_float32={model: gemm_share(layers, model) for model in GemmModel},
    )
