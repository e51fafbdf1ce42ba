"""What each layer and channel promises to gain by learning: the gradients of the user's samples, in integers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.reference.backward import StepMultiplier, backward_steps
from rct_tflite.reference.constants import scales_of
from rct_tflite.reference.gradients import ScaledError
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Graph, Inputs, Op
from rct_tflite.spec.training_plan import TrainingPlan

Floats = npt.NDArray[np.float64]

MOST_SAMPLES = 128
"""More hardly change the order, and the reference takes its time."""


Progress = Callable[[int, int], None]


def unseen(done: int, of: int) -> None:
    """Shows no progress."""


@dataclass(frozen=True, eq=False)
class LayerGain:
    """Mean first-order decrease of the loss by one step on a sample: the learning rate times the squared gradient.

    Attributes:
        weights: Of the weights of each output channel, float64 (channels,).
        biases: Of all biases together.
    """

    weights: Floats
    biases: float


def reachable(graph: Graph, plan: TrainingPlan) -> TrainingPlan:
    """Returns the plan without the deepest ops that no error can reach.

    Raises:
        UnsupportedLayerError: If none is left.
    """
    for first in range(len(plan.trained)):
        rest = TrainingPlan(plan.trained[first:], plan.learning_rate, plan.rounding, plan.loss)
        try:
            backward_steps(graph, rest)
        except UnsupportedLayerError:
            if first + 1 == len(plan.trained):
                raise
        else:
            return rest
    return plan


def measure_gains(
    graph: Graph,
    plan: TrainingPlan,
    inputs: Inputs,
    wanted: npt.NDArray[np.signedinteger],
    progress: Progress = unseen,
) -> Mapping[str, LayerGain]:
    """Measures with the integer reference what a step on the user's samples promises, layer by layer.

    Nothing learns meanwhile: all samples see the weights as exported.

    Args:
        graph: The network.
        plan: What may learn, all of it; its learning rate and loss.
        inputs: int8, or int32 ids, (n, *input shape without batch); of many, some that are spread over all are taken.
        wanted: The class of each, (n,), or int8 targets (n, outputs), as the loss takes it.
        progress: Called after each sample with how many are done, and of how many.

    Returns:
        One entry for each trained op of the plan.
    """
    chosen = spread(len(inputs), MOST_SAMPLES)
    recorder = _Recorder(graph, plan)
    for number, index in enumerate(chosen):
        recorder.step(inputs[index], int(wanted[index]) if plan.loss.takes_class else wanted[index].astype(np.int8))
        progress(number + 1, len(chosen))
    return recorder.mean(len(chosen))


def spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """Returns the indices of at most so many samples, spread over all.

    Example:
        >>> spread(9, 3).tolist()
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def real_gradients(trainer: ReferenceTrainer, op: Op, value: Inputs, error: ScaledError) -> tuple[Floats, Floats]:
    """Returns the gradients to the real weights (channels, depth) and biases (channels,), (0,) of a table.

    Args:
        trainer: In its backward pass; the loss' own constant is in that of its steps.
        op: That learns.
        value: Its input, without batch.
        error: At its output, masked.
    """
    weights, biases = trainer.weight_gradients(op, value, error)
    c, graph = trainer.constants[op.name], trainer.network.graph
    assert c.weight_step is not None
    scale, rate = scales_of(graph.tensors[op.inputs[1]]), trainer.plan.learning_rate
    factor = _real(c.weight_step, error.exponent - trainer.gradient_bits(op)) * scale / rate
    if c.bias_step is None:
        return weights * factor.reshape(-1, 1), np.zeros(0)
    bias_factor = _real(c.bias_step, error.exponent) * scale * graph.tensors[op.inputs[0]].scale / rate
    return weights * factor.reshape(-1, 1), biases * bias_factor


def _real(step: StepMultiplier, exponent: int) -> Floats:
    """Returns the factor from an integer gradient to steps of the quantised value."""
    return step.mantissa.astype(np.float64) * np.exp2(-(step.shift.astype(np.float64) + exponent))


class _Recorder(ReferenceTrainer):
    """Takes a trainer's gradients and leaves the weights as they are."""

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        super().__init__(graph, plan)
        channels = {op.name: graph.row_shape(op)[0] for op in graph.ops if op.name in plan.trained}
        self._weights = {name: np.zeros(count) for name, count in channels.items()}
        self._biases = dict.fromkeys(channels, 0.0)

    def learn(self, op: Op, value: Inputs, error: ScaledError) -> None:
        """Adds up what the step would gain."""
        weights, biases = real_gradients(self, op, value, error)
        self._weights[op.name] += self.plan.learning_rate * (weights**2).sum(axis=1)
        self._biases[op.name] += self.plan.learning_rate * float((biases**2).sum())

    def mean(self, samples: int) -> dict[str, LayerGain]:
        """Returns the means over the samples."""
        return {name: LayerGain(self._weights[name] / samples, self._biases[name] / samples) for name in self._weights}
