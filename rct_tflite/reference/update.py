"""The update of integers in place (ARITHMETIC.md 6)."""

import numpy as np
import numpy.typing as npt

from rct_tflite.reference.random import RandomGenerator
from rct_tflite.spec.quantization import Rounding

IntArray = npt.NDArray[np.int64]
MIN_STEP_SHIFT = 1
MAX_STEP_SHIFT = 30


def step_multiplier(mantissa: int, shift: int) -> tuple[int, int]:
    """Brings `mantissa * 2**-shift` to a shift of 1 to 30.

    Example:
        >>> step_multiplier(16384, 32), step_multiplier(16384, -1), step_multiplier(20000, 12)
        ((4096, 30), (16384, 1), (20000, 12))
    """
    if shift > MAX_STEP_SHIFT:
        return mantissa >> min(shift - MAX_STEP_SHIFT, 15), MAX_STEP_SHIFT
    return mantissa, max(shift, MIN_STEP_SHIFT)


def updates(gradient: IntArray, mantissa: int, shift: int, random: RandomGenerator | None) -> IntArray:
    """Returns the integers to subtract.

    Args:
        gradient: int64 (n,), integer gradients.
        mantissa: Of the step multiplier.
        shift: Of the step multiplier plus the exponent of the error.
        random: Generator for stochastic rounding (one draw for each gradient that is not 0), None to truncate.
    """
    mantissa, shift = step_multiplier(mantissa, shift)
    product = gradient * mantissa
    if random is None:
        return np.where(product >= 0, product >> shift, -((-product) >> shift))
    noise = np.zeros(gradient.size, np.int64)
    noise[gradient != 0] = random.draw(int(np.count_nonzero(gradient))) >> (32 - shift)
    return (product + noise) >> shift


def subtract(values: IntArray, steps: IntArray, limit: int) -> IntArray:
    """Returns `values - steps` within `limit`; what has no step stays as it is, also beyond the limit.

    Example:
        >>> subtract(np.array([-128, -128, 5]), np.array([0, 1, 2]), limit=127).tolist()
        [-128, -127, 3]
    """
    return np.where(steps == 0, values, np.clip(values - steps, -limit, limit))


def generator_for(rounding: Rounding, random: RandomGenerator) -> RandomGenerator | None:
    """Returns the generator where the rounding needs one."""
    return random if rounding is Rounding.STOCHASTIC else None
