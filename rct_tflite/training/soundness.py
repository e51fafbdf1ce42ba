"""Whether the numbers of training steps are finite. Of the first ones that are not, the name is kept."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rct_tflite.errors import QuantizationError
from rct_tflite.training import replicas


class Soundness:
    """Stops training at the first number that is not finite.

    An assertion would do, but XLA drops those. So each step notes in a variable what it found, which works eagerly,
    in a graph, in several steps per execution and under XLA; whoever ran the step looks at it. The variable belongs
    to no layer and is not saved.
    """

    def __init__(self) -> None:
        self._first = replicas.state_variable("unsound", "int32")  # 0, or the number of the first name, from 1 on
        self._names: tuple[str, ...] = ()

    def note(self, finite: Mapping[str, Any]) -> Any:
        """Notes what a step found; to be called within the step.

        Args:
            finite: What was checked, such as `"loss"`, to a boolean scalar, equal on all replicas.

        Returns:
            Boolean scalar: whether this step and all before it were sound. One that was not must change nothing.
        """
        self._names = tuple(finite)
        flags = tf.stack(list(finite.values()))
        here = tf.where(tf.reduce_all(flags), 0, 1 + tf.argmin(tf.cast(flags, tf.int32), output_type=tf.int32))
        before = tf.convert_to_tensor(self._first.value)
        first = tf.where(before == 0, here, before)
        self._first.assign(first)
        return first == 0

    def check(self) -> None:
        """Refuses to go on after a step that was not sound; to be called outside of the step.

        Raises:
            QuantizationError: Naming what was not finite.
        """
        first = int(self._first.numpy())
        if first:
            self._first.assign(0)  # the next fit() starts anew
            raise QuantizationError(
                f"Training stopped: The {self._names[first - 1]} is not a finite number. "
                "The weights are those before this batch. Look for NaN in the data, or lower the learning rate."
            )
