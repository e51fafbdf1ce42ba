"""Options of the training step: everything that is off where the user asks for nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

RATE_BITS = 16
"""A rate is a multiple of the exported learning rate, in units of 2**-16."""
RATE_ONE = 1 << RATE_BITS
RATE_LIMIT = (1 << 32) - 1
WEIGHT_BITS = 8
"""A class weight is in units of 2**-8, so 1 to 65535 is 1/256 to 255.996."""
WEIGHT_ONE = 1 << WEIGHT_BITS
WEIGHT_LIMIT = (1 << 16) - 1
DECAY_BITS = 8
"""The momentum's decay is in units of 2**-8."""


@dataclass(frozen=True)
class RatePoint:
    """A change of the learning rate.

    Attributes:
        step: Number of the training step, from 0, that is the first with this rate.
        rate: Times the exported learning rate, in 2**-16.
    """

    step: int
    rate: int


@dataclass(frozen=True)
class StepOptions:
    """What a training step does beside plain gradient descent.

    Attributes:
        class_weights: In 2**-8; one for each class, or for each output where the loss takes targets. Empty weighs none.
        schedule: Changes of the rate, by their step. None: the rate never changes, and takes no RAM. Empty: it changes
            only when the application sets it.
        clip_norm: Largest L2 norm of the loss' gradient at the tensor that the loss reads; None clips nothing.
        accumulate: Samples whose gradients are summed for one update, by their mean.
        momentum: What is left of the momentum after a step, in 2**-8; 0 holds none.
    """

    class_weights: tuple[int, ...] = ()
    schedule: tuple[RatePoint, ...] | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    momentum: int = 0

    @property
    def holds_gradients(self) -> bool:
        """Whether anything of a gradient is held from sample to sample."""
        return self.accumulate > 1 or self.momentum > 0

    def has_factor(self, takes_class: bool) -> bool:
        """Whether the whole error at the loss is multiplied by something; weights of outputs are not that."""
        return self.schedule is not None or self.clip_norm is not None or (bool(self.class_weights) and takes_class)


PLAIN_STEP = StepOptions()
"""Gradient descent at batch 1 and nothing else."""


def options_to_json(options: StepOptions) -> dict[str, Any]:
    """Returns what a JSON file holds: settings that are off are left out.

    Example:
        >>> options_to_json(StepOptions(schedule=(RatePoint(8, 32768),)))
        {'schedule': [[8, 32768]]}
    """
    values = asdict(options)
    if options.schedule is not None:
        values["schedule"] = [[point.step, point.rate] for point in options.schedule]
    default = asdict(PLAIN_STEP)
    return {key: value for key, value in values.items() if value != default[key]}


def options_from_json(values: Mapping[str, Any]) -> StepOptions:
    """Reverses `options_to_json()`.

    Raises:
        ValueError, TypeError: If it is something else.
    """
    read = dict(values)
    if "schedule" in read:
        read["schedule"] = tuple(RatePoint(int(step), int(rate)) for step, rate in read["schedule"])
    if "class_weights" in read:
        read["class_weights"] = tuple(int(weight) for weight in read["class_weights"])
    return StepOptions(**read)
