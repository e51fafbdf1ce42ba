"""What fine-tuning would come to: the loss on the user's samples, learnt and held out, without a step on the device.

Near the exported weights the outputs move with them along straight lines (`tangents.py`), and how a step on one sample
moves the outputs for another is the product of their slopes over what learns (the neural tangent kernel, Jacot et al.
2018, arXiv 1806.07572). With that the steps of a whole fine-tuning are run on the outputs alone: curvature, the
learning rate and samples that pull in different directions count, which a gradient alone does not tell.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.planning.tangents import Floats, Slopes, Tangents
from rct_tflite.reference.gradients import SETTLED_BITS
from rct_tflite.reference.losses import HUBER_DELTA, loss_tensor
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.spec.step_options import DECAY_BITS, RATE_ONE, WEIGHT_ONE
from rct_tflite.spec.training_plan import Loss, TrainingPlan

EPOCHS = 10
"""How often the samples are learnt: what is usual for a few dozen of them."""
FOLDS = 5
"""Each sample is held out once, with a fifth of the others."""
SETTLED = 2.0 ** (SETTLED_BITS - 15)
"""Cross-entropy: errors of probabilities below this teach nothing, and losses below it are told apart no more."""
MOST_BYTES = 2**28
"""Of what layers and rows add to kernels, kept for other update sets with the same."""
DIGITS = 4
"""Significant ones of a forecast: sums of products come out a little different on other computers."""
DIVERGED = 1e9
"""Stands for any loss above it: at such a rate the network would not learn."""


@dataclass(frozen=True)
class Forecast:
    """Of an update set.

    Attributes:
        learnt: Mean loss on samples that were learnt from.
        held_out: Mean loss on samples that were held out, each once.
        score: Geometric mean of both, with what can still be told apart added; less is better. Shares count, so that
            neither loss drowns the other.
    """

    learnt: float
    held_out: float
    score: float


class Forecaster:
    """Forecasts for update sets of one network, from the user's samples.

    Args:
        graph: The network.
        plan: What may learn, all of it; its learning rate, loss and options of the step. Sums over samples count as
            steps of a part of the rate, momentum as steps of what it comes to in the end.
        tangents: Of its samples.
        wanted: The class of each of the samples, (n,), or int8 targets (n, outputs), as the loss takes it.
    """

    def __init__(
        self, graph: Graph, plan: TrainingPlan, tangents: Tangents, wanted: npt.NDArray[np.signedinteger]
    ) -> None:
        tensor = graph.tensors[loss_tensor(graph, plan.loss)]
        self._plan, self._tangents = plan, tangents
        self._loss = _LOSSES[plan.loss]
        self._wanted = _real_wanted(plan.loss, wanted, tangents.outputs.shape[1], tensor.scale, tensor.zero_point)
        least = {Loss.MEAN_SQUARED_ERROR: tensor.scale**2, Loss.HUBER: tensor.scale**2 / 2}
        entropy = plan.loss in (Loss.SOFTMAX_CROSS_ENTROPY, Loss.SIGMOID_CROSS_ENTROPY)
        self._least = SETTLED if entropy else least.get(plan.loss, tensor.scale)
        self._settled = SETTLED / (1 if plan.loss.takes_class else tensor.size) if entropy else 0.0
        self._fold = _folds(np.asarray(wanted) if plan.loss.takes_class else np.zeros(len(wanted), int))
        self._parts: OrderedDict[tuple[str, tuple[int, ...]], Slopes] = OrderedDict()
        order = np.random.default_rng(0).permutation(len(wanted))
        self._steps = np.tile(order, EPOCHS)
        self._rates = _rates(plan, len(self._steps))
        weights = np.array(plan.options.class_weights or (WEIGHT_ONE,)) / WEIGHT_ONE
        every = np.broadcast_to(weights, self._wanted.shape[1])
        self._weights = self._wanted @ every[:, None] if plan.loss.takes_class else np.tile(every, (len(wanted), 1))

    def forecast(self, plan: TrainingPlan) -> Forecast:
        """Returns what fine-tuning of an update set would come to.

        Args:
            plan: An update set of the plan that may learn.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            losses = self._loss(self._trained(self._kernel(plan)), self._wanted)[0]
        losses = np.minimum(np.nan_to_num(losses, nan=DIVERGED), DIVERGED)
        learnt, held_out = losses[0].mean(), losses[1 + self._fold, np.arange(len(self._fold))].mean()
        score = np.sqrt((learnt + self._least) * (held_out + self._least))
        return Forecast(*(float(f"{value:.{DIGITS}g}") for value in (learnt, held_out, score)))

    def _kernel(self, plan: TrainingPlan) -> Floats:
        """Returns how a step on each output moves each other, (n * outputs, n * outputs)."""
        size = self._tangents.outputs.size
        kernel = np.zeros((size, size))
        for name in plan.trained:
            kernel += self._part(name, plan.channels_of(name, self._tangents.slopes[name].shape[1]))
        return kernel

    def _part(self, name: str, rows: tuple[int, ...]) -> Slopes:
        """Returns what an op adds to the kernel, if all its biases learn and the weights of some rows."""
        known = self._parts.pop((name, rows), None)
        part = _product(self._tangents.slopes[name], rows) if known is None else known
        while self._parts and (len(self._parts) + 1) * part.nbytes > MOST_BYTES:
            self._parts.popitem(last=False)  # what was used longest ago
        self._parts[name, rows] = part
        return part

    def _trained(self, kernel: Floats) -> Floats:
        """Returns the outputs (1 + folds, n, outputs) after learning from all samples, and without each fold."""
        start = self._tangents.outputs
        count, width = start.shape
        runs = 2 + int(self._fold.max())
        outputs = np.repeat(start.reshape(1, -1), runs, axis=0)
        moves = kernel.reshape(count, width, -1)
        for index, rate in zip(self._steps, self._rates, strict=True):
            errors = self._errors(outputs[:, index * width : (index + 1) * width], index)
            errors[1 + self._fold[index]] = 0.0
            outputs -= rate * errors @ moves[index]
        return outputs.reshape(runs, count, width)

    def _errors(self, outputs: Floats, index: int) -> Floats:
        """Returns by what a sample's outputs (runs, outputs) are pulled, as the step's options make it."""
        errors = self._loss(outputs, self._wanted[index])[1]
        errors[np.abs(errors).max(axis=1) < self._settled] = 0.0
        errors *= self._weights[index]
        if self._plan.options.clip_norm is not None:
            norms = np.maximum(np.linalg.norm(errors, axis=1, keepdims=True), np.finfo(float).tiny)
            errors *= np.minimum(1.0, self._plan.options.clip_norm / norms)
        return errors


def _rates(plan: TrainingPlan, steps: int) -> Floats:
    """Returns the rate of each step."""
    options = plan.options
    factors = np.ones(steps)
    for point in options.schedule or ():
        factors[point.step :] = point.rate / RATE_ONE
    return factors * plan.learning_rate / options.accumulate / (1.0 - options.momentum * 2.0**-DECAY_BITS)


def _product(slopes: Slopes, rows: tuple[int, ...]) -> Slopes:
    """Returns the product of each two outputs' slopes over all biases and the weights of some rows."""
    if len(rows) == slopes.shape[1]:
        everything = slopes.reshape(len(slopes), -1)  # not copied
        return everything @ everything.T
    weights, biases = slopes[:, list(rows), :-1].reshape(len(slopes), -1), slopes[:, :, -1]
    return weights @ weights.T + biases @ biases.T


def _folds(labels: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.intp]:
    """Returns the fold of each sample; each class is spread over them."""
    fold = np.empty(len(labels), np.intp)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    return fold


def _real_wanted(
    loss: Loss, wanted: npt.NDArray[np.signedinteger], width: int, scale: float, zero_point: int
) -> Floats:
    """Returns what is wanted of each output, float64 (n, outputs): probabilities, or real numbers."""
    if loss.takes_class:
        return np.eye(width)[np.asarray(wanted)]
    targets = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
    if loss is Loss.SIGMOID_CROSS_ENTROPY:
        return (targets - ACTIVATION_MIN) / (ACTIVATION_MAX - ACTIVATION_MIN)
    return (targets - zero_point) * scale


Judged = tuple[Floats, Floats]
"""Losses (...), and their gradients to the outputs (..., outputs)."""


def _softmax_cross_entropy(outputs: Floats, wanted: Floats) -> Judged:
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=-1, keepdims=True)
    return np.log(total[..., 0]) - (shifted * wanted).sum(axis=-1), exps / total - wanted


def _sigmoid_cross_entropy(outputs: Floats, wanted: Floats) -> Judged:
    losses = np.logaddexp(0.0, outputs) - wanted * outputs
    return losses.mean(axis=-1), (1.0 / (1.0 + np.exp(-outputs)) - wanted) / outputs.shape[-1]


def _mean_squared_error(outputs: Floats, wanted: Floats) -> Judged:
    difference = outputs - wanted
    return (difference**2).mean(axis=-1), 2.0 * difference / outputs.shape[-1]


def _mean_absolute_error(outputs: Floats, wanted: Floats) -> Judged:
    difference = outputs - wanted
    return np.abs(difference).mean(axis=-1), np.sign(difference) / outputs.shape[-1]


def _huber(outputs: Floats, wanted: Floats) -> Judged:
    difference = outputs - wanted
    slope = np.clip(difference, -HUBER_DELTA, HUBER_DELTA)
    return (slope * (difference - slope / 2)).mean(axis=-1), slope / outputs.shape[-1]


_LOSSES: dict[Loss, Callable[[Floats, Floats], Judged]] = {
    Loss.SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy,
    Loss.SIGMOID_CROSS_ENTROPY: _sigmoid_cross_entropy,
    Loss.MEAN_SQUARED_ERROR: _mean_squared_error,
    Loss.MEAN_ABSOLUTE_ERROR: _mean_absolute_error,
    Loss.HUBER: _huber,
}
