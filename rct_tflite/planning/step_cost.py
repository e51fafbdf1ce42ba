"""What a training step takes before there is an image to count: its multiplications, at the portable kernels' cost."""

from rct_tflite.reference.backward import BackwardStep
from rct_tflite.reference.constants import masks_errors
from rct_tflite.spec.graph import Graph, Op, OpKind
from rct_tflite.spec.training_plan import TrainingPlan

FORWARD, DEPTHWISE = 3.3, 9.0
"""Instructions for a multiplication of the forward pass."""
OUTPUT, ELEMENT = 55.0, 20.0
"""Instructions for an output of an op with weights beside its multiplications, and for one of the other ops."""
BACKWARD, ERROR, UPDATE = 8.5, 44.0, 10.0
"""Instructions for a multiplication of the backward pass by an error that is not 0, for an error, for an update."""
UNMASKED = 0.5
"""Part of the errors that a fused activation lets pass."""


def step_instructions(graph: Graph, plan: TrainingPlan, steps: tuple[BackwardStep, ...]) -> int:
    """Estimates the instructions of a training step on one sample, its prediction included.

    Multiplications of each op, forward, backward and of the gradients, times the mean that the portable kernels
    take on a Cortex-M4 or M7. The six plans for four small networks that the means were fitted to lie within 12 %. Of
    a MobileNetV1 0.25 whose biases learn, which was not among them, the forward pass lies within 4 %, and the step
    was counted to take 2.1 times as much. Good to compare plans for one network; the build counts exactly.

    Args:
        graph: The network.
        plan: What learns.
        steps: `backward_steps()` of both.
    """
    again = dict.fromkeys(plan.recomputed, 2)
    total = sum(again.get(op.name, 1) * forward_instructions(graph, op) for op in graph.ops)
    density: dict[int, float] = {}
    for step in steps:
        total += _backward(graph, plan, step, density)
    return round(total)


def forward_instructions(graph: Graph, op: Op) -> float:
    """Estimates the instructions of one op's forward pass."""
    outputs = graph.tensors[op.output].size
    if not op.has_bias:
        return 0.0 if op.kind is OpKind.RESHAPE else ELEMENT * outputs
    each = DEPTHWISE if op.kind is OpKind.DEPTHWISE_CONV_2D else FORWARD
    return each * _products(graph, op) + OUTPUT * outputs


def _backward(graph: Graph, plan: TrainingPlan, step: BackwardStep, density: dict[int, float]) -> float:
    """Returns the instructions of an op; `density` tells per tensor which part of its error is not 0."""
    op = step.op
    dense = density.get(op.output, 1.0) * (UNMASKED if masks_errors(op) else 1.0)
    outputs = graph.tensors[op.output].size
    for passage in step.passages:
        handed = dense * outputs / graph.tensors[passage.tensor].size if op.kind is OpKind.MAX_POOL_2D else dense
        density[passage.tensor] = 1.0 if op.has_weights else min(handed, 1.0)
    if not op.has_weights:
        return 0.0 if op.kind is OpKind.RESHAPE else ERROR * graph.tensors[op.inputs[0]].size
    channels, depth = graph.row_shape(op)
    if op.kind is OpKind.GATHER:  # as many rows as there are ids at most
        return (ERROR + UPDATE) * outputs
    learning = len(plan.channels_of(op.name, channels))
    gradient = 0.0 if op.kind is OpKind.FULLY_CONNECTED else learning / channels
    share = gradient + (1.0 if step.passages else 0.0)
    return BACKWARD * share * dense * _products(graph, op) + ERROR * outputs + UPDATE * learning * depth


def _products(graph: Graph, op: Op) -> int:
    """Returns the multiplications of an op's forward pass."""
    channels, depth = graph.row_shape(op)
    if op.kind is OpKind.TRANSPOSE_CONV:
        source = graph.tensors[op.inputs[0]]
        return source.size // source.shape[-1] * channels * depth
    return graph.tensors[op.output].size * depth
