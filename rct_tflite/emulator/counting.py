"""From executed blocks to instructions per function: one arithmetic for every emulator.

A block is a run of instructions that is entered at its first and left after its last. An instruction that its
condition skips counts like any other: it takes its place in the pipeline.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rct_tflite.emulator.image import Architecture, Image
from rct_tflite.spec.emulation import EmulatedProfile, EmulatedRun, FunctionCount, Mark


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


def instructions_in(code: bytes, architecture: Architecture) -> int:
    """Counts the instructions in a block's bytes.

    Example:
        >>> instructions_in(bytes.fromhex("00bf" "aff30080" "7047"), Architecture.ARM)  # nop, nop.w, bx lr
        3
        >>> instructions_in(bytes.fromhex("0100" "13000000" "8280"), Architecture.RISCV)  # c.nop, nop, ret
        3
    """
    position = count = 0
    while position < len(code):
        position += architecture.instruction_bytes(int.from_bytes(code[position : position + 2], "little"))
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
    instructions: Counter[tuple[str, str]] = Counter()
    for address, count in executed.items():
        function = image.function_at(address)
        instructions[function.name, function.source] += count
    calls: Counter[tuple[str, str]] = Counter()
    for function in image.functions:
        calls[function.name, function.source] += executed[function.start]
    functions = [FunctionCount(*key, calls[key], count) for key, count in instructions.items()]
    functions.sort(key=lambda function: (-function.instructions, function.name, function.source))
    return EmulatedProfile(
        run=run,
        instructions=sum(executed.values()),
        marks=tuple(counts.marks),
        functions=tuple(functions),
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
        address += image.architecture.instruction_bytes(int.from_bytes(image.read(address, 2), "little"))
