"""What a training step does after the loss, op by op, and its constants (ARITHMETIC.md 3 and 6)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import RecipeError, UnsupportedLayerError
from rct_tflite.reference.constants import LARGEST_INPUT, largest_bias, scales_of, window_of
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.rounding import INT32_MAX
from rct_tflite.reference.tables import SLOPE_BITS, slope_table
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, Graph, Op, OpKind, TableOptions
from rct_tflite.spec.quantization import top
from rct_tflite.spec.training_plan import TrainingPlan

RATIO_BITS = 14
MAX_GUARD_BITS = 8
MAX_DROPPED_BITS = 8
MAX_ERROR = 127
"""Largest magnitude of an error of 8 bits: what sums allow is the same for wider ones, which drop bits."""
MAX_STEP_EXPONENT = 126
"""The shift of a step multiplier must fit int8."""
MAX_WEIGHT = 128
"""Largest magnitude of a weight: files of others may hold -128."""
MAX_SUM = 2**30 - 1
"""Largest magnitude of a sum: half of int32, so that rounding it cannot overflow either."""
LARGEST_OCTAVE = 32
"""A constant of an error stays within 2**-32 to 2**33."""

_HANDS_ON = (OpKind.RESHAPE, OpKind.MAX_POOL_2D, OpKind.CONCATENATION, OpKind.PAD)
"""Kinds that move errors and leave their constant as it is."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepMultiplier:
    """`mantissa * 2**-shift` per channel, mantissa in `[2**14, 2**15)`."""

    mantissa: IntArray
    shift: IntArray


@dataclass(frozen=True, eq=False)
class BackwardConstants:
    """Of one op with weights.

    Attributes:
        ratio: Per channel, 2**14 = the channel with the largest scale; None where all share one scale.
        guard_bits: Bits that a ratio adds to the error.
        dropped_bits: Bits that an error of 16 bits loses before it is multiplied with weights; 0 with 8 bits.
        weight_step: Multiplier of the weights' gradient; None where the op is frozen.
        bias_step: Multiplier of the bias' gradient; None where the op is frozen, or has none.
        bias_limit: Largest magnitude of a bias.
    """

    ratio: IntArray | None
    guard_bits: int
    dropped_bits: int
    weight_step: StepMultiplier | None
    bias_step: StepMultiplier | None
    bias_limit: int


@dataclass(frozen=True)
class Merge:
    """How the error that arrives second at a tensor is added to the one that is there.

    Attributes:
        ratios: Of the one that is there and of the one that arrives, 2**14 = the larger mantissa of both constants.
        exponents: Powers of two of both constants, taken off the exponents.
    """

    ratios: tuple[int, int]
    exponents: tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """An error on its way from an op's output to one of its inputs.

    Attributes:
        position: Of the input among the op's.
        tensor: The input.
        rescales: Whether sums are brought to 8 bits, with a gain of their own.
        moved: Power of two that goes from the constant to the exponent, so that neither runs away in deep networks.
        merge: None where no error has arrived at the tensor before.
        dropped_bits: Bits that products of a pair and an error of 16 bits lose before they are summed.
    """

    position: int
    tensor: int
    rescales: bool
    moved: int
    merge: Merge | None
    dropped_bits: int = 0

    @property
    def changes_exponent(self) -> bool:
        """Whether the exponent of the error that arrives is another one than at the op's output."""
        return self.rescales or self.moved != 0


@dataclass(frozen=True, eq=False)
class BackwardStep:
    """One op of the backward pass; `constants` is None for an op without weights."""

    op: Op
    passages: tuple[Passage, ...]
    constants: BackwardConstants | None


def backward_steps(graph: Graph, plan: TrainingPlan) -> tuple[BackwardStep, ...]:
    """Returns the ops that the backward pass runs, in its order: the last op first.

    An op is among them where something that is trained lies in it or below it.

    Raises:
        UnsupportedLayerError: If an op on the way cannot hand an error back, or its sums could overflow.
        RecipeError: If the learning rate gives a multiplier that integers cannot hold.
    """
    if not plan.trained:
        return ()
    below = _trained_below(graph, plan)
    scales = {loss_tensor(graph, plan.loss): loss_constants(graph, plan.loss).scale}
    steps = []
    for op in reversed(graph.ops):
        if op.output not in scales or op.output not in below:
            continue
        scale, constants = scales[op.output], None
        if op.has_bias:
            constants = _weighted_backward(graph, op, plan, scale)
        elif op.has_weights:
            constants = _table_backward(graph, op, plan, scale)
        passages = []
        for position, tensor in enumerate(op.inputs):
            if tensor in below:
                dropped = _dropped_of_pair(graph, op, position, plan.error_bits)
                handed = scale * _factor(graph, op, position, constants, below[tensor]) * 2.0**dropped
                merge, moved, scales[tensor] = _arrival(scales.get(tensor), handed)
                passages.append(Passage(position, tensor, _rescales(graph, op, position), moved, merge, dropped))
        steps.append(BackwardStep(op, tuple(passages), constants))
    _check_reached(plan, steps)
    return tuple(steps)


def backward_constants(graph: Graph, plan: TrainingPlan) -> dict[str, BackwardConstants]:
    """Returns what the backward pass of each op with weights needs, from the last op to the deepest trained one.

    Raises:
        UnsupportedLayerError, RecipeError: As `backward_steps()`.
    """
    return {step.op.name: step.constants for step in backward_steps(graph, plan) if step.constants is not None}


def largest_error(error_bits: int) -> int:
    """Returns the largest magnitude of an error: they are symmetric."""
    return top(error_bits)


def gain_of_sum(op: Op, passage: Passage) -> str:
    """Returns the name of the gain of an error's sums: the op's own where it has weights."""
    return op.name if op.has_weights else f"{op.name}: input {passage.position}"


def gain_of_merge(op: Op, passage: Passage) -> str:
    """Returns the name of the gain of two errors' sum."""
    return f"{op.name}: merged at input {passage.position}"


def _trained_below(graph: Graph, plan: TrainingPlan) -> dict[int, str]:
    """Returns, for each tensor that something trained lies below, the name of such an op."""
    below: dict[int, str] = {}
    for op in graph.ops:
        names = [op.name] if op.name in plan.trained else [below[index] for index in op.inputs if index in below]
        if names:
            below[op.output] = names[0]
    return below


def _check_reached(plan: TrainingPlan, steps: list[BackwardStep]) -> None:
    missed = set(plan.trained) - {step.op.name for step in steps}
    if missed:
        raise UnsupportedLayerError(
            f"No error reaches the layers {sorted(missed)}. Expected layers that lead to the output. "
            "Freeze them (--train last:N)."
        )


def _arrival(there: float | None, arriving: float) -> tuple[Merge | None, int, float]:
    """Returns how an error is added to the one at a tensor, what moves to its exponent, the constant of the result."""
    if there is None:
        octave = math.frexp(arriving)[1] - 1
        moved = octave if abs(octave) > LARGEST_OCTAVE else 0
        return None, moved, math.ldexp(arriving, -moved)
    # frexp gives mantissas in [1/2, 1): one power of two beside the text, in both.
    parts = [math.frexp(scale) for scale in (there, arriving)]
    largest = max(mantissa for mantissa, _ in parts)
    first, second = (math.floor(2.0**RATIO_BITS * mantissa / largest + 0.5) for mantissa, _ in parts)
    return Merge((first, second), (parts[0][1] - 1, parts[1][1] - 1)), 0, 2.0 * largest


def _rescales(graph: Graph, op: Op, position: int) -> bool:
    if op.kind in PAIR_KINDS:
        return op.kind is OpKind.MUL or _repetitions(graph, op, position) > 1
    return op.has_bias


def _repetitions(graph: Graph, op: Op, position: int) -> int:
    return graph.tensors[op.output].size // graph.tensors[op.inputs[position]].size


def _factor(graph: Graph, op: Op, position: int, constants: BackwardConstants | None, trained: str) -> float:
    """Returns what an op multiplies the constant of its error with on the way to one input."""
    if constants is not None:
        bits = constants.dropped_bits - constants.guard_bits
        return float(scales_of(graph.tensors[op.inputs[1]]).max()) * 2.0**bits
    if op.kind in PAIR_KINDS:
        _check_repetitions(graph, op, position)
        return graph.tensors[op.inputs[1 - position]].scale if op.kind is OpKind.MUL else 1.0
    if op.kind in TABLE_KINDS:
        assert isinstance(op.options, TableOptions)
        _, bits = slope_table(op.kind, op.options.alpha, graph.tensors[op.inputs[0]])
        return 2.0 ** (SLOPE_BITS - bits)
    if op.kind is OpKind.AVERAGE_POOL_2D:
        return 1.0 / _average_window(graph, op)
    if op.kind is OpKind.MEAN:
        _, height, width, _ = graph.tensors[op.inputs[0]].shape
        return 1.0 / (height * width)
    if op.kind in _HANDS_ON:
        return 1.0
    raise UnsupportedLayerError(
        f"Cannot train layer '{trained}': layer '{op.name}' ({op.kind.name}) above it hands no error back. "
        "Train only layers above it (--train last:N), or leave it out."
    )


def _dropped_of_pair(graph: Graph, op: Op, position: int, error_bits: int) -> int:
    """Returns the bits that keep the sum over an operand's repetitions within 32 bits."""
    if op.kind not in PAIR_KINDS:
        return 0
    largest = largest_error(error_bits) * (LARGEST_INPUT if op.kind is OpKind.MUL else 1)
    repetitions = _repetitions(graph, op, position)
    # Rounding adds half a unit to each product.
    return next((d for d in range(MAX_DROPPED_BITS) if repetitions * ((largest >> d) + 1) <= MAX_SUM), MAX_DROPPED_BITS)


def _check_repetitions(graph: Graph, op: Op, position: int) -> None:
    largest = MAX_ERROR * (LARGEST_INPUT if op.kind is OpKind.MUL else 1)
    count = _repetitions(graph, op, position)
    if count * largest > MAX_SUM:
        raise UnsupportedLayerError(
            f"Layer '{op.name}' repeats an operand too often for 32-bit sums. Expected at most {MAX_SUM // largest} "
            f"times. Received: {count}. Freeze the layers below (--train last:N)."
        )


def _weighted_backward(graph: Graph, op: Op, plan: TrainingPlan, error_scale: float) -> BackwardConstants:
    source, scales = graph.tensors[op.inputs[0]], scales_of(graph.tensors[op.inputs[1]])
    _, depth = graph.row_shape(op)
    same = bool(np.all(scales == scales[0]))
    guard_bits, dropped_bits = _spare_bits(graph, op, plan.error_bits)
    _check_sums(graph, op, plan.error_bits)
    trained = op.name in plan.trained
    rate = plan.learning_rate / plan.options.accumulate * error_scale
    bias_limit = INT32_MAX - depth * MAX_WEIGHT * LARGEST_INPUT
    if trained and largest_bias(graph, op) > bias_limit:
        raise UnsupportedLayerError(
            f"A bias of layer '{op.name}' is too large to train beside. Expected a magnitude of at most {bias_limit}. "
            f"Received: {largest_bias(graph, op)}. Freeze the layer (--train last:N)."
        )
    return BackwardConstants(
        ratio=None if same else np.floor(2.0**RATIO_BITS * scales / scales.max() + 0.5).astype(np.int64),
        guard_bits=0 if same else guard_bits,
        dropped_bits=dropped_bits,
        weight_step=_step_multiplier(op, rate * source.scale / scales) if trained else None,
        bias_step=_step_multiplier(op, rate / (source.scale * scales)) if trained else None,
        bias_limit=bias_limit,
    )


def _table_backward(graph: Graph, op: Op, plan: TrainingPlan, error_scale: float) -> BackwardConstants:
    """Returns the constants of a GATHER that learns."""
    if plan.options.holds_gradients or plan.adaptation is not None:
        raise RecipeError(
            f"Layer '{op.name}' is a table: most of its rows have no gradient in a step. Expected plain training steps "
            "at its exported bit-width. Received: accumulated gradients, momentum, or bit-widths that follow the "
            "training. Leave --accumulate, --momentum and --adapt-bits out, or the layer (--train NAME,NAME)."
        )
    limit, count = MAX_SUM // largest_error(plan.error_bits), graph.tensors[op.inputs[0]].size
    if count > limit:
        raise UnsupportedLayerError(
            f"Layer '{op.name}' reads too many rows for 32-bit sums. Expected at most {limit} ids. Received: {count}. "
            "Freeze the layer (--train last:N)."
        )
    scales = scales_of(graph.tensors[op.inputs[1]])
    return BackwardConstants(None, 0, 0, _step_multiplier(op, plan.learning_rate * error_scale / scales), None, 0)


def _spare_bits(graph: Graph, op: Op, error_bits: int) -> tuple[int, int]:
    """Returns the bits that the sums of an input error have left, and those that its errors must lose."""
    channels, depth = graph.row_shape(op)
    inputs = depth if op.kind is OpKind.FULLY_CONNECTED else graph.tensors[op.inputs[0]].shape[-1]
    # An element feeds the cells of its own input channel: in all rows, or in those of a depthwise op that read it.
    terms = channels * depth // inputs
    room = MAX_SUM // (MAX_ERROR * MAX_WEIGHT * terms)
    if room < 1:
        raise UnsupportedLayerError(
            f"Layer '{op.name}' is too large to train: the sum of an input error has {terms} terms and could overflow "
            f"32 bits. Expected at most {MAX_SUM // (MAX_ERROR * MAX_WEIGHT)}. "
            "Freeze it and the layers below (--train last:N)."
        )
    room = MAX_SUM // (largest_error(error_bits) * MAX_WEIGHT * terms)
    if room >= 1:
        return min(MAX_GUARD_BITS, room.bit_length() - 1), 0
    kept = (MAX_SUM // (MAX_WEIGHT * terms)).bit_length() - 1  # an error that keeps k bits is at most 2**k
    return 0, error_bits - 1 - kept


def _check_sums(graph: Graph, op: Op, error_bits: int) -> None:
    """Proves that neither an accumulator nor a gradient of the op, nor the sum of its errors, can pass 32 bits."""
    limit = MAX_SUM // max(MAX_WEIGHT * LARGEST_INPUT, largest_error(error_bits))
    _, depth = graph.row_shape(op)
    result = graph.tensors[op.output]
    positions = result.size // result.shape[-1]
    for what, count in (("weights in a row", depth), ("output positions", positions)):
        if count > limit:
            raise UnsupportedLayerError(
                f"Layer '{op.name}' is too large to train with 32-bit sums. Expected at most {limit} {what}. "
                f"Received: {count}. Pool before it, or freeze it and the layers below (--train NAMES)."
            )


def _step_multiplier(op: Op, real: npt.NDArray[np.float64]) -> StepMultiplier:
    mantissa, exponent = np.frexp(real)
    fits = np.all(np.isfinite(real)) and np.all(np.abs(14 - exponent) <= MAX_STEP_EXPONENT)
    if not fits:
        raise RecipeError(
            f"The learning rate gives layer '{op.name}' an update that integers cannot hold. Expected a multiplier of "
            f"2**-112 to 2**139. Received: {real.min():.3g} to {real.max():.3g}. Choose another learning rate."
        )
    fixed = np.floor(mantissa * 2.0**15 + 0.5).astype(np.int64)
    shift = 15 - exponent.astype(np.int64)
    full = fixed == 2**15
    return StepMultiplier(np.where(full, 2**14, fixed), np.where(full, shift - 1, shift))


def _average_window(graph: Graph, op: Op) -> int:
    window = window_of(graph, op)
    assert window is not None
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    for axis, stride, size in ((1, window.stride_h, window.filter_h), (2, window.stride_w, window.filter_w)):
        if (result.shape[axis] - 1) * stride + size > source.shape[axis]:
            raise UnsupportedLayerError(
                f"Cannot train through layer '{op.name}' (AVERAGE_POOL_2D): a window reaches over the border. "
                "Use padding='valid', or train only the layers above it (--train last:N)."
            )
    return window.filter_h * window.filter_w
