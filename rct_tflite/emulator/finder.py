"""Which emulators this computer has, and what each must be able to do."""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rct_tflite.emulator.plugin import plugin_for
from rct_tflite.emulator.qemu import MACHINES, QemuEmulator, qemu_version
from rct_tflite.errors import EmulatorError
from rct_tflite.spec.emulation import EmulatedProfile, EmulatedRun

CORES = (*MACHINES, "rv32imc")
NAMES = ("qemu", "unicorn")
"""Emulators, the preferred one first."""

_WITHOUT_UNICORN = ("cortex-m55",)
"""Its vector instructions are younger than the emulator."""

_INSTALL = "Install QEMU (Debian: qemu-system-arm gcc), or: pip install 'rct-tflite[emulate]'."


class Emulator(Protocol):
    """Runs images of one core. All emulators give the same bytes, exit codes and counts for one image.

    Attributes:
        name: "qemu" or "unicorn".
        version: Of the emulator.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - described above

    @property
    def version(self) -> str: ...  # noqa: D102 - described above

    def accepts(self, image: Path) -> bool:
        """Returns whether the emulated board has the memory that the image was linked for."""

    def run(self, image: Path, request: bytes, timeout_s: float = 60.0) -> EmulatedRun:
        """Runs an image from reset to its exit.

        Args:
            image: An ELF file linked with `ports/cortex-m/link.ld.j2`.
            request: What `rct_port_read()` of the firmware reads.
            timeout_s: Limit of wall time in seconds.

        Raises:
            EmulatorError: If the firmware faults or does not end in time, or the board lacks the image's memory.
        """

    def profile(
        self, image: Path, request: bytes, marks: Sequence[str] = (), timeout_s: float = 300.0
    ) -> EmulatedProfile:
        """Runs an image and counts.

        `stack_bytes` of the result reaches to the lowest address of the stack that was written. Memory that a
        function reserves below without a write is not in it.

        Args:
            image: As in `run()`.
            request: As in `run()`.
            marks: Names of functions, each entry of which is an event in the result.
            timeout_s: As in `run()`.

        Raises:
            EmulatorError: As in `run()`; also if the image has no function of a marked name, or the firmware
                writes outside of its RAM.
        """


def find_emulator(core: str, name: str = "auto", image: Path | None = None) -> Emulator:
    """Finds an emulator for a core.

    Args:
        core: Such as "cortex-m7"; see `CORES`.
        name: "qemu", "unicorn", or "auto" for the first of them that is installed.
        image: If given, "auto" passes over a board that lacks the memory that this image was linked for.

    Returns:
        The emulator; its `name` says which one it is.

    Raises:
        EmulatorError: If the core or the name is unknown, or the emulator is not installed or lacks the core.

    Example:
        >>> find_emulator("cortex-m7", "unicorn").name
        'unicorn'
    """
    if core not in CORES:
        raise EmulatorError(f"Cannot emulate this core. Expected one of {list(CORES)}. Received: core={core!r}.")
    if name not in (*NAMES, "auto"):
        raise EmulatorError(f"Unknown emulator. Expected one of {['auto', *NAMES]}. Received: name={name!r}.")
    reasons = []
    for candidate in NAMES if name == "auto" else (name,):
        try:
            emulator = _make(candidate, core)
        except EmulatorError as error:
            reasons.append(str(error))
            continue
        if name != "auto" or image is None or emulator.accepts(image):
            return emulator
    raise EmulatorError(" ".join(reasons))


def available_emulators(core: str) -> tuple[Emulator, ...]:
    """Returns every installed emulator that knows a core, the preferred one first.

    Raises:
        EmulatorError: If the core is unknown.
    """
    found = []
    for name in NAMES:
        try:
            found.append(find_emulator(core, name))
        except EmulatorError:
            if core not in CORES:
                raise
    return tuple(found)


def _make(name: str, core: str) -> Emulator:
    if core not in MACHINES if name == "qemu" else core in _WITHOUT_UNICORN:
        able = NAMES[1 - NAMES.index(name)]
        raise EmulatorError(f"{name} has no {core} for us. Expected {able!r}. Received: {name!r}. {_INSTALL}")
    if name == "qemu":
        qemu = shutil.which("qemu-system-arm")
        if qemu is None:
            raise EmulatorError(f"QEMU was not found. Expected qemu-system-arm on PATH. Received: none. {_INSTALL}")
        return QemuEmulator(MACHINES[core], qemu, plugin_for(qemu), qemu_version(qemu))
    if importlib.util.find_spec("unicorn") is None:
        raise EmulatorError(f"Unicorn was not found. Expected the package unicorn. Received: none. {_INSTALL}")
    # The wheel is an optional dependency.
    from rct_tflite.emulator.unicorn import UnicornEmulator

    return UnicornEmulator(core)
