"""Gradients that are held from sample to sample: sums of several, and momentum (ARITHMETIC.md 9)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.random import RandomGenerator
from rct_tflite.reference.rounding import round_shift
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.step_options import DECAY_BITS
from rct_tflite.spec.training_plan import TrainingPlan

BLOCK_BITS = 14
SUM_LIMIT = 2**15 - 1
MOMENTUM_BITS = 7
MOMENTUM_LIMIT = 127
LARGEST_SHIFT = 31

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """`values * 2**-exponent`, int64 (n,); what the exponent is of zeros does not matter."""

    values: IntArray
    exponent: int

    @property
    def bits(self) -> int:
        """Bit length of the largest magnitude."""
        return int(np.abs(self.values).max()).bit_length()


def gradient_sum(held: Block | None, gradient: Block) -> Block:
    """Returns the sum of two blocks, the larger one brought to 14 bits.

    Args:
        held: So far; None or 0 for nothing.
        gradient: Not 0.

    Example:
        >>> total = gradient_sum(Block(np.array([3, 0]), 0), Block(np.array([1, 1]), 2))
        >>> total.values.tolist(), total.exponent
        ([13312, 1024], 12)
    """
    parts = [part for part in (held, gradient) if part is not None and part.bits]
    exponent = min(part.exponent + BLOCK_BITS - part.bits for part in parts)
    values = sum(round_shift(part.values, min(part.exponent - exponent, LARGEST_SHIFT)) for part in parts)
    return Block(np.asarray(values, np.int64), exponent)


@dataclass(frozen=True)
class Place:
    """A row of weights of one channel (part 0), or its bias (part 1)."""

    channel: int
    part: int


class HeldGradients:
    """What lies between the gradient of a sample and an update: nothing, sums, momentum, or one behind the other.

    Args:
        graph: The network.
        plan: Says what is held.
        random: Of the stochastic rounding of the momentum.
        update: Updates a row or bias of an op from a gradient.
        observe: Sees the gradient of each row before the momentum joins it.
        octave: Returns how far an op's scale is from the exported one: what is held is in the exported one.
    """

    def __init__(
        self,
        graph: Graph,
        plan: TrainingPlan,
        random: RandomGenerator,
        update: Callable[[Op, Place, Block], None],
        observe: Callable[[Op, Place, Block], None] = lambda *_: None,
        octave: Callable[[Op], int] = lambda _: 0,
    ) -> None:
        self._observe, self._octave = observe, octave
        self._samples, self._decay = plan.options.accumulate, plan.options.momentum
        self._random, self._update = random, update
        self._waiting, self._taught = 0, False
        self._channels = {op.name: graph.row_shape(op)[0] for op in graph.ops if op.name in plan.trained}
        self._sums: dict[tuple[str, Place], Block] = {}
        self._momentum: dict[tuple[str, Place], Block] = {}

    def learn(self, op: Op, place: Place, gradient: Block) -> None:
        """Takes the gradient that one sample gives a row or bias."""
        if not gradient.bits:
            return
        gradient = Block(gradient.values, gradient.exponent - self._octave(op))
        if self._samples == 1:
            self._follow(op, place, gradient)
            return
        total = gradient_sum(self._sums.get((op.name, place)), gradient)
        self._sums[op.name, place] = Block(np.clip(total.values, -SUM_LIMIT, SUM_LIMIT), total.exponent)

    def finish_sample(self, ops: Sequence[Op], taught: bool = True) -> bool:
        """Updates from the sums after every so many samples, also of those that taught nothing.

        Args:
            ops: In the order of the backward pass.
            taught: Whether the sample had an error.

        Returns:
            Whether this ended a step that any sample taught something for.
        """
        self._waiting = (self._waiting + 1) % self._samples
        self._taught = taught or (self._taught and self._samples > 1)
        if self._samples == 1 or self._waiting:
            return self._taught and self._samples == 1
        for op in ops:
            for channel, part in itertools.product(range(self._channels.get(op.name, 0)), (0, 1)):
                total = self._sums.pop((op.name, Place(channel, part)), None)
                if total is not None and total.bits:
                    self._follow(op, Place(channel, part), total)
        taught, self._taught = self._taught, False
        return taught

    def forget(self) -> None:
        """Drops what is held, as a rollback does."""
        self._waiting, self._taught = 0, False
        self._sums.clear()
        self._momentum.clear()

    def _follow(self, op: Op, place: Place, gradient: Block) -> None:
        """Updates by a gradient that is not 0, or by the momentum with it; what has no gradient keeps its momentum."""
        octave = self._octave(op)
        if not place.part:
            self._observe(op, place, Block(gradient.values, gradient.exponent + octave))
        if self._decay:
            held = self._momentum.get((op.name, place))
            if held is not None:
                held = Block(held.values * self._decay, held.exponent + DECAY_BITS)
            gradient = gradient_sum(held, gradient)
            self._momentum[op.name, place] = self._rounded(gradient)
        self._update(op, place, Block(gradient.values, gradient.exponent + octave))

    def _rounded(self, moved: Block) -> Block:
        """Brings a direction to 8 bits, rounded stochastically, so that its decay does not get stuck."""
        shift = moved.bits - MOMENTUM_BITS
        if shift <= 0:
            return moved
        noise = np.zeros(moved.values.size, np.int64)
        there = moved.values != 0
        noise[there] = self._random.draw(int(np.count_nonzero(there))) >> (32 - shift)
        values = np.clip((moved.values + noise) >> shift, -MOMENTUM_LIMIT, MOMENTUM_LIMIT)
        return Block(values, moved.exponent - shift)
