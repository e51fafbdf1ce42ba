"""Which ops learn: `--train all | last:N`."""

from rct_tflite.errors import RecipeError
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.training_plan import Loss, TrainingPlan

LARGEST_RATE = 1e6
"""Far above what trains: a number past it is a slip."""


def select(graph: Graph, train: str, learning_rate: float | None = None, loss: str | None = None) -> TrainingPlan:
    """Turns what the user asked for into a plan.

    Args:
        graph: The network.
        train: `"all"` (every layer that its metadata does not freeze) or `"last:N"` (the last N of those).
        learning_rate: Overrides the one in the file.
        loss: Overrides the one in the file.

    Raises:
        RecipeError: If `train` or `loss` cannot be read, nothing would learn, or the learning rate is not positive.
    """
    frozen = {layer.name for layer in graph.training.layers if not layer.trainable}
    names = tuple(op.name for op in graph.ops if op.has_weights and op.name not in frozen)
    count = _count(train, len(names))
    rate = graph.training.learning_rate if learning_rate is None else learning_rate
    if not 0.0 < rate < LARGEST_RATE:
        raise RecipeError(f"The learning rate must be above 0 and below {LARGEST_RATE:g}. Received: {rate}. Try 0.01.")
    chosen = graph.training.loss if loss is None else loss
    if chosen not in tuple(Loss):
        raise RecipeError(f"Unknown loss. Expected one of {[str(known) for known in Loss]}. Received: {chosen!r}.")
    return TrainingPlan(names[len(names) - count :], rate, Rounding(graph.training.rounding), Loss(chosen))


def _count(train: str, available: int) -> int:
    if train == "all" and available:
        return available
    kind, _, number = train.partition(":")
    if kind == "last" and number in map(str, range(1, available + 1)):
        return int(number)
    raise RecipeError(
        f"Cannot choose what learns. Expected 'all' or 'last:N' with N from 1 to {available} "
        f"(the model has {available} layers that can learn). Received: {train!r}."
    )
