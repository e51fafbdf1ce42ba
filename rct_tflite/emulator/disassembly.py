"""What an image must not hold: floating point in a path that trains with integers, and a heap."""

import re
from collections.abc import Iterator
from pathlib import Path

from rct_tflite.emulator.image import Architecture, Image, load_image
from rct_tflite.errors import EmulatorError

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
        EmulatorError: If the image cannot be read, or the package capstone is not installed.
    """
    loaded = load_image(image)
    names = {function.start: function.name for function in loaded.functions}
    found: list[str] = []
    called: set[str] = set()
    for address, mnemonic, operands in _instructions(loaded):
        target = _call_target(mnemonic, operands)
        routine = "" if target is None else names.get(target, "")
        if _SOFT_FLOAT.fullmatch(routine):
            called.add(routine)
            found.append(f"{loaded.function_at(address).name}: {mnemonic} {routine}")
        elif _FLOAT_MNEMONIC.match(mnemonic):
            found.append(f"{loaded.function_at(address).name}: {mnemonic} {operands}")
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


def _instructions(image: Image) -> Iterator[tuple[int, str, str]]:
    """Yields `(address, mnemonic, operands)` of all code of a Cortex-M: no other core that we build for has an FPU."""
    if image.architecture is not Architecture.ARM:
        return
    try:
        import capstone  # an optional dependency
    except ImportError as error:
        raise EmulatorError(
            "Cannot disassemble the image. Expected the package capstone. Received: none. "
            "Install it: pip install 'rct-tflite[emulate]'."
        ) from error
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
    decoder.skipdata = True
    for start, end in image.code:
        for address, _, mnemonic, operands in decoder.disasm_lite(image.read(start, end - start), start):
            yield address, mnemonic, operands


def _call_target(mnemonic: str, operands: str) -> int | None:
    if mnemonic in _CALLS and operands.startswith("#"):
        return int(operands[1:], 0) & ~1
    return None
