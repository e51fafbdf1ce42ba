"""Bit-widths that follow the training, in integers: what the device observes and does (ARITHMETIC.md 10)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.backward import BackwardConstants
from rct_tflite.reference.bit_decision import Band, Width, decide
from rct_tflite.reference.constants import ForwardConstants, forward_constants
from rct_tflite.reference.gradients import GAIN_UNSET
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import held_bits
from rct_tflite.reference.random import RandomGenerator
from rct_tflite.reference.rounding import MAX_SHIFT
from rct_tflite.reference.update import generator_for, step_multiplier
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.quantization import EXPORT_BITS, low_bits, top
from rct_tflite.spec.step_options import RATE_BITS, RATE_ONE
from rct_tflite.spec.training_plan import TrainingPlan

IntArray = npt.NDArray[np.int64]
STEP_BITS = 16
"""Fraction bits of Gavg and of its thresholds."""
LARGEST_STEP_BITS = 22
"""The mean step of a row counts up to 64 (2**22 in 2**-16): sums over layer and interval then fit 64 bits."""
LARGEST_SUM = 2**32 - 1
OCTAVE_GAIN = 2 * 256
"""What an octave of the scale adds to a gain: to the sums, and to the exponent that they start from."""


@dataclass(frozen=True)
class Limits:
    """How far the width and the range of one trained op may move.

    Attributes:
        rows: Rows of weights that learn.
        min_bits: Narrowest width; the exported one where the width stays.
        max_bits: Widest width.
        lowest_octave: Smallest `log2(scale / exported scale)`, of what the kernels see, at which the requantisation
            stays exact.
        highest_octave: Largest one.
    """

    rows: int
    min_bits: int
    max_bits: int
    lowest_octave: int
    highest_octave: int


@dataclass
class _Layer:
    op: Op
    limits: Limits
    bits: int
    octave: int = 0
    asked: int = 0
    gavg: int = 0


def header_bytes(plan: TrainingPlan) -> int:
    """Bytes before the parameters in which the device keeps widths and octaves; 0 where widths stay."""
    return -(-2 * len(plan.trained) // 4) * 4 if plan.adaptation is not None else 0


def block_bytes(graph: Graph, plan: TrainingPlan) -> int:
    """Bytes of the parameter block of a plan whose widths change: header, weights within the budget, biases."""
    assert plan.adaptation is not None
    channels = sum(graph.row_shape(op)[0] for op in graph.ops if op.name in plan.trained)
    return header_bytes(plan) + plan.adaptation.budget_bytes // 4 * 4 + 4 * channels


def band_of(plan: TrainingPlan) -> Band:
    """Returns the thresholds in 2**-16 steps: `learning_rate * abs(gradient) / scale` is the step of a weight."""
    assert plan.adaptation is not None
    low, high = (
        int(np.floor(threshold * plan.learning_rate * 2.0**STEP_BITS + 0.5))
        for threshold in (plan.adaptation.t_min, plan.adaptation.t_max)
    )
    return Band(low, high, plan.adaptation.budget_bytes)


def crowd_share(plan: TrainingPlan) -> int:
    """Returns the share of weights at the ends, beyond the natural one, from which on a range doubles, in 2**-16."""
    assert plan.adaptation is not None
    return int(np.floor(plan.adaptation.max_saturated * 2.0**STEP_BITS + 0.5))


def limits_of(graph: Graph, plan: TrainingPlan, op: Op) -> Limits:
    """Returns how far width and range of a trained op may move."""
    bits = held_bits(graph, plan, op)
    assert plan.adaptation is not None
    rows = len(plan.channels_of(op.name, graph.row_shape(op)[0]))
    if op.name not in plan.adaptation.layers:
        return Limits(rows, bits, bits, 0, 0)
    shift = forward_constants(graph, op).shift
    lowest, highest = -MAX_SHIFT - 1 - int(shift.min(initial=0)), MAX_SHIFT - int(shift.max(initial=0))
    return Limits(rows, plan.adaptation.min_bits, plan.adaptation.max_bits, lowest, highest)


def asked_steps(total: int, mantissa: int, shift: int, depth: int) -> int:
    """Returns the sum of the steps that a row of `depth` weights is asked for, in 2**-16.

    Args:
        total: Sum of the magnitudes of its gradients.
        mantissa: Of the step multiplier.
        shift: Of the step multiplier plus the exponent of the error.
        depth: Weights of the row.
    """
    mantissa, shift = step_multiplier(mantissa, shift)
    product = min(total, LARGEST_SUM) * mantissa
    steps = product >> (shift - STEP_BITS) if shift > STEP_BITS else product << (STEP_BITS - shift)
    return min(steps, depth << LARGEST_STEP_BITS)


def halved(values: IntArray, random: RandomGenerator | None) -> IntArray:
    """Halves integers; each odd one draws its direction or, without a generator, goes to the even neighbour.

    Example:
        >>> halved(np.array([1, 3, -1, -3, 4]), None).tolist()
        [0, 2, 0, -2, 2]
    """
    odd = (values & 1) == 1
    carry = (values >> 1) & odd
    if random is not None:
        carry[odd] = random.draw(int(np.count_nonzero(odd))) >> 31
    halves: IntArray = (values + carry) >> 1
    return halves


class WidthAdapter:
    """The widths, ranges and observations of everything that is trained.

    Args:
        network: Whose weights, biases and forward constants change in place.
        plan: With an adaptation.
        constants: Backward constants by the name of the op.
        gains: Gains of input errors by the name of the op: they follow the scales.
        random: The generator of the stochastic rounding.
    """

    def __init__(
        self,
        network: ReferenceNetwork,
        plan: TrainingPlan,
        constants: Mapping[str, BackwardConstants],
        gains: dict[str, int],
        random: RandomGenerator,
    ) -> None:
        assert plan.adaptation is not None
        self._network, self._constants, self._gains = network, constants, gains
        self._random = generator_for(plan.rounding, random)
        self._band, self._crowd = band_of(plan), crowd_share(plan)
        self._interval, self._steps, self._rates = plan.adaptation.interval, 0, 0
        graph = network.graph
        self._exported: dict[str, ForwardConstants] = dict(network.constants)
        self._layers = {
            op.name: _Layer(op, limits_of(graph, plan, op), held_bits(graph, plan, op))
            for op in graph.ops
            if op.name in plan.trained
        }

    @property
    def bits(self) -> dict[str, int]:
        """Present bit-widths, by the name of the op."""
        return {name: layer.bits for name, layer in self._layers.items()}

    @property
    def octaves(self) -> dict[str, int]:
        """Present `log2(scale / exported scale)` of what the kernels see, by the name of the op."""
        return {name: layer.octave for name, layer in self._layers.items()}

    @property
    def gavg(self) -> dict[str, int]:
        """Gavg times learning rate of the last interval at the present width, in 2**-16; 0 before the first."""
        return {name: layer.gavg for name, layer in self._layers.items()}

    def header(self) -> bytes:
        """Returns what the parameter block begins with."""
        pairs = b"".join(bytes([layer.bits, layer.octave & 0xFF]) for layer in self._layers.values())
        return pairs + bytes(-len(pairs) % 4)

    def observe(self, op: Op, channel: int, gradient: IntArray, exponent: int) -> None:
        """Adds the steps that a training step asks of a row.

        Args:
            op: Trained.
            channel: Of the row, which learns.
            gradient: int64 (depth,).
            exponent: Of the gradient, the op's octave included.
        """
        step, layer = self._constants[op.name].weight_step, self._layers[op.name]
        assert step is not None
        exponent -= low_bits(layer.bits)
        index = channel if step.mantissa.size > 1 else 0
        mantissa, shift = int(step.mantissa[index]), int(step.shift[index]) + exponent
        layer.asked += asked_steps(int(np.abs(gradient).sum()), mantissa, shift, gradient.size)

    def end_step(self, rate: int = RATE_ONE) -> None:
        """Ends a training step; decides on ranges and widths at the end of an interval.

        Args:
            rate: Of the step, in 2**-16 of the exported learning rate.
        """
        self._steps += 1
        self._rates += rate
        if self._steps < self._interval:
            return
        for layer in self._layers.values():
            weights = layer.limits.rows * self._network.weights[layer.op.name].shape[1]
            mean = (layer.asked // max(weights, 1) << RATE_BITS) // self._rates
            layer.gavg, layer.asked = min(mean, 1 << LARGEST_STEP_BITS), 0
        self._steps = self._rates = 0
        for layer in self._layers.values():
            if self._crowds(layer) and layer.octave < layer.limits.highest_octave:
                self._halve(layer, layer.bits)
        planned = dict(zip(self._layers, decide(list(self._widths()), self._band), strict=True))
        # Who pays does so first: the budget holds in between, too.
        for name, layer in self._layers.items():
            if planned[name] < layer.bits:
                self._halve(layer, planned[name])
        for name, layer in self._layers.items():
            if planned[name] > layer.bits:
                self._double(layer)

    def kept(self) -> dict[str, tuple[int, int]]:
        """Returns width and octave by the name of the op, for `restore()`."""
        return {name: (layer.bits, layer.octave) for name, layer in self._layers.items()}

    def restore(self, kept: Mapping[str, tuple[int, int]]) -> None:
        """Goes back to widths of before, with the weights that belong to them; drops what was observed since."""
        for name, layer in self._layers.items():
            bits, octave = kept[name]
            self._move(layer, bits, octave - layer.octave)
            layer.asked = layer.gavg = 0
        self._steps = self._rates = 0

    def _crowds(self, layer: _Layer) -> bool:
        weights = self._network.weights[layer.op.name]
        at_ends = int(np.count_nonzero(np.abs(weights) >= top(layer.bits)))
        # Weights that spread evenly over the range have 1.5 / 2**(bits - 1) of them on the last integers.
        share = self._crowd + (3 << STEP_BITS >> layer.bits)
        return at_ends << STEP_BITS > share * weights.size

    def _widths(self) -> Iterator[Width]:
        for layer in self._layers.values():
            depth = self._network.weights[layer.op.name].shape[1]
            widest = layer.limits.max_bits if self._can_double(layer) else layer.bits
            yield Width(layer.bits, layer.gavg, layer.limits.rows, depth, layer.limits.min_bits, widest)

    def _can_double(self, layer: _Layer) -> bool:
        if layer.bits >= EXPORT_BITS:
            return True  # what the kernels see stays as it is
        largest = int(np.abs(self._network.biases[layer.op.name]).max())
        limit = self._constants[layer.op.name].bias_limit
        return layer.octave > layer.limits.lowest_octave and largest <= limit >> 1

    def _halve(self, layer: _Layer, bits: int) -> None:
        """Doubles the scale: integers halve, at a bit less or, for a range twice as wide, at the same bits.

        What the kernels see keeps its scale where a bit below theirs goes.
        """
        name, seen = layer.op.name, layer.bits <= EXPORT_BITS or bits == layer.bits
        rows, bias = self._network.weights[name], self._network.biases[name]
        halves = halved(rows.reshape(-1), self._random).reshape(rows.shape)
        rows[:] = np.clip(halves, -top(bits), top(bits))
        if seen:
            bias[:] = halved(bias, self._random)
        layer.gavg >>= 1
        self._move(layer, bits, 1 if seen else 0)

    def _double(self, layer: _Layer) -> None:
        """Halves the scale: integers double, at a bit more, which the kernels see up to 8."""
        seen = layer.bits < EXPORT_BITS
        self._network.weights[layer.op.name] *= 2
        if seen:
            self._network.biases[layer.op.name] *= 2
        layer.gavg <<= 1
        self._move(layer, layer.bits + 1, -1 if seen else 0)

    def _move(self, layer: _Layer, bits: int, octaves: int) -> None:
        name = layer.op.name
        layer.bits, layer.octave = bits, layer.octave + octaves
        self._network.bits[name] = bits
        exported = self._exported[name]
        self._network.constants[name] = replace(exported, shift=exported.shift + layer.octave)
        if self._gains.get(name, GAIN_UNSET) != GAIN_UNSET:
            self._gains[name] -= OCTAVE_GAIN * octaves
