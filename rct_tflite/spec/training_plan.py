"""Which ops learn on the device, and how."""

import enum
from dataclasses import dataclass

from rct_tflite.spec.adaptation import Adaptation
from rct_tflite.spec.quantization import Rounding


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
class TrainingPlan:
    """The choice of what learns.

    Attributes:
        trained: Names of the ops whose weights and biases are updated, in the order of the graph.
        learning_rate: Of plain stochastic gradient descent at batch 1.
        rounding: Of the updates.
        loss: What is made smaller.
        adaptation: How bit-widths follow the training; None where they stay.
    """

    trained: tuple[str, ...]
    learning_rate: float
    rounding: Rounding
    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY
    adaptation: Adaptation | None = None
