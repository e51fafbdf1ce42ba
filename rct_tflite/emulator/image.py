"""What a built firmware image says of itself: its memory, functions and sizes, read from the ELF file."""

import bisect
import enum
import functools
import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Symbol, SymbolTableSection

from rct_tflite.errors import EmulatorError
from rct_tflite.spec.target import Memory

_EXECUTABLE = 0x4  # section flags: SHF_EXECINSTR
_ALLOCATED = 0x2  # SHF_ALLOC
_WRITABLE = 0x1  # SHF_WRITE


class Architecture(enum.StrEnum):
    """Instruction set of an image."""

    ARM = "arm"  # Thumb
    RISCV = "riscv"  # of 32 bits, with compressed instructions

    def instruction_bytes(self, first_halfword: int) -> int:
        """Returns the bytes of the instruction that begins with a halfword: 2 or 4."""
        is_wide = first_halfword >> 11 >= 0b11101 if self is Architecture.ARM else first_halfword & 0b11 == 0b11
        return 4 if is_wide else 2


_MACHINES = {"EM_ARM": Architecture.ARM, "EM_RISCV": Architecture.RISCV}
_CODE_SYMBOLS = {Architecture.ARM: "$t", Architecture.RISCV: "$x"}
_DATA_SYMBOL = "$d"


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of an image in bytes.

    Attributes:
        text: Code.
        rodata: Constants.
        data: Variables with an initial value; they take flash and RAM.
        bss: Variables that start at zero.
        stack: Reserved stack; 0 for a program on the PC.
    """

    text: int
    rodata: int
    data: int
    bss: int
    stack: int

    @property
    def flash_bytes(self) -> int:
        """Flash that the image takes."""
        return self.text + self.rodata + self.data

    @property
    def ram_bytes(self) -> int:
        """RAM that the image takes, its stack included."""
        return self.data + self.bss + self.stack


@dataclass(frozen=True)
class Segment:
    """Bytes of the image and the address that they are loaded to."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Function:
    """A function, `[start, end)`; the lowest bit of the address, which means Thumb, is cleared.

    `source` is the name of the C file of a function that other files do not see; empty for every other one.
    """

    name: str
    start: int
    end: int
    source: str


@dataclass(frozen=True)
class Variable:
    """Bytes of RAM that C code gave a name, `[start, end)`; `source` as in `Function`."""

    name: str
    start: int
    end: int
    source: str


@dataclass(frozen=True)
class Image:
    """An image for a microcontroller that was linked with `ports/cortex-m/link.ld.j2`.

    Attributes:
        path: Its file.
        architecture: Of its instructions.
        entry: Where its file says that it starts.
        flash: The region that the linker script names so.
        ram: The region that the linker script names so.
        stack_bytes: Stack reserved at the end of the RAM.
        variables_end: Address behind the last variable: what is written from there on is stack.
        segments: What is loaded.
        functions: Sorted by address, one name per address.
        variables: Sorted by address.
        code: Regions of instructions, `(start, end)` sorted; the rest of the code section is constants.
    """

    path: Path
    architecture: Architecture
    entry: int
    flash: Memory
    ram: Memory
    stack_bytes: int
    variables_end: int
    segments: tuple[Segment, ...]
    functions: tuple[Function, ...]
    variables: tuple[Variable, ...]
    code: tuple[tuple[int, int], ...]

    @property
    def stack_top(self) -> int:
        """The initial stack pointer: the stack grows down from the end of the RAM."""
        return self.ram.origin + self.ram.size

    @property
    def stack_limit(self) -> int:
        """The lowest address of the reserved stack."""
        return self.stack_top - self.stack_bytes

    @functools.cached_property
    def flash_end(self) -> int:
        """Address behind the last byte that the image has in flash."""
        return max((segment.address + len(segment.data) for segment in self.segments), default=self.flash.origin)

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [function.start for function in self.functions]

    def function_at(self, address: int) -> Function:
        """Returns the function that holds an address; where there is none, one of the name `"?"`."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.functions[index].end:
            return self.functions[index]
        return Function("?", address, address, "")

    def function_named(self, name: str) -> Function:
        """Returns a function by its name.

        Raises:
            EmulatorError: If the image has none of that name.
        """
        for function in self.functions:
            if function.name == name:
                return function
        raise EmulatorError(
            f"{self.path.name} has no such function. Expected a function that the compiler kept. "
            f"Received: {name!r}. Mark it noinline, and call it, so that the compiler and the linker keep it."
        )

    def read(self, address: int, size: int) -> bytes:
        """Returns initial bytes of memory.

        Raises:
            EmulatorError: If the image does not hold them.
        """
        for segment in self.segments:
            offset = address - segment.address
            if offset >= 0 and offset + size <= len(segment.data):
                return segment.data[offset : offset + size]
        raise EmulatorError(
            f"{self.path.name} does not hold this memory. Received: {size} bytes at 0x{address:08x}. "
            "Code that was copied or written at run time cannot be counted."
        )


def load_image(path: Path) -> Image:
    """Reads an image.

    Args:
        path: An ELF file for a Cortex-M or a RISC-V core.

    Raises:
        EmulatorError: If the file is not one, or was linked with another linker script.
    """
    elf = _open_elf(path)
    architecture = _MACHINES.get(elf["e_machine"])
    if architecture is None or elf.elfclass != 32:
        raise EmulatorError(
            f"Cannot read {path.name}. Expected an image for a Cortex-M or a RISC-V core of 32 bits. "
            f"Received: {elf['e_machine']}. "
            "Build it for the target; a program for the PC runs without an emulator."
        )
    symbols = tuple(_symbols(elf))
    addresses = {symbol.name: symbol["st_value"] & ~1 for symbol in symbols if symbol["st_info"]["bind"] != "STB_LOCAL"}
    try:
        flash_origin, flash_end = addresses["rct_flash_origin"], addresses["rct_flash_end"]
        ram_origin, stack_top = addresses["rct_ram_origin"], addresses["rct_stack_top"]
        stack_bytes = stack_top - addresses["rct_stack_limit"]
        variables_end = addresses["rct_bss_end"]
    except KeyError as error:
        raise EmulatorError(
            f"{path.name} does not say which memory it uses. Expected the symbols of ports/cortex-m/link.ld.j2. "
            f"Received: no {error.args[0]}. Link it with that script, and do not strip it."
        ) from None
    return Image(
        path=path,
        architecture=architecture,
        entry=elf["e_entry"] & ~1,
        flash=Memory(flash_origin, flash_end - flash_origin),
        ram=Memory(ram_origin, stack_top - ram_origin),
        stack_bytes=stack_bytes,
        variables_end=variables_end,
        segments=tuple(_segments(elf)),
        functions=_functions(symbols),
        variables=_variables(symbols, ram_origin, variables_end),
        code=tuple(_code_regions(elf, symbols, _CODE_SYMBOLS[architecture])),
    )


def image_sizes(path: Path) -> ImageSizes:
    """Measures an image, for a microcontroller or for the PC.

    Args:
        path: An ELF file.

    Raises:
        EmulatorError: If the file is not one.
    """
    elf = _open_elf(path)
    sizes = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for section in elf.iter_sections():
        flags = section["sh_flags"]
        if not flags & _ALLOCATED:
            continue
        if flags & _EXECUTABLE:
            kind = "text"
        elif section["sh_type"] == "SHT_NOBITS":
            kind = "bss"
        else:
            kind = "data" if flags & _WRITABLE else "rodata"
        sizes[kind] += section["sh_size"]
    addresses = {symbol.name: symbol["st_value"] for symbol in _symbols(elf)}
    stack = addresses.get("rct_stack_top", 0) - addresses.get("rct_stack_limit", 0)
    return ImageSizes(**sizes, stack=stack)


def _open_elf(path: Path) -> ELFFile:
    try:
        return ELFFile(io.BytesIO(path.read_bytes()))
    except (OSError, ELFError) as error:
        raise EmulatorError(f"Cannot read {path}. Expected an ELF image. Received: {error}. Build it first.") from error


def _symbols(elf: ELFFile) -> Iterator[Symbol]:
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            yield from section.iter_symbols()


def _segments(elf: ELFFile) -> Iterator[Segment]:
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
            yield Segment(segment["p_paddr"], segment.data())


def _functions(symbols: Iterable[Symbol]) -> tuple[Function, ...]:
    """Of several names for one address a global one counts before a local one, and the shortest of those."""
    named: dict[int, tuple[Symbol, str]] = {}

    def preference(symbol: Symbol) -> tuple[bool, int, str]:
        return symbol["st_info"]["bind"] == "STB_LOCAL", len(symbol.name), symbol.name

    for symbol, source in _with_source(symbols):
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
            start = symbol["st_value"] & ~1
            if start not in named or preference(symbol) < preference(named[start][0]):
                named[start] = symbol, source
    starts = sorted(named)
    ends = [*starts[1:], (starts[-1] + (named[starts[-1]][0]["st_size"] or 4)) if starts else 0]
    return tuple(
        Function(symbol.name, start, end, source)
        for start, end, (symbol, source) in zip(starts, ends, (named[start] for start in starts), strict=True)
    )


def _variables(symbols: Iterable[Symbol], start: int, end: int) -> tuple[Variable, ...]:
    named = {}
    for symbol, source in _with_source(symbols):
        address = symbol["st_value"]
        if symbol["st_info"]["type"] == "STT_OBJECT" and start <= address < end:
            named[address] = Variable(symbol.name, address, address + symbol["st_size"], source)
    return tuple(named[address] for address in sorted(named))


def _with_source(symbols: Iterable[Symbol]) -> Iterator[tuple[Symbol, str]]:
    """Yields each symbol with the name of the C file of a local one: those of a file follow the file's own."""
    file = ""
    for symbol in symbols:
        if symbol["st_info"]["type"] == "STT_FILE":
            file = Path(symbol.name).name
        yield symbol, file if symbol["st_info"]["bind"] == "STB_LOCAL" else ""


def _code_regions(elf: ELFFile, symbols: Iterable[Symbol], code_symbol: str) -> Iterator[tuple[int, int]]:
    """Yields what the mapping symbols of code and of constants delimit."""
    kinds = sorted(
        (s["st_value"], s.name[:2], s["st_shndx"]) for s in symbols if s.name[:2] in (code_symbol, _DATA_SYMBOL)
    )
    for number, section in enumerate(elf.iter_sections()):
        if not (section["sh_flags"] & _EXECUTABLE and section["sh_flags"] & _ALLOCATED):
            continue
        start, end = section["sh_addr"], section["sh_addr"] + section["sh_size"]
        # Sections that are not loaded have addresses, too.
        inside = [(address, kind) for address, kind, place in kinds if place == number and start <= address < end]
        for (address, kind), (following, _) in zip(inside, [*inside[1:], (end, "")], strict=True):
            if kind == code_symbol and address < following:
                yield address, following


def initial_registers(image: Image) -> tuple[int, int]:
    """Returns the stack pointer and the program counter after a reset: a Cortex-M loads them from its vector table."""
    if image.architecture is not Architecture.ARM:
        return image.stack_top, image.entry
    stack_pointer, reset = struct.unpack("<II", image.read(image.flash.origin, 8))
    return stack_pointer, reset
