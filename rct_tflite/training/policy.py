"""When a layer gets a bit more, and when it gives one back."""

from dataclasses import dataclass

from rct_tflite.errors import RecipeError


@dataclass(frozen=True)
class BitPolicy:
    """The rule of the paper, with a dead band.

    One bit more halves the scale and doubles Gavg, so thresholds closer than a factor of 2 would make a layer
    swing between two bit-widths for ever.

    Args:
        t_min: Below this Gavg a layer gets one bit more.
        t_max: Above this Gavg a layer gives one bit back.

    Raises:
        RecipeError: If the thresholds are not `0 < 2 * t_min <= t_max`.

    Example:
        >>> policy = BitPolicy(t_min=1.0, t_max=4.0)
        >>> [policy.next_bits(6, gavg, 2, 8) for gavg in (0.5, 2.0, 5.0)]
        [7, 6, 5]
    """

    t_min: float
    t_max: float

    def __post_init__(self) -> None:
        if not 0.0 < 2.0 * self.t_min <= self.t_max:
            raise RecipeError(
                "The thresholds of Gavg must satisfy 0 < 2 * t_min <= t_max, else bit-widths swing. "
                f"Received: t_min={self.t_min}, t_max={self.t_max}."
            )

    def next_bits(self, bits: int, gavg: float, min_bits: int, max_bits: int) -> int:
        """Returns the bit-width to continue with, one bit away at most unless outside of the limits.

        Args:
            bits: Present bit-width.
            gavg: Running mean of `abs(gradient) / scale`; 0 means that nothing was observed yet.
            min_bits: Narrowest allowed.
            max_bits: Widest allowed.
        """
        if 0.0 < gavg < self.t_min:
            bits += 1
        elif gavg > self.t_max:
            bits -= 1
        return min(max(bits, min_bits), max_bits)
