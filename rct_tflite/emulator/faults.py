"""What a run that went wrong is reported with: the same words whichever emulator ran it."""

import re

from rct_tflite.emulator.image import Image
from rct_tflite.errors import EmulatorError

_REPORT = re.compile(r"^rct fault: exception 0x([0-9a-f]{8}) at pc 0x([0-9a-f]{8})$", re.MULTILINE)
_EXCEPTIONS = {2: "NMI", 3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault", 7: "SecureFault"}


def raise_reported_fault(image: Image, console: str) -> None:
    """Raises what the port's fault handler printed, if it did.

    Raises:
        EmulatorError: If the console holds a fault report.
    """
    report = _REPORT.search(console)
    if report is not None:
        exception, pc = (int(number, 16) for number in report.groups())
        raise fault(image, f"it raised {_EXCEPTIONS.get(exception, f'exception {exception}')}", pc)


def fault(image: Image, what: str, pc: int) -> EmulatorError:
    """Returns the error of an access or instruction that the core refuses."""
    return EmulatorError(
        f"{image.path.name} faulted: {what}. Received: pc=0x{pc:08x} in {image.function_at(pc).name}. "
        "Look there for a wild pointer, an index out of range or a stack that is too small."
    )


def wild_access(image: Image, address: int, pc: int, is_store: bool) -> EmulatorError:
    """Returns the error of an access to memory that the core has and the program does not own."""
    where = (
        f"wrote to 0x{address:08x}, outside of the RAM" if is_store else f"read 0x{address:08x}, which is not its own"
    )
    return fault(image, f"it {where}", pc)


def hang(image: Image, timeout_s: float, pc: int | None) -> EmulatorError:
    """Returns the error of a program that does not end."""
    where = "unknown" if pc is None else f"0x{pc:08x} in {image.function_at(pc).name}"
    return EmulatorError(
        f"{image.path.name} did not end. Expected an exit within {timeout_s:g} s. Received: last executed pc {where}. "
        "Look there for a loop without end, ask for less (fewer samples, fewer epochs), or raise timeout_s."
    )
