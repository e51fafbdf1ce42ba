"""A target: a core, part or board, each number with its source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """A number, the interval that it is believed to lie in, and where it comes from.

    `confidence` is "measured", "datasheet" or "derived".
    """

    value: float
    low: float
    high: float
    confidence: str
    source: str


@dataclass(frozen=True)
class Memory:
    """One region: start address and size in bytes."""

    origin: int
    size: int


@dataclass(frozen=True)
class Target:
    """What generation, the fit check and the estimate must know of a microcontroller.

    Attributes:
        name: As given to `--target`.
        description: One line for `rct-tflite targets`.
        core: Name of the core, such as "cortex-m7": chooses compiler flags and emulator.
        flash: Where code and constants go.
        ram: Where the arena, the weights and the stack go.
        stack_bytes: Stack that the linker reserves.
        clock_mhz: Core clock in MHz.
        cycles_per_instruction: Mean over our kernels.
        active_mw_per_mhz: Active power in mW per MHz while computing.
    """

    name: str
    description: str
    core: str
    flash: Memory
    ram: Memory
    stack_bytes: int
    clock_mhz: Quantity
    cycles_per_instruction: Quantity
    active_mw_per_mhz: Quantity
