"""Which memory each function of a firmware reads and writes, seen access by access."""

import bisect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rct_tflite.emulator import faults
from rct_tflite.emulator.image import Image, Variable, load_image
from rct_tflite.emulator.unicorn import Machine, UnicornEmulator, unicorn_const

FLASH, STACK, NOWHERE = "<flash>", "<stack>", "<nowhere>"
"""Places beside the variables. Nowhere: memory that is no variable's, or more than one's."""

_NOWHERE = Variable(NOWHERE, 0, 0, "")


@dataclass(frozen=True, order=True)
class Access:
    """A function reads or writes a place.

    Attributes:
        function: Its name.
        source: Its C file, where other files do not see it; else empty.
        place: A variable's name, or one of `FLASH`, `STACK` and `NOWHERE`.
        place_source: The variable's C file, where other files do not see it; else empty.
        is_store: Whether it writes.
    """

    function: str
    source: str
    place: str
    place_source: str
    is_store: bool


@dataclass
class _Auditor:
    machine: Machine
    seen: set[tuple[int, Variable, bool]] = field(default_factory=set)
    block: int = 0

    def __post_init__(self) -> None:
        image, uc = self.machine.image, self.machine.uc
        self._starts = [variable.start for variable in image.variables]
        self._outside = (
            Variable(STACK, image.stack_limit, image.stack_top, ""),
            Variable(FLASH, image.flash.origin, image.flash_end, ""),
        )
        uc.hook_add(unicorn_const.UC_HOOK_BLOCK, self._on_block)
        accesses = unicorn_const.UC_HOOK_MEM_READ | unicorn_const.UC_HOOK_MEM_WRITE
        for memory in (image.flash, image.ram):
            uc.hook_add(accesses, self._on_access, begin=memory.origin, end=memory.origin + memory.size - 1)

    def _on_block(self, _uc: Any, address: int, _size: int, _: object) -> None:
        self.block = address

    def _on_access(self, _uc: Any, access: int, address: int, size: int, _value: int, _: object) -> None:
        is_store = access == unicorn_const.UC_MEM_WRITE
        self.seen.add((self.block, self._place(address, size), is_store))

    def _place(self, address: int, size: int) -> Variable:
        for place in self._outside:
            if place.start <= address < place.end:
                return place
        variables = self.machine.image.variables
        index = bisect.bisect_right(self._starts, address) - 1
        if index >= 0 and address + size <= variables[index].end:
            return variables[index]
        return _NOWHERE


def audit(core: str, path: Path, request: bytes, timeout_s: float = 300.0) -> frozenset[Access]:
    """Runs an image and lists what its functions read and wrote. It needs the package unicorn.

    What no run does ends this one, too: a write to flash, an access outside of the image and of the RAM.

    Args:
        core: Such as "cortex-m7".
        path: An ELF file.
        request: What `rct_port_read()` of the firmware reads.
        timeout_s: Limit of wall time in seconds.

    Raises:
        EmulatorError: If the firmware faults or does not end in time.
    """
    image = load_image(path)
    machine = UnicornEmulator(core).machine(image, request)
    auditor = _Auditor(machine)
    machine.run(timeout_s)
    faults.raise_reported_fault(image, machine.host.console.decode(errors="replace"))
    return frozenset(_accesses(image, auditor))


def _accesses(image: Image, auditor: _Auditor) -> set[Access]:
    found = set()
    for block, place, is_store in auditor.seen:
        function = image.function_at(block)
        found.add(Access(function.name, function.source, place.name, place.source, is_store))
    return found
