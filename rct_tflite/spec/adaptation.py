"""Bit-widths that follow the training on the device: limits, thresholds and the room for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Adaptation:
    """How the device changes the bit-widths of what it trains (ARITHMETIC.md 10).

    Attributes:
        layers: Names of the ops whose width may change, in the order of the graph; the other trained ones keep theirs.
        min_bits: Narrowest width.
        max_bits: Widest width.
        budget_bytes: Most bytes that the packed weights of all trained ops take at any step; each op's are counted up
            to a multiple of four, as they lie in RAM.
        interval: Training steps between two decisions; samples that teach nothing do not count.
        t_min: Below this Gavg (mean of `abs(gradient) / scale`) a layer gets a bit.
        t_max: Above this Gavg a layer gives a bit back.
        max_saturated: Share of a layer's weights at the ends of their range, beyond the share that lies there if
            weights spread evenly, from which on the range doubles.
    """

    layers: tuple[str, ...]
    min_bits: int
    max_bits: int
    budget_bytes: int
    interval: int
    t_min: float
    t_max: float
    max_saturated: float = 0.01
