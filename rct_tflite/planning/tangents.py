"""How each weight and bias moves each output on the user's samples: the tangents of the network, in real units."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rct_tflite.planning.gains import MOST_SAMPLES, Progress, real_gradients, spread, unseen
from rct_tflite.reference.gradients import ScaledError
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Graph, Inputs, Op
from rct_tflite.spec.training_plan import TrainingPlan

Floats = npt.NDArray[np.float64]
Slopes = npt.NDArray[np.float32]

MOST_OUTPUTS = 1024
"""Of all samples together: each takes a backward pass, and what follows grows with their square."""
MOST_BYTES = 2**29
"""Of all slopes."""
LEAST_SAMPLES = 8
"""Fewer say nothing of others."""
ERROR_BITS = 16
"""Single outputs have small errors further down; what is measured here is not what the device rounds."""


@dataclass(frozen=True, eq=False)
class Tangents:
    """Of some samples.

    Attributes:
        chosen: Indices of the samples, (n,).
        outputs: float64 (n, outputs), what the loss reads, as real numbers.
        slopes: Per op that may learn float32 (n * outputs, channels, depth + 1): of each output to each weight of a
            channel, and last to its bias (0 where there is none).
    """

    chosen: npt.NDArray[np.intp]
    outputs: Floats
    slopes: Mapping[str, Slopes]


def measure_tangents(graph: Graph, plan: TrainingPlan, inputs: Inputs, progress: Progress = unseen) -> Tangents | None:
    """Measures with the integer backward pass how outputs depend on what may learn.

    Args:
        graph: The network.
        plan: What may learn, all of it, in plain steps.
        inputs: int8, or int32 ids, (n, *input shape without batch); of many, some that are spread over all are taken.
        progress: Called after each sample with how many are done, and of how many.

    Returns:
        None where the network has too many outputs or weights for more than a few samples.
    """
    outputs = graph.tensors[loss_tensor(graph, plan.loss)].size
    shapes = {op.name: graph.row_shape(op) for op in graph.ops if op.name in plan.trained}
    numbers = sum(channels * (depth + 1) for channels, depth in shapes.values())
    most = min(MOST_SAMPLES, MOST_OUTPUTS // outputs, MOST_BYTES // (4 * numbers * outputs))
    if most < min(LEAST_SAMPLES, len(inputs)):
        return None
    chosen = spread(len(inputs), most)
    recorder = _Recorder(graph, plan)
    values = np.empty((len(chosen), outputs))
    # What no error reaches stays 0.
    slopes = {
        name: np.zeros((len(chosen) * outputs, channels, depth + 1), np.float32)
        for name, (channels, depth) in shapes.items()
    }
    for number, index in enumerate(chosen):
        own = slice(number * outputs, (number + 1) * outputs)
        values[number] = recorder.sample(inputs[index], {name: every[own] for name, every in slopes.items()})
        progress(number + 1, len(chosen))
    return Tangents(chosen, values, slopes)


class _Recorder(ReferenceTrainer):
    """Takes a trainer's gradients for an error of 1 at one output after the other; nothing learns."""

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        super().__init__(graph, replace(plan, error_bits=ERROR_BITS))
        self._slopes: dict[str, Slopes] = {}
        self._one = 1.0 / loss_constants(graph, plan.loss).scale

    def sample(self, sample: Inputs, slopes: Mapping[str, Slopes]) -> Floats:
        """Returns the outputs, (outputs,), and writes the slopes, zeros (outputs, channels, depth + 1) of each op."""
        values = {index: value[0] for index, value in self.network.values(sample[None]).items()}
        tensor = self.network.graph.tensors[self._loss_tensor]
        outputs = values[self._loss_tensor].reshape(-1).astype(np.float64)
        for number in range(outputs.size):
            self._slopes = {name: every[number] for name, every in slopes.items()}
            self.gains.clear()
            error = np.zeros(outputs.size, np.int64)
            error[number] = 2 ** (ERROR_BITS - 2)
            self._backward(values, ScaledError(error, ERROR_BITS - 2))
        return np.asarray((outputs - tensor.zero_point) * tensor.scale)

    def learn(self, op: Op, value: Inputs, error: ScaledError) -> None:
        """Keeps the gradients instead."""
        weights, biases = real_gradients(self, op, value, error)
        slopes = self._slopes[op.name]
        slopes[:, :-1] = self._one * weights
        if biases.size:
            slopes[:, -1] = self._one * biases
