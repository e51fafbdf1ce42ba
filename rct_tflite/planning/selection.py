"""Which ops learn, and which of their channels: `--train all | last:N | NAME,NAME:K,... | bias | none`."""

import difflib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import RecipeError
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.training_plan import Loss, PartialUpdate, TrainingPlan

LARGEST_RATE = 1e6
"""Far above what trains: a number past it is a slip."""
BIAS = "bias"

ChannelGains = Mapping[str, npt.NDArray[np.float64]]
"""Per op, what the weights of each output channel (channels,) promise to gain."""


def select(
    graph: Graph,
    train: str,
    learning_rate: float | None = None,
    loss: str | None = None,
    gains: ChannelGains | None = None,
) -> TrainingPlan:
    """Turns what the user asked for into a plan.

    Args:
        graph: The network.
        train: `"all"` (every layer that its metadata does not freeze), `"last:N"` (the last N of those), `"bias"`
            (the biases of all of those), `"none"` (inference only), or names of layers with commas between. A name
            may end in `:bias` (its biases alone), `:K` (its biases, and the weights of K output channels) or
            `:S` with a share S below 1 of its channels, such as `conv3:0.25`.
        learning_rate: Overrides the one in the file.
        loss: Overrides the one in the file.
        gains: Where K channels learn, those that promise most do; without it the first K.

    Raises:
        RecipeError: If `train` or `loss` cannot be read, or the learning rate is not positive.
    """
    rate = graph.training.learning_rate if learning_rate is None else learning_rate
    if not 0.0 < rate < LARGEST_RATE:
        raise RecipeError(f"The learning rate must be above 0 and below {LARGEST_RATE:g}. Received: {rate}. Try 0.01.")
    chosen = graph.training.loss if loss is None else loss
    if chosen not in tuple(Loss):
        raise RecipeError(f"Unknown loss. Expected one of {[str(known) for known in Loss]}. Received: {chosen!r}.")
    parts = _parts(graph, train, gains or {})
    sizes = trainable(graph)
    names = tuple(name for name in sizes if name in parts)
    partial = tuple(PartialUpdate(name, parts[name]) for name in names if len(parts[name]) < sizes[name])
    return TrainingPlan(names, rate, Rounding(graph.training.rounding), Loss(chosen), partial)


def trainable(graph: Graph) -> dict[str, int]:
    """Returns the ops that can learn, in the order of the graph, and how many output channels each has."""
    frozen = {layer.name for layer in graph.training.layers if not layer.trainable}
    return {op.name: graph.row_shape(op)[0] for op in graph.ops if op.has_weights and op.name not in frozen}


def largest(gains: npt.NDArray[np.float64], count: int) -> tuple[int, ...]:
    """Returns the numbers of the `count` largest, the first of equals, in ascending order.

    Example:
        >>> largest(np.array([1.0, 3.0, 0.0, 2.0]), 2)
        (1, 3)
    """
    return tuple(sorted(np.argsort(-gains, kind="stable")[:count].tolist()))


def told(plan: TrainingPlan) -> str:
    """Returns what learns as `select()` reads it, with numbers of channels.

    Example: `"conv1:bias, conv2:5, dense"`.
    """
    parts = {part.op: f"{part.op}:{len(part.channels) or BIAS}" for part in plan.partial}
    return ", ".join(parts.get(name, name) for name in plan.trained)


def _parts(graph: Graph, train: str, gains: ChannelGains) -> dict[str, tuple[int, ...]]:
    """Returns per op that learns the channels whose weights do."""
    sizes = trainable(graph)
    everything = {name: tuple(range(count)) for name, count in sizes.items()}
    biased = [op.name for op in graph.ops if op.name in sizes and op.has_bias]
    kind, _, number = train.partition(":")
    if train == "none":
        return {}
    if train == "all" and sizes:
        return everything
    if train == BIAS and biased:
        return dict.fromkeys(biased, ())
    if kind == "last" and number in map(str, range(1, len(sizes) + 1)):
        return dict(list(everything.items())[-int(number) :])
    if train in ("all", BIAS) or kind == "last" or not train:
        raise _refusal(train, sizes)
    parts: dict[str, tuple[int, ...]] = {}
    for item in train.split(","):
        name, what = _split(item.strip(), sizes)
        if name in parts:
            raise RecipeError(f"Layer {name!r} is chosen twice. Received: {train!r}. Name it once.")
        if what == BIAS and name not in biased:
            raise RecipeError(
                f"Layer {name!r} is a table and has no biases. Expected a number or a share of its rows. "
                f"Received: {what!r}. Write {name}:0.25, or leave it out."
            )
        parts[name] = _channels(name, what, sizes[name], gains)
    return parts


def _split(item: str, sizes: Mapping[str, int]) -> tuple[str, str]:
    """Splits NAME:WHAT; names of others hold colons, too."""
    if item in sizes:
        return item, ""
    name, _, what = item.rpartition(":")
    if name in sizes:
        return name, what
    raise _refusal(item, sizes)


def _refusal(received: str, sizes: Mapping[str, int]) -> RecipeError:
    near = [difflib.get_close_matches(name, sizes, n=3) for name in (received, received.rpartition(":")[0])]
    close = list(dict.fromkeys(near[0] + near[1]))
    told = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return RecipeError(
        f"Cannot choose what learns. Expected 'all' or 'last:N' with N from 1 to {len(sizes)} (the model has "
        f"{len(sizes)} layers that can learn), 'bias', 'none', or names with commas between, of {[*sizes]}. "
        f"Received: {received!r}.{told}"
    )


def _channels(name: str, what: str, count: int, gains: ChannelGains) -> tuple[int, ...]:
    if not what:
        return tuple(range(count))
    if what == BIAS:
        return ()
    number = _number_of(what, count)
    if number is None:
        raise RecipeError(
            f"Cannot choose what learns of layer {name!r}. Expected 'bias', a number of output channels from 1 to "
            f"{count}, or a share of them above 0 and below 1. Received: {what!r}. Write {name}:{max(count // 4, 1)} "
            f"or {name}:0.25."
        )
    return largest(gains.get(name, np.zeros(count)), number)


def _number_of(what: str, count: int) -> int | None:
    """Returns how many of `count` channels a text asks for, None if it cannot be read."""
    try:
        value = float(what)
    except ValueError:
        return None
    if what.isdecimal() and 1 <= value <= count:
        return int(value)
    return max(round(value * count), 1) if 0.0 < value < 1.0 else None
