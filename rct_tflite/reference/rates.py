"""Learning-rate schedule, class weights and clipping: one factor on the error at the loss (ARITHMETIC.md 7)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import RecipeError
from rct_tflite.reference.backward import MAX_ERROR, BackwardStep, StepMultiplier, backward_steps
from rct_tflite.reference.gradients import ScaledError, saturate
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.packing import held_bits
from rct_tflite.reference.rounding import round_shift
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import low_bits
from rct_tflite.spec.step_options import RATE_BITS, RATE_LIMIT, RATE_ONE, WEIGHT_BITS, WEIGHT_ONE, RatePoint
from rct_tflite.spec.training_plan import TrainingPlan

FACTOR_BITS = 15
NORM_BITS = 8
"""Of errors whose squares are summed."""
LARGEST_PROBABILITY_EXPONENT = 6
"""Of an error of a whole probability."""
LARGEST_MULTIPLIER = 2.0**14
"""Of a gradient: beyond it the shift of an update would be less than 1."""
SMALLEST_MULTIPLIER = 2.0**-27
"""Of a gradient: below it fewer than 4 bits of a multiplier are left at the largest shift."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """`mantissa * 2**-shift`, mantissa in `[2**14, 2**15)`."""

    mantissa: int
    shift: int


def factor_of(value: int, shift: int) -> Factor:
    """Brings `value * 2**-shift`, value above 0, to 15 bits; what is below them is cut off.

    Example:
        >>> factor_of(65536, 16), factor_of(3, 0)
        (Factor(mantissa=16384, shift=14), Factor(mantissa=24576, shift=13))
    """
    excess = value.bit_length() - FACTOR_BITS
    return Factor(value >> excess if excess > 0 else value << -excess, shift - excess)


@dataclass(frozen=True)
class Clip:
    """The largest norm of the error at the loss.

    Attributes:
        limit: In units of the loss' constant.
        norm_shift: Even; squares are summed and shifted left by it before the root is taken.
    """

    limit: Factor
    norm_shift: int


def clip_constants(graph: Graph, plan: TrainingPlan) -> Clip | None:
    """Returns what clipping needs, or None where nothing is clipped."""
    if plan.options.clip_norm is None:
        return None
    outputs = graph.tensors[loss_tensor(graph, plan.loss)].size
    mantissa, exponent = math.frexp(plan.options.clip_norm / loss_constants(graph, plan.loss).scale)
    room = 32 - (MAX_ERROR**2 * outputs).bit_length()
    return Clip(factor_of(math.floor(mantissa * 2.0**30 + 0.5), 30 - exponent), room - room % 2)


def scale_error(error: ScaledError, rate: int, weight: int, clip: Clip | None, error_bits: int = 8) -> ScaledError:
    """Multiplies the error at the loss by the rate, and by the weight of the class or what clipping leaves of it.

    Args:
        error: From the loss, not 0.
        rate: In 2**-16.
        weight: Of the class, in 2**-8.
        clip: The largest norm after the weight, before the rate.
        error_bits: Bit-width of the error.
    """
    part, part_shift = weight, WEIGHT_BITS
    if clip is not None:
        coarse = saturate(round_shift(error.values, error_bits - NORM_BITS))
        root = math.isqrt(int(np.square(coarse).sum()) << clip.norm_shift)
        norm_shift = clip.norm_shift // 2 + error.exponent - (error_bits - NORM_BITS)
        norm = factor_of(root * weight, norm_shift + WEIGHT_BITS)
        if (norm.shift, -norm.mantissa) < (clip.limit.shift, -clip.limit.mantissa):
            unweighted = factor_of(root, norm_shift)
            part = (clip.limit.mantissa << FACTOR_BITS) // unweighted.mantissa
            part_shift = FACTOR_BITS + clip.limit.shift - unweighted.shift
    start = factor_of(rate, RATE_BITS)
    factor = factor_of(start.mantissa * part, start.shift + part_shift)
    return _multiplied(error, np.int64(factor.mantissa), factor.shift, error_bits)


def weigh_outputs(error: ScaledError, weights: tuple[int, ...], error_bits: int = 8) -> ScaledError:
    """Multiplies the error at each output by its weight in 2**-8."""
    return _multiplied(error, np.array(weights, np.int64), WEIGHT_BITS, error_bits)


def _multiplied(error: ScaledError, multiplier: IntArray | np.int64, shift: int, error_bits: int) -> ScaledError:
    """Brings the product back to the error's bits."""
    values = error.values * multiplier
    excess = int(np.abs(values).max()).bit_length() - (error_bits - 1)
    return ScaledError(saturate(round_shift(values, excess), error_bits), error.exponent + shift - excess)


class RateSchedule:
    """The rate, training step by training step.

    Args:
        points: Changes, by their step; None for a rate that never changes.

    Attributes:
        rate: In 2**-16, of the step that runs.

    Example:
        >>> schedule = RateSchedule((RatePoint(1, 32768),))
        >>> [schedule.advance() for _ in range(3)]
        [65536, 32768, 32768]
    """

    def __init__(self, points: tuple[RatePoint, ...] | None) -> None:
        self._changes = {point.step: point.rate for point in points or ()}
        self._step = 0
        self.rate = RATE_ONE

    def advance(self) -> int:
        """Returns the rate of the next step."""
        self.rate = self._changes.get(self._step, self.rate)
        self._step += 1
        return self.rate


class ErrorScaling:
    """What happens to the error between the loss and the last op.

    Args:
        graph: The network.
        plan: What learns, and how.

    Attributes:
        schedule: The learning rate as it is now.
    """

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        self._weights = plan.options.class_weights
        self._error_bits = plan.error_bits
        self._has_factor = plan.options.has_factor(plan.loss.takes_class)
        self._clip = clip_constants(graph, plan)
        self.schedule = RateSchedule(plan.options.schedule)

    def apply(self, error: ScaledError, wanted: int | IntArray) -> ScaledError:
        """Returns the error that the backward pass starts from.

        Args:
            error: From the loss, not 0.
            wanted: The class, or the targets.
        """
        weight = WEIGHT_ONE
        if self._weights and isinstance(wanted, int):
            weight = self._weights[wanted]
        elif self._weights:
            error = weigh_outputs(error, self._weights, self._error_bits)
        if not self._has_factor:
            return error
        return scale_error(error, self.schedule.rate, weight, self._clip, self._error_bits)


def rate_limits(graph: Graph, plan: TrainingPlan) -> tuple[int, int]:
    """Returns the smallest and the largest rate, in 2**-16, that the layers at the loss can be updated with.

    Only there the exponent of the largest error is known before the network has seen a sample.

    Raises:
        RecipeError: If the learning rate itself is beyond them.
    """
    limit = loss_constants(graph, plan.loss).limit
    exponent = 7 - limit.bit_length() if limit else LARGEST_PROBABILITY_EXPONENT
    exponent += plan.error_bits - 8
    unit = 2.0**-exponent * max(plan.options.class_weights or (WEIGHT_ONE,)) / WEIGHT_ONE
    at_loss = _steps_at_loss(graph, plan)
    multipliers = [_multipliers(step, low_bits(held_bits(graph, plan, step.op))) for step in at_loss]
    largest = max((real.max() for both in multipliers for real in both), default=0.0)
    smallest = min((weights.min() for weights, *_ in multipliers), default=math.inf)
    high = LARGEST_MULTIPLIER / (largest * unit) if largest else math.inf
    low = SMALLEST_MULTIPLIER / (smallest * unit)
    if not low <= 1.0 <= high:
        raise RecipeError(
            f"The learning rate gives layer '{at_loss[0].op.name}' an update that integers cannot hold. Expected "
            f"{plan.learning_rate * low:.3g} to {plan.learning_rate * high:.3g}. Received: {plan.learning_rate:g}. "
            "Choose a rate between them."
        )
    return max(math.ceil(low * RATE_ONE), 1), min(int(min(high, 2.0**32) * RATE_ONE), RATE_LIMIT)


def check_schedule(graph: Graph, plan: TrainingPlan) -> None:
    """Refuses rates that the layers at the loss cannot be updated with.

    Raises:
        RecipeError: If the learning rate, or one of the schedule, is beyond what integers hold.
    """
    low, high = rate_limits(graph, plan)
    wrong = [point for point in plan.options.schedule or () if not low <= point.rate <= high]
    if wrong:
        raise RecipeError(
            "The schedule's rate under- or overflows the integers of an update. Expected "
            f"{low / RATE_ONE:.3g} to {high / RATE_ONE:.3g} times the learning rate of {plan.learning_rate:g}. "
            f"Received: {wrong[0].rate / RATE_ONE:.3g} from step {wrong[0].step} on. Choose other rates."
        )


def _steps_at_loss(graph: Graph, plan: TrainingPlan) -> list[BackwardStep]:
    """Returns the trained ops whose error has the exponent of that at the loss."""
    same, found = {loss_tensor(graph, plan.loss)}, []
    for step in backward_steps(graph, plan):
        if step.op.output in same:
            same |= {p.tensor for p in step.passages if not p.changes_exponent and p.merge is None}
            if step.constants is not None and step.constants.weight_step is not None:
                found.append(step)
    return found


def _multipliers(step: BackwardStep, low: int) -> list[npt.NDArray[np.float64]]:
    """Returns the real multipliers of the weights, with `low` bits below those of int8, and of the biases, if any."""
    assert step.constants is not None
    assert step.constants.weight_step is not None
    biases = [] if step.constants.bias_step is None else [_real(step.constants.bias_step)]
    return [_real(step.constants.weight_step) * 2.0**low, *biases]


def _real(multiplier: StepMultiplier) -> npt.NDArray[np.float64]:
    return multiplier.mantissa * 2.0 ** -multiplier.shift.astype(np.float64)
