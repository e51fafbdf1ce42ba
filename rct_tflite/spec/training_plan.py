"""Which ops learn on the device, and how."""

import enum
from dataclasses import dataclass

from rct_tflite.spec.adaptation import Adaptation
from rct_tflite.spec.aid_options import NO_AIDS, AidOptions
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.step_options import PLAIN_STEP, StepOptions

ERROR_BITS = (8, 16)
"""Bit-widths that errors can have."""


class Loss(enum.StrEnum):
    """What a training step makes smaller; the names are those of Keras where it has one."""

    SOFTMAX_CROSS_ENTROPY = "softmax_cross_entropy"
    SIGMOID_CROSS_ENTROPY = "sigmoid_cross_entropy"
    MEAN_SQUARED_ERROR = "mean_squared_error"
    MEAN_ABSOLUTE_ERROR = "mean_absolute_error"
    HUBER = "huber"

    @property
    def takes_class(self) -> bool:
        """Whether a sample is labelled by the number of its class; the others take a target for each output."""
        return self is Loss.SOFTMAX_CROSS_ENTROPY


@dataclass(frozen=True)
class PartialUpdate:
    """What learns of an op that learns in part: all its biases, and the weights of some output channels.

    Attributes:
        op: Its name.
        channels: Numbers of the output channels whose weights learn, ascending; empty where biases learn alone.
    """

    op: str
    channels: tuple[int, ...]


@dataclass(frozen=True)
class TrainingPlan:
    """The choice of what learns.

    Attributes:
        trained: Names of the ops of which something is updated, in the order of the graph; none: inference only.
        learning_rate: Of plain stochastic gradient descent at batch 1.
        rounding: Of the updates.
        loss: What is made smaller.
        partial: Ops of which not all weights learn; of the other trained ones everything does.
        options: Of the step, beside plain gradient descent.
        aids: What the device has beside the step.
        error_bits: Bit-width of the errors that the backward pass hands from op to op, one of `ERROR_BITS`.
        adaptation: How bit-widths follow the training; None where they stay.
        recomputed: Names of ops whose outputs are not kept for the backward pass, which calls them again; in the order
            of the graph.
    """

    trained: tuple[str, ...]
    learning_rate: float
    rounding: Rounding
    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY
    partial: tuple[PartialUpdate, ...] = ()
    options: StepOptions = PLAIN_STEP
    aids: AidOptions = NO_AIDS
    error_bits: int = 8
    adaptation: Adaptation | None = None
    recomputed: tuple[str, ...] = ()

    def channels_of(self, op: str, channels: int) -> tuple[int, ...]:
        """Returns the output channels of an op whose weights learn.

        Args:
            op: Its name.
            channels: How many output channels it has.
        """
        if op not in self.trained:
            return ()
        return next((part.channels for part in self.partial if part.op == op), tuple(range(channels)))

    def learns_weights(self, op: str) -> bool:
        """Whether weights of an op learn: then its input is kept for the backward pass."""
        return op in self.trained and PartialUpdate(op, ()) not in self.partial
