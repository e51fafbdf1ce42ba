"""A target: a core, part or board, each number with its source."""

from dataclasses import dataclass

OP_CLASSES = ("mac", "depthwise", "elementwise", "update", "move")
"""What our kernels spend instructions on: dot products of convolution and fully connected ops, depthwise filters,
work per element (requantise, add, pool, mask), weight updates with packing, and the rest (copies, tables, control)."""


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
class Region:
    """A memory of the part, whether we link into it or not.

    Attributes:
        name: As in the reference manual.
        kind: "flash", "ram" or "external".
        memory: Where it lies.
    """

    name: str
    kind: str
    memory: Memory


@dataclass(frozen=True)
class FlashTiming:
    """How fast the flash answers.

    Attributes:
        wait_states: Extra clocks of an access at the target's clock.
        zero_wait_mhz: Fastest clock without wait states, in MHz.
        cache_bytes: Of the cache or accelerator in front of it; 0 without.
        read_bytes: That one access to the flash brings; None if not known.
    """

    wait_states: int
    zero_wait_mhz: Quantity
    cache_bytes: int
    read_bytes: int | None = None


@dataclass(frozen=True)
class FlashWriting:
    """What writing to the flash costs, for each byte.

    Attributes:
        erase_bytes: Smallest unit that can be erased.
        write_bytes: Smallest unit that can be programmed.
        erase_uj_per_byte: Energy to erase, in uJ.
        write_uj_per_byte: Energy to program, in uJ.
        erase_us_per_byte: Time to erase, in us.
        write_us_per_byte: Time to program, in us.
    """

    erase_bytes: int
    write_bytes: int
    erase_uj_per_byte: Quantity
    write_uj_per_byte: Quantity
    erase_us_per_byte: Quantity
    write_us_per_byte: Quantity


@dataclass(frozen=True)
class Headline:
    """The current that the data sheet advertises.

    Attributes:
        ua_per_mhz: Microampere for each MHz.
        voltage_v: At this supply, in V.
    """

    ua_per_mhz: Quantity
    voltage_v: Quantity


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
        active_mw_per_mhz: Active power in mW per MHz while computing, at `voltage_v`.
        clock_max_mhz: Fastest clock of the part in MHz.
        voltage_v: Supply at which the power holds, in V.
        linear_regulator: Whether the current stays the same at another supply. A switched regulator keeps the
            power.
        op_cpi: (op class, cycles per instruction), for the classes that differ from the mean.
        op_power: (op class, power relative to the mean of the network).
        regions: Every memory of the part.
        timing: Of the flash.
        writing: To the flash.
        headline: Of the data sheet.
        sleep_uw: Power of the part alone while it sleeps, RAM kept and a timer running, in uW; a board draws more.
        external_nj_per_byte: Reading external memory, in nJ for each byte.
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
    clock_max_mhz: Quantity | None = None
    voltage_v: Quantity | None = None
    linear_regulator: bool = False
    op_cpi: tuple[tuple[str, Quantity], ...] = ()
    op_power: tuple[tuple[str, Quantity], ...] = ()
    regions: tuple[Region, ...] = ()
    timing: FlashTiming | None = None
    writing: FlashWriting | None = None
    headline: Headline | None = None
    sleep_uw: Quantity | None = None
    external_nj_per_byte: Quantity | None = None
