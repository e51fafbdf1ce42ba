"""Compiles an exported project."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.emulator.image import ImageSizes, image_sizes
from rct_tflite.emulator.stack_bound import StackBound, stack_bound
from rct_tflite.errors import FitError, OutputFolderError
from rct_tflite.firmware.manifest import flash_limit
from rct_tflite.firmware.project import FIRMWARE_FOLDER, linker_script, port_sources
from rct_tflite.firmware.toolchain import HOST, find_toolchain

INCLUDE_FOLDERS = ("runtime", "runtime/kernels", "app", "ports/cortex-m")


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Attributes:
        image: The program.
        core: What it runs on, or "host".
        toolchain: Name and version of the compiler.
        sizes: Of a microcontroller's image; None for the host.
        stack: The deepest stack of a microcontroller's image; None for the host.
    """

    image: Path
    core: str
    toolchain: str
    sizes: ImageSizes | None
    stack: StackBound | None


def build_project(
    folder: Path, core: str, toolchain: str = "auto", defines: Sequence[str] = (), sanitize: bool = False
) -> BuildReport:
    """Compiles `folder/firmware` into `folder/build/<core>-<compiler>/`.

    Args:
        folder: An exported folder.
        core: The target's core, or "host".
        toolchain: "auto", "gcc" or "zig".
        defines: Macros; a build with macros goes to a folder of its own.
        sanitize: Whether to stop at undefined behaviour and wrong accesses (host only).

    Raises:
        ToolchainError: If there is no compiler, or it refuses the code, as it does where the image does not fit.
        FitError: If the stack can get deeper than the target reserves, or the image takes more flash than the search
            for what learns was given; no image is left.
        EmulatorError: If the stack has no bound.
        ModelFileError: If the manifest is damaged.
        OutputFolderError: If the folder cannot be written.
    """
    compiler = find_toolchain(core, toolchain)
    firmware = folder / FIRMWARE_FOLDER
    variant = "-".join([core, compiler.name, *defines, *(["sanitized"] if sanitize else [])]).lower()
    image = folder / "build" / variant / ("firmware" if core == HOST else "firmware.elf")
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFolderError(f"Cannot write to {folder}: {error}. Make the folder writable, or copy it.") from error
    compiler.build(
        project_sources(folder, core),
        [firmware / part for part in INCLUDE_FOLDERS],
        image,
        linker_script=None if core == HOST else firmware / linker_script(core),
        defines=defines,
        sanitize=sanitize,
    )
    words = f"{compiler.name} {compiler.version}"
    if core == HOST:
        return BuildReport(image, core, words, None, None)
    sizes = image_sizes(image)
    _check_flash(image, sizes.flash_bytes, flash_limit(folder))
    return BuildReport(image, core, words, sizes, _checked_stack(image, sizes.stack))


def _check_flash(image: Path, taken: int, limit: int | None) -> None:
    if limit is not None and taken > limit:
        image.unlink()
        raise FitError(
            "The image takes more flash than --train auto was given; the search knows code and tables to some "
            "percent, and not those of the step's options. "
            f"Expected at most {limit} B. Received: {taken} B. Export again with a higher --flash, fewer options of "
            "the step, or --train last:1."
        )


def _checked_stack(image: Path, reserved: int) -> StackBound:
    bound = stack_bound(image)
    if bound.stack_bytes > reserved:
        image.unlink()
        raise FitError(
            f"The stack can get deeper than the target reserves. Expected at most {reserved} B. "
            f"Received: {bound.stack_bytes} B, by {' > '.join(bound.chain)}. "
            "Raise stack_bytes in a target file of your own."
        )
    return bound


def project_sources(folder: Path, core: str) -> list[Path]:
    """Returns the C files of an exported folder for a core or for the host."""
    firmware = folder / FIRMWARE_FOLDER
    parts = ("model", "runtime", "runtime/kernels", "app", *(["ports/host"] if core == HOST else []))
    sources = [source for part in parts for source in sorted((firmware / part).glob("*.c"))]
    return sources if core == HOST else [*sources, *port_sources(firmware, core)]
