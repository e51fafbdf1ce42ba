"""Runs an image in the `unicorn` package, a core without a board: any memory map, nothing to install but a wheel."""

import importlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rct_tflite.emulator import faults
from rct_tflite.emulator.counting import Block, Counts, instructions_in, make_profile, mark_addresses
from rct_tflite.emulator.image import Architecture, Image, initial_registers, load_image
from rct_tflite.emulator.semihosting import Semihosting
from rct_tflite.errors import EmulatorError
from rct_tflite.spec.emulation import EmulatedProfile, EmulatedRun, Mark
from rct_tflite.spec.target import Memory

# The package's annotations are incomplete: to the type checker it has none.
unicorn: Any = importlib.import_module("unicorn")
arm_const: Any = importlib.import_module("unicorn.arm_const")
riscv_const: Any = importlib.import_module("unicorn.riscv_const")
unicorn_const: Any = importlib.import_module("unicorn.unicorn_const")

CORES: dict[str, int] = {
    "cortex-m0plus": arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm_const.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm_const.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm_const.UC_CPU_ARM_CORTEX_M33,
    "rv32imc": riscv_const.UC_CPU_RISCV32_SIFIVE_E31,  # has atomic instructions beside: none without is here
}

_PAGE = 4096
_SYSTEM_CONTROL_SPACE = 0xE000E000
_BREAKPOINT = 7  # number of the exception that `bkpt` raises
_SEMIHOSTING = b"\xab\xbe"  # bkpt 0xAB
_RISCV_SEMIHOSTING = bytes.fromhex("1310f0017300100013507040")  # slli x0, x0, 31; ebreak; srai x0, x0, 7
_RISCV_BREAKPOINT = slice(4, 8)
_NO_END = 0xFFFFFFFE  # an address that is never reached
_THUMB = 1
_FAULTS = {
    unicorn_const.UC_ERR_READ_UNMAPPED: "it read unmapped memory",
    unicorn_const.UC_ERR_WRITE_UNMAPPED: "it wrote unmapped memory",
    unicorn_const.UC_ERR_FETCH_UNMAPPED: "it jumped to unmapped memory",
    unicorn_const.UC_ERR_WRITE_PROT: "it wrote to the flash",
    unicorn_const.UC_ERR_FETCH_PROT: "it jumped to memory without code",
    unicorn_const.UC_ERR_INSN_INVALID: "it ran an instruction that the core lacks",
}


def _page_up(memory: Memory) -> int:
    """Returns the end of the last page of a region."""
    return -(-(memory.origin + memory.size) // _PAGE) * _PAGE


class Machine(ABC):
    """One core with the image's memory, from reset to exit."""

    def __init__(self, uc: Any, image: Image, request: bytes) -> None:
        self.uc, self.image = uc, image
        self._map(image.flash.origin, image.flash.size, unicorn_const.UC_PROT_READ | unicorn_const.UC_PROT_EXEC)
        self._map(image.ram.origin, image.ram.size, unicorn_const.UC_PROT_ALL)
        for segment in image.segments:
            self.write(segment.address, segment.data)
        self.host = Semihosting(self, request)
        self._stack_low = image.stack_limit
        self._watch(unicorn_const.UC_HOOK_MEM_WRITE, self._on_deep_store, image.variables_end, image.stack_limit)
        self._watch(unicorn_const.UC_HOOK_MEM_READ, self._on_deep_load, image.variables_end, image.stack_limit)
        self._watch(unicorn_const.UC_HOOK_MEM_READ, self._on_wild_load, image.flash_end, _page_up(image.flash))
        self._watch(unicorn_const.UC_HOOK_MEM_READ, self._on_wild_load, image.stack_top, _page_up(image.ram))

    def _watch(self, accesses: int, hook: Any, start: int, end: int) -> None:
        if start < end:  # a range without a byte would mean every access
            self.uc.hook_add(accesses, hook, begin=start, end=end - 1)

    def _on_deep_store(self, _uc: Any, _access: int, address: int, _size: int, _value: int, _: object) -> None:
        """The stack may grow past what is reserved; the caller compares the depth."""
        self._stack_low = min(self._stack_low, address)

    def _on_deep_load(self, uc: Any, access: int, address: int, size: int, value: int, data: object) -> None:
        if address < self._stack_low:
            self._on_wild_load(uc, access, address, size, value, data)

    def _on_wild_load(self, _uc: Any, _access: int, address: int, _size: int, _value: int, _: object) -> None:
        raise faults.wild_access(self.image, address, self.pc, is_store=False)

    def _map(self, origin: int, size: int, access: int) -> None:
        start = origin // _PAGE * _PAGE
        self.uc.mem_map(start, _page_up(Memory(origin, size)) - start, access)

    def read(self, address: int, size: int) -> bytes:
        """Returns bytes of the core's memory."""
        return bytes(self.uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Changes bytes of the core's memory."""
        self.uc.mem_write(address, data)

    @property
    @abstractmethod
    def pc(self) -> int:
        """The program counter."""

    @abstractmethod
    def run(self, timeout_s: float) -> None:
        """Runs from reset to exit."""

    def emulate(self, address: int, timeout_s: float) -> None:
        """Runs from an address until something stops it."""
        self.uc.emu_start(address, _NO_END, timeout=max(1, round(timeout_s * 1e6)))

    def fault(self, error: Any) -> EmulatorError:
        """Returns what an error of the emulator means for the program."""
        return faults.fault(self.image, _FAULTS.get(error.errno, str(error)), self.pc)

    def call_host(self, operation: int, argument: int) -> int:
        """Answers a semihosting call."""
        try:
            return self.host.call(operation, argument)
        except unicorn.UcError as error:
            raise faults.fault(self.image, "it passed unmapped memory to semihosting", self.pc) from error


class _CortexM(Machine):
    def __init__(self, model: int, image: Image, request: bytes) -> None:
        uc = unicorn.Uc(unicorn_const.UC_ARCH_ARM, unicorn_const.UC_MODE_THUMB | unicorn_const.UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(model)
        super().__init__(uc, image, request)
        self._map(_SYSTEM_CONTROL_SPACE, _PAGE, unicorn_const.UC_PROT_READ | unicorn_const.UC_PROT_WRITE)
        uc.hook_add(unicorn_const.UC_HOOK_INTR, self._on_exception)

    @property
    def pc(self) -> int:
        return int(self.uc.reg_read(arm_const.UC_ARM_REG_PC))

    def run(self, timeout_s: float) -> None:
        stack_pointer, reset = initial_registers(self.image)
        self.uc.reg_write(arm_const.UC_ARM_REG_SP, stack_pointer)
        try:
            self.emulate(reset | _THUMB, timeout_s)
        except unicorn.UcError as error:
            raise self.fault(error) from error
        if self.host.exit_code is None:
            raise faults.hang(self.image, timeout_s, self.pc)

    def _on_exception(self, uc: Any, number: int, _: object) -> None:
        """What is raised here comes out of `emu_start()`."""
        pc = self.pc
        if number != _BREAKPOINT or self.read(pc, 2) != _SEMIHOSTING:
            raise faults.fault(self.image, f"it raised the core's exception {number}", pc)
        operation, argument = (uc.reg_read(r) for r in (arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1))
        uc.reg_write(arm_const.UC_ARM_REG_R0, self.call_host(operation, argument))
        if self.host.exit_code is None:
            uc.reg_write(arm_const.UC_ARM_REG_PC, (pc + len(_SEMIHOSTING)) | _THUMB)
        else:
            uc.emu_stop()


class _Riscv(Machine):
    def __init__(self, model: int, image: Image, request: bytes) -> None:
        uc = unicorn.Uc(unicorn_const.UC_ARCH_RISCV, unicorn_const.UC_MODE_RISCV32)
        uc.ctl_set_cpu_model(model)
        super().__init__(uc, image, request)

    @property
    def pc(self) -> int:
        return int(self.uc.reg_read(riscv_const.UC_RISCV_REG_PC))

    def run(self, timeout_s: float) -> None:
        """A breakpoint stops this core as an invalid instruction does; it goes on behind it."""
        stack_pointer, address = initial_registers(self.image)
        self.uc.reg_write(riscv_const.UC_RISCV_REG_SP, stack_pointer)
        deadline = time.monotonic() + timeout_s
        while self.host.exit_code is None:
            try:
                self.emulate(address, deadline - time.monotonic())
            except unicorn.UcError as error:
                if not self._is_semihosting(error):
                    raise self.fault(error) from error
            else:
                raise faults.hang(self.image, timeout_s, self.pc)
            registers = (riscv_const.UC_RISCV_REG_A0, riscv_const.UC_RISCV_REG_A1)
            result = self.call_host(*(self.uc.reg_read(register) for register in registers))
            self.uc.reg_write(riscv_const.UC_RISCV_REG_A0, result)
            address = self.pc + len(_RISCV_SEMIHOSTING[_RISCV_BREAKPOINT])

    def _is_semihosting(self, error: Any) -> bool:
        if error.errno != unicorn_const.UC_ERR_INSN_INVALID:
            return False
        try:
            return self.read(self.pc - _RISCV_BREAKPOINT.start, len(_RISCV_SEMIHOSTING)) == _RISCV_SEMIHOSTING
        except unicorn.UcError:
            return False


_MACHINES: dict[Architecture, type[_CortexM | _Riscv]] = {Architecture.ARM: _CortexM, Architecture.RISCV: _Riscv}


@dataclass
class _Counter:
    """Hooks that count. A block that was entered runs to its end: only a fault or the exit leave it."""

    machine: Machine
    marks: dict[int, str]
    entered: Counter[tuple[int, int]] = field(default_factory=Counter)
    lengths: dict[tuple[int, int], int] = field(default_factory=dict)
    total: int = 0
    events: list[Mark] = field(default_factory=list)

    def __post_init__(self) -> None:
        image = self.machine.image
        self.stack_low = image.stack_top
        uc = self.machine.uc
        uc.hook_add(unicorn_const.UC_HOOK_BLOCK, self._on_block)
        uc.hook_add(unicorn_const.UC_HOOK_MEM_WRITE, self._on_store, begin=image.variables_end, end=image.stack_top - 1)
        for address in self.marks:
            uc.hook_add(unicorn_const.UC_HOOK_CODE, self._on_mark, begin=address, end=address)

    def _on_block(self, _uc: Any, address: int, size: int, _: object) -> None:
        block = address, size
        if block not in self.lengths:
            self.lengths[block] = self._count(address, size)
        self.entered[block] += 1
        self.total += self.lengths[block]
        self.current = block

    def _on_mark(self, _uc: Any, address: int, _size: int, _: object) -> None:
        start, size = self.current
        remaining = self._count(address, start + size - address)
        self.events.append(Mark(self.marks[address], self.total - remaining))

    def _on_store(self, _uc: Any, _access: int, address: int, _size: int, _value: int, _: object) -> None:
        self.stack_low = min(self.stack_low, address)

    def _count(self, address: int, size: int) -> int:
        return instructions_in(self.machine.read(address, size), self.machine.image.architecture)

    def counts(self) -> Counts:
        blocks = [Block(block[0], self.lengths[block], count) for block, count in self.entered.items()]
        return Counts(blocks, tuple(self.events), self.stack_low)


@dataclass(frozen=True)
class UnicornEmulator:
    """Emulator of the `unicorn` package; made by `find_emulator()`."""

    core: str
    name: str = "unicorn"
    version: str = unicorn.__version__

    def accepts(self, image: Path) -> bool:
        """Returns True: every memory map will do."""
        load_image(image)
        return True

    def run(self, image: Path, request: bytes, timeout_s: float = 60.0) -> EmulatedRun:
        """See `Emulator.run()`."""
        return self._run(self.machine(load_image(image), request), timeout_s)

    def profile(
        self, image: Path, request: bytes, marks: Sequence[str] = (), timeout_s: float = 300.0
    ) -> EmulatedProfile:
        """See `Emulator.profile()`."""
        loaded = load_image(image)
        machine = self.machine(loaded, request)
        counter = _Counter(machine, mark_addresses(loaded, marks))
        run = self._run(machine, timeout_s)
        return make_profile(loaded, run, counter.counts())

    def machine(self, image: Image, request: bytes) -> Machine:
        """Returns the core, with an image in its memory, before it runs."""
        return _MACHINES[image.architecture](CORES[self.core], image, request)

    def _run(self, machine: Machine, timeout_s: float) -> EmulatedRun:
        machine.run(timeout_s)
        console = machine.host.console.decode(errors="replace")
        faults.raise_reported_fault(machine.image, console)
        assert machine.host.exit_code is not None
        response = bytes(machine.host.files.get("response.bin", b""))
        return EmulatedRun(f"{self.name} {self.version}", machine.host.exit_code, response, console)
