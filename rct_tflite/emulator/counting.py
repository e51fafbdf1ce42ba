"""From executed blocks to instructions per function: one arithmetic for every emulator.

A block is a run of instructions that is entered at its first and left after its last. An instruction that its
condition skips counts like any other: it takes its place in the pipeline.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rct_tflite.emulator.image import Image
from rct_tflite.spec.emulation import EmulatedProfile, EmulatedRun, FunctionCount, Mark

FIRST_WIDE_PREFIX = 0b11101
"""A halfword whose upper five bits reach this begins a 32-bit Thumb instruction."""


@dataclass(frozen=True)
class Block:
    """`instructions` instructions from `address` on, executed `count` times."""

    address: int
    instructions: int
    count: int


@dataclass(frozen=True)
class Counts:
    """What an emulator hands over.

    Attributes:
        blocks: Executed blocks, in any order; one address may stand in several.
        marks: Entries of the marked functions, in the order of execution.
        stack_low: Lowest address above the variables that was written; the stack's top if none was.
    """

    blocks: Sequence[Block]
    marks: Sequence[Mark]
    stack_low: int


def instruction_length(first_halfword: int) -> int:
    """Returns the bytes of a Thumb instruction, 2 or 4."""
    return 4 if first_halfword >> 11 >= FIRST_WIDE_PREFIX else 2


def instructions_in(code: bytes) -> int:
    """Counts the Thumb instructions in a block's bytes.

    Example:
        >>> instructions_in(bytes.fromhex("00bf" "aff30080" "7047"))  # nop, nop.w, bx lr
        3
    """
    position = count = 0
    while position < len(code):
        position += instruction_length(int.from_bytes(code[position : position + 2], "little"))
        count += 1
    return count


def make_profile(image: Image, run: EmulatedRun, counts: Counts) -> EmulatedProfile:
    """Attributes every executed instruction to the function that holds it.

    A function is entered each time its first instruction executes; where a compiler lets a loop branch there,
    each turn of the loop is an entry.

    Raises:
        EmulatorError: If a block lies outside of the image.
    """
    executed: Counter[int] = Counter()
    for block in counts.blocks:
        for address in _addresses(image, block):
            executed[address] += block.count
    instructions: Counter[str] = Counter()
    for address, count in executed.items():
        instructions[image.function_at(address)] += count
    calls: Counter[str] = Counter()
    for function in image.functions:
        calls[function.name] += executed[function.start]
    functions = [FunctionCount(name, calls[name], count) for name, count in instructions.items()]
    return EmulatedProfile(
        run=run,
        instructions=sum(executed.values()),
        marks=tuple(counts.marks),
        functions=tuple(sorted(functions, key=lambda function: (-function.instructions, function.name))),
        stack_bytes=image.stack_top - counts.stack_low,
    )


def mark_addresses(image: Image, names: Iterable[str]) -> dict[int, str]:
    """Returns the entry address of each function to mark.

    Raises:
        EmulatorError: If the image has no such function.
    """
    return {image.function_named(name).start: name for name in names}


def _addresses(image: Image, block: Block) -> Iterator[int]:
    address = block.address
    for _ in range(block.instructions):
        yield address
        address += instruction_length(int.from_bytes(image.read(address, 2), "little"))
