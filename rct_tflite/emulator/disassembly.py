"""What an image must not hold: floating point in a path that trains with integers, and a heap."""

import re
from pathlib import Path

from rct_tflite.emulator.image import Architecture, load_image
from rct_tflite.emulator.instructions import Instruction, instructions_of

_FLOAT_MNEMONIC = re.compile(r"v\w+(\.\w+)*\.f(16|32|64)")
"""Arithmetic, comparison and conversion say their type. Moves, loads and stores of the FPU's registers do not:
compilers use these for integers too."""

_CALLS = ("b", "b.w", "bl", "blx")

_SOFT_FLOAT = re.compile(
    r"__aeabi_(?:[fd]\w+|c[fd]\w+|u?[il]2[fdh]|h2[fd]\w*)"  # Arm's run-time ABI
    r"|__(?:add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|cmp|unord|powi)[hsdt]f[23]"  # the compilers' own names
    r"|__(?:gnu_)?float(?:un)?[sdt]i[hsdt]f"
    r"|__fix(?:uns)?[hsdt]f[sdt]i"
    r"|__(?:extend|trunc)[hsdt]f[hsdt]f2"
    r"|__gnu_(?:h2f|f2h)\w*"
)

_HEAP = re.compile(r"_?(?:malloc|calloc|realloc|free|sbrk)(?:_r)?|aligned_alloc|posix_memalign")


def float_instructions(image: Path) -> tuple[str, ...]:
    """Lists every floating-point instruction of an image, and every call of a routine that stands in for one.

    Args:
        image: An ELF file for a microcontroller.

    Returns:
        Lines `"function: mnemonic operands"` in the order of addresses; none for an image of integers only.
        A soft-float routine that the image holds without a direct call is listed as `"routine: linked"`.

    Raises:
        EmulatorError: If the image cannot be read.
    """
    loaded = load_image(image)
    names = {function.start: function.name for function in loaded.functions}
    found: list[str] = []
    called: set[str] = set()
    # No other core that we build for has an FPU.
    for instruction in instructions_of(loaded) if loaded.architecture is Architecture.ARM else ():
        caller, mnemonic = loaded.function_at(instruction.address).name, instruction.mnemonic
        routine = names.get(_call_target(instruction), "")
        if _SOFT_FLOAT.fullmatch(routine):
            called.add(routine)
            found.append(f"{caller}: {mnemonic} {routine}")
        elif _FLOAT_MNEMONIC.match(mnemonic):
            found.append(f"{caller}: {mnemonic} {instruction.operands}")
    linked = (name for name in names.values() if _SOFT_FLOAT.fullmatch(name) and name not in called)
    return (*found, *(f"{name}: linked" for name in linked))


def heap_symbols(image: Path) -> tuple[str, ...]:
    """Lists the functions of an image that manage a heap, sorted by name.

    Args:
        image: An ELF file for a microcontroller.

    Raises:
        EmulatorError: If the image cannot be read.
    """
    return tuple(sorted(function.name for function in load_image(image).functions if _HEAP.fullmatch(function.name)))


def _call_target(instruction: Instruction) -> int:
    """Returns the address that a branch or call goes to; -1 for every other instruction."""
    if instruction.mnemonic in _CALLS and instruction.operands.startswith("#"):
        return int(instruction.operands[1:], 0) & ~1
    return -1
