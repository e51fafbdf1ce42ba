"""Runs an image in `qemu-system-arm`: a whole board, fast, counted by our own plugin.

QEMU runs without `-icount`: nothing in an image reads a clock or enables an interrupt, so the counts are the same
in every run. Under `-icount` QEMU executes the rest of a block again after each access to a device register, such
as the one that enables the FPU, and whole blocks could no longer be counted.
"""

import functools
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.emulator import faults
from rct_tflite.emulator.counting import Block, Counts, make_profile, mark_addresses
from rct_tflite.emulator.image import Image, load_image
from rct_tflite.emulator.plugin import plugin_option
from rct_tflite.errors import EmulatorError
from rct_tflite.spec.emulation import EmulatedProfile, EmulatedRun, Mark
from rct_tflite.spec.target import Memory

_COUNTS = "counts.txt"
_MONITOR = "monitor.sock"
_VECTORS = "vectors.bin"
_VECTOR_BYTES = 64  # those that ports/cortex-m/startup.c fills
_MONITOR_TIMEOUT_S = 5.0
_PROGRAM_COUNTER = re.compile(r"R15=([0-9a-f]{8})")


@dataclass(frozen=True)
class Machine:
    """A board that QEMU knows, and the memory that it has for us.

    Attributes:
        name: QEMU's.
        flash: Where images lie.
        ram: Of the images.
        vector_table: Where the core looks for its vector table after a reset.
    """

    name: str
    flash: Memory
    ram: Memory
    vector_table: int

    def holds(self, image: Image) -> bool:
        """Returns whether the board has the memory that an image was linked for."""
        return all(
            board.origin <= wanted.origin and wanted.origin + wanted.size <= board.origin + board.size
            for board, wanted in ((self.flash, image.flash), (self.ram, image.ram))
        )


_FLASH = Memory(0x00000000, 4 << 20)
_RAM = Memory(0x20000000, 4 << 20)
_AN385 = Machine("mps2-an385", _FLASH, _RAM, _FLASH.origin)

MACHINES = {
    # No board of QEMU has a Cortex-M0+ with more than 16 KB: its code runs unchanged on a Cortex-M3.
    "cortex-m0plus": _AN385,
    "cortex-m3": _AN385,
    "cortex-m4": Machine("mps2-an386", _FLASH, _RAM, _FLASH.origin),
    "cortex-m7": Machine("mps2-an500", _FLASH, _RAM, _FLASH.origin),
    # It starts in the secure state, and this is the secure view of its memory.
    "cortex-m33": Machine("mps2-an505", Memory(0x10000000, 4 << 20), Memory(0x38000000, 4 << 20), 0x10000000),
    # As above; its memory at 0 is too small for many images, so that it gets their vector table alone.
    "cortex-m55": Machine("mps3-an547", Memory(0x11000000, 2 << 20), Memory(0x31000000, 4 << 20), 0),
}


@functools.cache
def qemu_version(qemu: str) -> str:
    """Returns QEMU's version, such as "7.2.22".

    Raises:
        EmulatorError: If the program does not run.
    """
    try:
        text = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmulatorError(f"Cannot run QEMU. Expected a working {qemu}. Received: {error}. Reinstall it.") from error
    found = re.search(r"version (\S+)", text)
    return found.group(1) if found else "of unknown version"


@dataclass(frozen=True)
class QemuEmulator:
    """Emulator of `qemu-system-arm`; made by `find_emulator()`."""

    machine: Machine
    executable: str
    plugin: Path
    version: str
    name: str = "qemu"

    def accepts(self, image: Path) -> bool:
        """Returns whether the board has the memory that the image was linked for."""
        return self.machine.holds(load_image(image))

    def run(self, image: Path, request: bytes, timeout_s: float = 60.0) -> EmulatedRun:
        """See `Emulator.run()`."""
        loaded = self._load(image)
        with tempfile.TemporaryDirectory() as folder:
            return self._run(loaded, request, timeout_s, Path(folder))

    def profile(
        self, image: Path, request: bytes, marks: Sequence[str] = (), timeout_s: float = 300.0
    ) -> EmulatedProfile:
        """See `Emulator.profile()`."""
        loaded = self._load(image)
        addresses = mark_addresses(loaded, marks)
        option = [plugin_option(self.plugin), f"out={_COUNTS}", *(f"mark={address}" for address in addresses)]
        option += [f"stack={loaded.variables_end}:{loaded.stack_top}", f"ram={loaded.ram.origin}:{loaded.stack_top}"]
        option += [f"flash={loaded.flash.origin}:{loaded.flash_end}"]
        if loaded.variables_end < loaded.stack_limit:
            option += [f"free={loaded.variables_end}:{loaded.stack_limit}"]
        with tempfile.TemporaryDirectory() as folder:
            run = self._run(loaded, request, timeout_s, Path(folder), "-plugin", ",".join(option))
            counts = _parse_counts(loaded, (Path(folder) / _COUNTS).read_text(), addresses)
        return make_profile(loaded, run, counts)

    def _load(self, image: Path) -> Image:
        loaded = load_image(image)
        if not self.machine.holds(loaded):
            board = self.machine
            raise EmulatorError(
                f"{image.name} was linked for other memory than the board {board.name} of QEMU has. "
                f"Expected flash from 0x{board.flash.origin:08x} and RAM from 0x{board.ram.origin:08x}, "
                f"{board.flash.size} and {board.ram.size} bytes. "
                f"Received: flash from 0x{loaded.flash.origin:08x} and RAM from 0x{loaded.ram.origin:08x}, "
                f"{loaded.flash.size} and {loaded.ram.size} bytes. Use the emulator 'unicorn', or link for that board."
            )
        return loaded

    def _run(self, image: Image, request: bytes, timeout_s: float, folder: Path, *options: str) -> EmulatedRun:
        (folder / "request.bin").write_bytes(request)
        (folder / _VECTORS).write_bytes(image.read(image.flash.origin, _VECTOR_BYTES))
        process = subprocess.Popen(
            [*self._command(image), *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, messages = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise faults.hang(image, timeout_s, _program_counter(folder / _MONITOR)) from None
        finally:
            process.kill()
            process.communicate()
        console = output.decode(errors="replace")
        faults.raise_reported_fault(image, console)
        _check_end(image, process.returncode, messages.decode(errors="replace"))
        response = folder / "response.bin"
        data = response.read_bytes() if response.exists() else b""
        return EmulatedRun(f"{self.name} {self.version}", process.returncode, data, console)

    def _command(self, image: Image) -> list[str]:
        quiet = ["-nodefaults", "-nic", "none", "-display", "none", "-serial", "none"]
        semihosting = ["-chardev", "stdio,id=console,signal=off"]
        semihosting += ["-semihosting-config", "enable=on,target=native,chardev=console"]
        monitor = ["-monitor", f"unix:{_MONITOR},server=on,wait=off"]
        kernel = ["-kernel", os.fspath(image.path.resolve())]
        if self.machine.vector_table != self.machine.flash.origin:
            kernel += ["-device", f"loader,file={_VECTORS},addr={self.machine.vector_table},force-raw=on"]
        return [self.executable, "-M", self.machine.name, *quiet, *semihosting, *monitor, *kernel]


def _check_end(image: Image, exit_code: int, messages: str) -> None:
    """QEMU's own failures have exit code 1 and a message, or a signal."""
    complaints = [line for line in messages.splitlines() if line and "warning:" not in line]
    if exit_code < 0 or (exit_code == 1 and any(line.startswith("qemu") for line in complaints)):
        raise EmulatorError(
            f"QEMU stopped while it ran {image.path.name}. Expected an exit of the firmware. "
            f"Received: {' '.join(complaints)[:500]}. "
            "A core that faults in its fault handler ends so: look for a stack that left the RAM."
        )


def _program_counter(monitor: Path) -> int | None:
    """Asks a running QEMU where it is; None if it does not say."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_MONITOR_TIMEOUT_S)
            connection.connect(os.fspath(monitor))
            connection.sendall(b"info registers\n")
            answer = ""
            while (found := _PROGRAM_COUNTER.search(answer)) is None:
                received = connection.recv(4096)
                if not received:
                    return None
                answer += received.decode(errors="replace")
            return int(found.group(1), 16)
    except OSError:
        return None


def _parse_counts(image: Image, text: str, marks: dict[int, str]) -> Counts:
    """Reads what `instruction_counter.c` wrote."""
    blocks, events, stack_low = [], [], image.stack_top
    for line in text.splitlines():
        kind, *fields = line.split()
        numbers = [int(number) for number in fields]
        if kind == "mark":
            events.append(Mark(marks[numbers[0]], numbers[1]))
        elif kind == "block":
            blocks.append(Block(address=numbers[0], instructions=numbers[2], count=numbers[1]))
        elif kind == "stack":
            stack_low = numbers[0]
        elif kind in ("wild_store", "wild_load"):
            raise faults.wild_access(image, numbers[0], numbers[1], is_store=kind == "wild_store")
    return Counts(blocks, tuple(events), stack_low)
