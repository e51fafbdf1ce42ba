"""What the replicas of a model do together under `tf.distribute`, so that all hold equal integers.

Each replica keeps its own copy of the integers and of what belongs to them. Gradients and ranges are put together,
then every replica computes the same update with the same random numbers; nothing needs to be sent after that.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf


def count() -> int:
    """Returns the number of replicas that train together; 1 without a strategy."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def state_variable(name: str, dtype: str, shape: tuple[int, ...] = ()) -> Any:
    """Returns a variable of zeros that does not train and of which each replica has its own.

    Read it with `.value` inside a step and with `.numpy()` outside of one.
    """
    with _without_broadcast():
        return keras.Variable(
            "zeros",
            shape=shape,
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            synchronization="on_read",
            name=name,
        )


def own(variable: Any) -> Any:
    """Returns the copy of a Keras variable that this replica holds, as a `tf.Variable`.

    Assigning to a copy sends nothing, so it is allowed in a branch; all replicas must assign the same.
    """
    value = variable.value
    return value._get() if isinstance(value, tf.distribute.DistributedValues) else value


def assign_own(variables: list[Any], values: list[Any]) -> None:
    """Assigns to this replica's copies of Keras variables."""
    for variable, value in zip(variables, values, strict=True):
        own(variable).assign(value)


@contextlib.contextmanager
def _without_broadcast() -> Iterator[None]:
    """Keeps several workers from sending each other a new variable: TensorFlow's collectives do not carry int8."""
    extended = tf.distribute.get_strategy().extended
    several = workers()
    if several == 1:
        yield
        return
    extended._num_workers = 1
    try:
        yield
    finally:
        extended._num_workers = several


def workers() -> int:
    """Returns the number of processes that train together; 1 without a strategy."""
    return int(getattr(tf.distribute.get_strategy().extended, "_num_workers", 1))


def agreed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the first worker's numbers on all workers, as TensorFlow does for initial values.

    Args:
        values: float32, of the same shape on all workers.
    """
    if workers() == 1:
        return values
    agreed_values: npt.NDArray[np.float32] = tf.Variable(values, trainable=False).numpy()
    return agreed_values


def for_mean(metrics: Any) -> Any:
    """Returns metrics in the shape in which Keras averages them: over several workers it wants an axis."""
    if workers() == 1:
        return metrics
    return keras.tree.map_structure(lambda value: tf.reshape(value, (1,)), metrics)


def first_local(batch: Any) -> Any:
    """Returns what the first replica of this worker gets of a distributed batch."""
    strategy = tf.distribute.get_strategy()
    return keras.tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)


def summed(gradients: list[Any], flags: list[Any]) -> tuple[list[Any], list[Any]]:
    """Sums gradients over the replicas (each has its share of the loss); a flag holds where it holds on all.

    Args:
        gradients: float32 tensors.
        flags: Boolean scalars.
    """
    replicas = count()
    if replicas == 1:
        return gradients, flags
    counted = [tf.cast(flag, tf.float32) for flag in flags]
    totals = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, *counted])
    return totals[: len(gradients)], [total > replicas - 0.5 for total in totals[len(gradients) :]]


def range_of(values: Any) -> tuple[Any, Any]:
    """Returns the least and the greatest number of all replicas, and of 0."""
    lowest, highest = tf.minimum(tf.reduce_min(values), 0.0), tf.maximum(tf.reduce_max(values), 0.0)
    if count() == 1:
        return lowest, highest
    limits = tf.reshape(tf.stack([lowest, -highest]), (1, 2))
    least = tf.reduce_min(tf.distribute.get_replica_context().all_gather(limits, axis=0), axis=0)
    return least[0], -least[1]
