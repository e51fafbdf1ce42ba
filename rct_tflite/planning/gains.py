"""What each layer and channel promises to gain by learning: the gradients of the user's samples, in integers."""

from collections.abc import Mapping
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
    graph: Graph, plan: TrainingPlan, inputs: Inputs, wanted: npt.NDArray[np.signedinteger]
) -> Mapping[str, LayerGain]:
    """Measures with the integer reference what a step on the user's samples promises, layer by layer.

    Nothing learns meanwhile: all samples see the weights as exported.

    Args:
        graph: The network.
        plan: What may learn, all of it; its learning rate and loss.
        inputs: int8, or int32 ids, (n, *input shape without batch); of many, some that are spread over all are taken.
        wanted: The class of each, (n,), or int8 targets (n, outputs), as the loss takes it.

    Returns:
        One entry for each trained op of the plan.
    """
    count = len(inputs)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(int))
    recorder = _Recorder(graph, plan)
    for index in chosen:
        recorder.step(inputs[index], int(wanted[index]) if plan.loss.takes_class else wanted[index].astype(np.int8))
    return recorder.mean(len(chosen))


class _Recorder(ReferenceTrainer):
    """Takes a trainer's gradients and leaves the weights as they are."""

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        super().__init__(graph, plan)
        channels = {op.name: graph.row_shape(op)[0] for op in graph.ops if op.name in plan.trained}
        self._weights = {name: np.zeros(count) for name, count in channels.items()}
        self._biases = dict.fromkeys(channels, 0.0)

    def learn(self, op: Op, value: Inputs, error: ScaledError) -> None:
        """Adds up what the step would gain: the square of the real update, divided by the learning rate."""
        c, graph = self.constants[op.name], self.network.graph
        assert c.weight_step is not None
        weights, biases = self.weight_gradients(op, value, error)
        scale = scales_of(graph.tensors[op.inputs[1]])
        rate = self.plan.learning_rate
        weight_factor = _real(c.weight_step, error.exponent) * scale
        self._weights[op.name] += (weights.astype(np.float64) ** 2).sum(axis=1) * weight_factor**2 / rate
        if c.bias_step is None:
            return
        bias_factor = _real(c.bias_step, error.exponent) * scale * graph.tensors[op.inputs[0]].scale
        self._biases[op.name] += float((biases**2 * bias_factor**2).sum() / rate)

    def mean(self, samples: int) -> dict[str, LayerGain]:
        """Returns the means over the samples."""
        return {name: LayerGain(self._weights[name] / samples, self._biases[name] / samples) for name in self._weights}


def _real(step: StepMultiplier, exponent: int) -> Floats:
    """Returns the factor from an integer gradient to steps of the quantised value."""
    return step.mantissa.astype(np.float64) * np.exp2(-(step.shift.astype(np.float64) + exponent))
