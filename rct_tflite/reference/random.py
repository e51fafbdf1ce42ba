"""The generator of the stochastic rounding (ARITHMETIC.md 5)."""

import numpy as np
import numpy.typing as npt

MULTIPLIER = 1664525
INCREMENT = 1013904223
DEFAULT_SEED = 12345
_MASK = (1 << 32) - 1


class RandomGenerator:
    """A 32-bit linear congruential generator that can draw many numbers at once.

    Args:
        state: Seed, 0 to 2**32 - 1.

    Example:
        >>> RandomGenerator(12345).draw(2).tolist()
        [87628868, 71072467]
    """

    def __init__(self, state: int = DEFAULT_SEED) -> None:
        self.state = state & _MASK
        self._powers = np.ones(1, np.uint64)
        self._sums = np.zeros(1, np.uint64)

    def draw(self, count: int) -> npt.NDArray[np.int64]:
        """Returns the next `count` states, each 0 to 2**32 - 1."""
        while self._powers.size <= count:
            self._double()
        states = (self._powers[1 : count + 1] * np.uint64(self.state) + self._sums[1 : count + 1]) & np.uint64(_MASK)
        if count:
            self.state = int(states[-1])
        return states.astype(np.int64)

    def _double(self) -> None:
        """Doubles the tables of `x(n) = power[n] * x(0) + sum[n]`."""
        power = (int(self._powers[-1]) * MULTIPLIER) & _MASK
        total = (int(self._sums[-1]) * MULTIPLIER + INCREMENT) & _MASK
        mask = np.uint64(_MASK)
        self._powers, self._sums = (
            np.concatenate([self._powers, (self._powers * np.uint64(power)) & mask]),
            np.concatenate([self._sums, (self._powers * np.uint64(total) + self._sums) & mask]),
        )
