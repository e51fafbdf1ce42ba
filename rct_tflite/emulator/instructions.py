"""The instructions of an image, decoded one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rct_tflite.emulator.image import Architecture, Image


@dataclass(frozen=True)
class Instruction:
    """One instruction, in the words of the disassembler.

    Attributes:
        address: Where it lies.
        size: Its bytes.
        mnemonic: Such as `"push"`.
        operands: Such as `"{r4, lr}"`.
    """

    address: int
    size: int
    mnemonic: str
    operands: str

    @property
    def following(self) -> int:
        """Address behind it."""
        return self.address + self.size


def instructions_of(image: Image) -> Iterator[Instruction]:
    """Yields all code of an image in the order of addresses.

    What the disassembler does not know, such as the loops of a Cortex-M55, comes whole, as `.byte`.
    """
    import capstone  # 30 ms that most commands need not pay

    def unknown_bytes(code: Any, size: int, offset: int, _: object) -> int:
        halfword = int.from_bytes(bytes(code[offset : min(offset + 2, size)]), "little")
        return min(image.architecture.instruction_bytes(halfword), size - offset)

    if image.architecture is Architecture.ARM:
        mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
        decoder = capstone.Cs(capstone.CS_ARCH_ARM, mode)
    else:
        decoder = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC)
    decoder.skipdata = True
    decoder.skipdata_callback = (unknown_bytes, None)
    for start, end in image.code:
        for address, size, mnemonic, operands in decoder.disasm_lite(image.read(start, end - start), start):
            yield Instruction(address, size, mnemonic, operands)
