"""How much the kernels of a training step do beside the forward pass (`kernel_work.py`)."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rct_tflite.planning.kernel_work import (
    EXPORT_BITS,
    LIBRARY,
    NARROWING_KINDS,
    QUAD,
    UNKNOWN,
    Amounts,
    add_amounts,
    geometry_of,
    items,
    open_inputs,
)
from rct_tflite.planning.lifetimes import moves_nothing
from rct_tflite.reference.backward import BackwardStep, Passage
from rct_tflite.reference.constants import masks_errors, scales_of, window_of
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, Graph, Op, OpKind
from rct_tflite.spec.quantization import Rounding, top
from rct_tflite.spec.training_plan import Loss, TrainingPlan

_LOSS_KERNELS = {
    Loss.SOFTMAX_CROSS_ENTROPY: "softmax_cross_entropy",
    Loss.SIGMOID_CROSS_ENTROPY: "sigmoid_cross_entropy",
}

TYPICAL_INPUT = 50.0
"""Root mean square of activations, in their own steps: the range of int8 holds about three deviations."""
LENGTH = 0.3
"""Length of the error of an op's outputs, in real numbers: with it, the weights that a step changes are as many as the
median of the networks of `tools/fit_counts` shows."""
OPEN_ERRORS = {8: 0.4, 16: 0.46}
"""Share of the errors behind a RELU that are not 0, by their bit-width: the small ones of the half that it lets pass
round to 0. The mean of the same networks."""


@dataclass(frozen=True)
class Role:
    """What a training step asks of an op.

    Attributes:
        learning: Output channels whose weights learn.
        learns: Whether its biases do.
        share_in: Of its inputs, the part that is not 0.
        share_error: Of the errors at its output, the part that is not 0.
        changed: Of its weights that learn, the part that a step changes.
        error_bits: Of the errors.
        stochastic: How updates are rounded.
    """

    learning: frozenset[int]
    learns: bool
    share_in: float
    share_error: float
    changed: float
    error_bits: int
    stochastic: bool


@dataclass(frozen=True)
class Shares:
    """What the shapes of a network do not tell, but its numbers.

    Attributes:
        inputs: Per tensor, the part of its values that is not 0; without an entry, all.
        errors: Per tensor with an error, the part of it that is not 0, once a fused activation has cleared its own.
        changed: Per op that learns, the part of its weights that a step changes.
    """

    inputs: Mapping[int, float]
    errors: Mapping[int, float]
    changed: Mapping[str, float]


def assumed_shares(graph: Graph, plan: TrainingPlan, steps: tuple[BackwardStep, ...]) -> Shares:
    """Returns the shares of a network whose activations and gradients keep their size from layer to layer."""
    inputs, errors = open_inputs(graph), _open_errors(graph, plan, steps)
    changed = {
        step.op.name: _changed(graph, step.op, plan) * _met(step.op, inputs, errors)
        for step in steps
        if step.op.has_bias
    }
    return Shares(inputs, errors, changed)


def _open_errors(graph: Graph, plan: TrainingPlan, steps: tuple[BackwardStep, ...]) -> dict[int, float]:
    shares = {loss_tensor(graph, plan.loss): _open_loss(graph, plan)}
    opened = OPEN_ERRORS[plan.error_bits]
    for step in steps:
        op, outputs = step.op, graph.tensors[step.op.output].size
        shares[op.output] = shares.get(op.output, 1.0) * (opened if masks_errors(op) else 1.0)
        dense = shares[op.output] * (opened if op.kind in NARROWING_KINDS else 1.0)
        for passage in step.passages:
            spread = outputs / graph.tensors[passage.tensor].size if op.kind is OpKind.MAX_POOL_2D else 1.0
            shares[passage.tensor] = 1.0 if op.has_weights else min(dense * spread, 1.0)
    return shares


def _met(op: Op, inputs: Mapping[int, float], errors: Mapping[int, float]) -> float:
    """Returns the part of a row's weights that has a gradient: where there is one position, no sum fills the gaps."""
    if op.kind is not OpKind.FULLY_CONNECTED:
        return 1.0
    return errors[op.output] * inputs.get(op.inputs[0], 1.0)


def _changed(graph: Graph, op: Op, plan: TrainingPlan) -> float:
    """Returns the chance that a gradient that is not 0 moves a weight: its size in steps of the weight, at most 1."""
    source, result, (channels, _) = graph.tensors[op.inputs[0]], graph.tensors[op.output], graph.row_shape(op)
    error = LENGTH / math.sqrt(result.size)
    positions = result.size // channels
    gradient = error * TYPICAL_INPUT * source.scale * math.sqrt(positions)
    step = float(scales_of(graph.tensors[op.inputs[1]]).mean())
    return min(plan.learning_rate * gradient / step, 1.0)


def _open_loss(graph: Graph, plan: TrainingPlan) -> float:
    """Returns the share of the loss's errors that do not round to 0.

    Of softmax cross-entropy an error is a probability, and the largest one, of the label, nearly 1. So what counts is
    a probability of half a unit: of normal logits of deviation 1, those above log(classes / units) + 1/2.
    """
    if plan.loss is not Loss.SOFTMAX_CROSS_ENTROPY:
        return 1.0
    units = 2.0 * top(plan.error_bits)
    least = math.log(graph.tensors[loss_tensor(graph, plan.loss)].size / units) + 0.5
    return 0.5 * math.erfc(least / math.sqrt(2.0))


def loss_amounts(graph: Graph, plan: TrainingPlan) -> Amounts:
    """Returns what the loss does."""
    kernel = _LOSS_KERNELS.get(plan.loss, "difference_error")
    count = graph.tensors[loss_tensor(graph, plan.loss)].size
    return items("losses_16" if plan.error_bits > EXPORT_BITS else kernel, kernel, {"output": count})


def backward_amounts(graph: Graph, step: BackwardStep, role: Role) -> Amounts:
    """Returns what the backward pass and the update of an op do."""
    parts = [_mask(graph, step.op, role), items(LIBRARY, LIBRARY, {"op backward": 1.0})]
    if step.op.has_weights and not step.op.has_bias:
        parts.append(items(UNKNOWN, UNKNOWN, {step.op.kind.name: graph.tensors[step.op.output].size}))
    elif step.op.has_bias:
        parts += [_gradient(graph, step, role), _update(graph, step.op, role), _library(graph, step, role)]
        parts += [_merged(graph, passage, role) for passage in step.passages]
    else:
        parts += [_passed(graph, step.op, passage, role) for passage in step.passages]
    return add_amounts(*parts)


def role_of(plan: TrainingPlan, op: Op, channels: int, shares: Shares) -> Role:
    """Returns the role of an op in a plan.

    Args:
        plan: What learns.
        op: One of the backward pass.
        channels: How many output channels it has.
        shares: Of the network.
    """
    return Role(
        learning=frozenset(plan.channels_of(op.name, channels)),
        learns=op.name in plan.trained,
        share_in=shares.inputs.get(op.inputs[0], 1.0),
        share_error=shares.errors[op.output],
        changed=shares.changed.get(op.name, 0.0),
        error_bits=plan.error_bits,
        stochastic=plan.rounding is Rounding.STOCHASTIC,
    )


def _small(kernel: str, role: Role, **amounts: float) -> Amounts:
    """Kernels of errors of 16 bits that move and add them are one file: they are known together."""
    return items("errors_16" if role.error_bits > EXPORT_BITS else kernel, kernel, amounts)


def _mask(graph: Graph, op: Op, role: Role) -> Amounts:
    return _small("mask", role, element=graph.tensors[op.output].size) if masks_errors(op) else {}


def _merged(graph: Graph, passage: Passage, role: Role) -> Amounts:
    if passage.merge is None:
        return {}
    return _small("merge_errors", role, element=graph.tensors[passage.tensor].size)


def _passed(graph: Graph, op: Op, passage: Passage, role: Role) -> Amounts:
    """Returns what it takes to hand the error to one input of an op without weights."""
    merged = _merged(graph, passage, role)
    if moves_nothing(op, passage):
        return merged
    inputs, outputs = graph.tensors[passage.tensor].size, graph.tensors[op.output].size
    small = functools.partial(_small, role=role)
    window = window_of(graph, op)
    if op.kind in PAIR_KINDS:
        passed = small("pair_grad", element=outputs) if passage.rescales else small("negate_errors", element=outputs)
    elif op.kind in TABLE_KINDS:
        passed = small("table_grad", element=outputs)
    elif op.kind is OpKind.CONCATENATION:
        count = inputs * role.error_bits // EXPORT_BITS
        rows = inputs / graph.tensors[passage.tensor].shape[-1]
        passed = items("copy_blocks", "copy_blocks", {"byte": count, "row": rows})
    elif op.kind in (OpKind.MEAN, OpKind.PAD):
        passed = small(f"{op.kind.name.lower()}_grad", element=inputs)
    elif window is not None:
        cells = geometry_of(graph, op, window).cells * graph.tensors[op.output].shape[-1]
        share = role.share_error if op.kind is OpKind.MAX_POOL_2D else 1.0
        kernel = f"{op.kind.name.lower()}_grad"
        passed = small(kernel, input=inputs, output=outputs, cell=cells * share, found=outputs * share)
    else:
        passed = items(UNKNOWN, UNKNOWN, {op.kind.name: outputs})
    return add_amounts(merged, passed)


def _gradient(graph: Graph, step: BackwardStep, role: Role) -> Amounts:
    """Returns what the kernel of an op with weights does: the errors at its input, and gradients of its weights."""
    op = step.op
    channels, _ = graph.row_shape(op)
    split = role.learns and len(role.learning) < channels
    name, wide = op.kind.name.lower(), "_16" if role.error_bits > EXPORT_BITS else ""
    count = _dense_gradient if op.kind is OpKind.FULLY_CONNECTED else _window_gradient
    return items(f"{name}_{'split' if split else 'grad'}{wide}", f"{name}_grad", count(graph, step, role))


def _dense_gradient(graph: Graph, step: BackwardStep, role: Role) -> Mapping[str, float]:
    channels, depth = graph.row_shape(step.op)
    packed = graph.bits_of(step.op) != EXPORT_BITS
    amounts: dict[str, float] = {"channel": channels * role.share_error if role.learns else 0}
    if not step.passages:
        return amounts
    scattered = 0 < len(role.learning) < channels
    quads = 0 if scattered else depth // QUAD
    amounts |= {
        "error": quads * channels,
        "packed_product" if packed else "product": QUAD * quads * channels * role.share_error,
        "one": (depth - QUAD * quads) * channels,
        "input": depth,
    }
    return amounts


def _window_gradient(graph: Graph, step: BackwardStep, role: Role) -> Mapping[str, float]:
    op = step.op
    channels, depth = graph.row_shape(op)
    window = window_of(graph, op)
    assert window is not None
    geometry, source = geometry_of(graph, op, window), graph.tensors[op.inputs[0]]
    packed, in_channels = graph.bits_of(op) != EXPORT_BITS, source.shape[-1]
    depthwise, each = op.kind is OpKind.DEPTHWISE_CONV_2D, role.share_error
    outputs = graph.tensors[op.output].size // channels
    amounts: dict[str, float] = {}
    if step.passages and depthwise:
        rows = source.size * channels // in_channels
        amounts |= {"input": source.size, "found": rows, "tap": geometry.cells * channels}
        amounts |= {"unpacked": rows * depth if packed else 0}
    elif step.passages:
        runs = geometry.cells * channels * each
        amounts |= {"input": source.size, "pixel": source.size // in_channels, "cell": geometry.cells}
        amounts |= {"tap": geometry.cells * channels, "run": runs, "product": runs * in_channels}
        amounts |= {"packed_run": runs if packed else 0, "unpacked": runs * in_channels if packed else 0}
    learning = len(role.learning)
    values = 1 if depthwise else in_channels
    used = 1.0 if op.kind is OpKind.TRANSPOSE_CONV else each
    amounts |= {
        "weight": learning * depth,
        "error": learning * outputs,
        "place": learning * geometry.places * used,
        "row": learning * geometry.rows * used,
        "gradient": learning * geometry.cells * values * each,
    }
    return amounts


def _library(graph: Graph, step: BackwardStep, role: Role) -> Amounts:
    """Returns the divisions that find the outputs that an input fed, and the sums that are set to 0."""
    op = step.op
    window = window_of(graph, op)
    if window is None:
        return {}
    geometry, source = geometry_of(graph, op, window), graph.tensors[op.inputs[0]]
    channels, depth = graph.row_shape(op)
    amounts: dict[str, float] = {"cleared": len(role.learning) * depth}
    if step.passages and op.kind is OpKind.DEPTHWISE_CONV_2D:
        amounts["divided backward"] = source.size * channels // source.shape[-1] + geometry.rows * channels
    elif step.passages:
        pixels = source.size // source.shape[-1]
        amounts["divided backward"] = pixels + geometry.rows if op.kind is OpKind.CONV_2D else 0
        amounts["pixel"] = pixels
        amounts["cleared"] += source.size
    return items(LIBRARY, LIBRARY, amounts)


def _update(graph: Graph, op: Op, role: Role) -> Amounts:
    if not role.learns:
        return {}
    channels, depth = graph.row_shape(op)
    learning, width = len(role.learning), "8 bits" if graph.bits_of(op) == EXPORT_BITS else "fewer bits"
    rounding = "" if role.stochastic else ", truncated"
    amounts: dict[str, float] = {"bias": channels * role.share_error}
    amounts[f"changed at {width}"] = learning * depth * role.changed
    if op.kind is OpKind.FULLY_CONNECTED:
        seen = learning * depth * role.share_error
        amounts |= {f"seen at {width}{rounding}": seen, "row": learning * role.share_error}
        amounts |= {f"drawn at {width}": seen * role.share_in if role.stochastic else 0.0}
        return items("update", "update", amounts)
    amounts |= {f"summed at {width}{rounding}": learning * depth, "summed row": learning}
    errors = (channels - learning) * graph.tensors[op.output].size / channels
    file = "learn_channel_16" if role.error_bits > EXPORT_BITS else "learn_channel"
    found = items(file, "learn_channel", {"channel": channels, "error": errors})
    return add_amounts(items("update", "update", amounts), found)
