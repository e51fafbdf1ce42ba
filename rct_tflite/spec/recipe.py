"""How a model is to be quantised."""

from dataclasses import dataclass

from rct_tflite.errors import RecipeError
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS, Rounding


@dataclass(frozen=True)
class Recipe:
    """Bit-widths, rounding and range of the weights of a model.

    Args:
        bits: Bit-width that training starts with.
        min_bits: Narrowest width that the policy may choose.
        max_bits: Widest width; above 8 the weights are held in int16.
        rounding: `"stochastic"` or `"truncate"`.
        per_channel: One scale per output channel instead of one per layer.
        headroom: Weight range as a multiple of the largest initial weight. The range is frozen, so it must
            leave room to grow.

    Raises:
        RecipeError: If a value is out of range.
    """

    bits: int = 6
    min_bits: int = 2
    max_bits: int = 8
    rounding: Rounding = Rounding.STOCHASTIC
    per_channel: bool = False
    headroom: float = 2.0

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.min_bits <= self.bits <= self.max_bits <= MAX_BITS:
            raise RecipeError(
                f"Bit-widths must satisfy {MIN_BITS} <= min_bits <= bits <= max_bits <= {MAX_BITS}. "
                f"Received: min_bits={self.min_bits}, bits={self.bits}, max_bits={self.max_bits}."
            )
        if self.rounding not in tuple(Rounding):
            raise RecipeError(
                f"Unknown rounding. Expected one of {[str(r) for r in Rounding]}. Received: rounding={self.rounding!r}."
            )
        object.__setattr__(self, "rounding", Rounding(self.rounding))
        if not 1.0 <= self.headroom <= 64.0:
            raise RecipeError(
                f"The headroom must be 1 to 64 times the largest weight. Received: headroom={self.headroom}."
            )
