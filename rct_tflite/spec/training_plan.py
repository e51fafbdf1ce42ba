"""Which ops learn on the device, and how."""

from dataclasses import dataclass

from rct_tflite.spec.quantization import Rounding


@dataclass(frozen=True)
class TrainingPlan:
    """The choice of what learns.

    Attributes:
        trained: Names of the ops whose weights and biases are updated, in the order of the graph.
        learning_rate: Of plain stochastic gradient descent at batch 1.
        rounding: Of the updates.
    """

    trained: tuple[str, ...]
    learning_rate: float
    rounding: Rounding
