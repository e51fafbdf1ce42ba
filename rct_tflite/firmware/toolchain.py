"""Finds a C compiler for a core, and builds an image with it."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.emulator.cache import cache_folder
from rct_tflite.errors import ToolchainError

HOST = "host"
"""Core of a program for this computer."""

NAMES = ("gcc", "zig")
"""Compilers, the preferred one first. For the host, "gcc" is whatever cc, gcc or clang is on PATH."""

ENTRY = "rct_reset"
"""Where an image starts; `startup.c` of its port defines it."""

_WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
COMPILE_FLAGS = ("-std=c99", "-O2", "-g0", *_WARNINGS, "-ffunction-sections", "-fdata-sections")

_SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_MESSAGE_LENGTH = 4000
_INSTALL = "pip install 'rct-tflite[emulate]'"


@dataclass(frozen=True)
class Core:
    """Flags that choose a core, for each compiler; none where a compiler does not build for it.

    A core with an FPU passes floats in its registers.
    """

    gcc: tuple[str, ...]
    zig: tuple[str, ...]


def _core(name: str, gcc_fpu: str = "", zig_fpu: str = "") -> Core:
    gcc_float = ("-mfloat-abi=hard", f"-mfpu={gcc_fpu}") if gcc_fpu else ("-mfloat-abi=soft",)
    zig_name = name.replace("-", "_") + (f"+{zig_fpu}" if zig_fpu else "")
    abi = "eabihf" if zig_fpu else "eabi"
    return Core(
        gcc=("-mthumb", f"-mcpu={name}", *gcc_float),
        zig=("-target", f"thumb-freestanding-{abi}", f"-mcpu={zig_name}", "-ffreestanding"),
    )


CORES: dict[str, Core] = {
    "cortex-m0plus": _core("cortex-m0plus"),
    "cortex-m3": _core("cortex-m3"),
    "cortex-m4": _core("cortex-m4", "fpv4-sp-d16", "vfp4d16sp"),
    "cortex-m7": _core("cortex-m7", "fpv5-sp-d16", "fp_armv8d16sp"),
    "cortex-m33": _core("cortex-m33", "fpv5-sp-d16", "fp_armv8d16sp"),
    "cortex-m55": _core("cortex-m55", "auto", "fp_armv8d16"),
    "rv32imc": Core(
        gcc=(),  # Debian's has no C library for it
        zig=("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+c", "-ffreestanding"),
    ),
}


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one core; made by `find_toolchain()`.

    Attributes:
        name: "gcc" or "zig".
        version: Of the compiler.
        core: What it compiles for: a key of `CORES`, or "host".
        command: The compiler's program and what always comes first.
    """

    name: str
    version: str
    core: str
    command: tuple[str, ...]

    def build(
        self,
        sources: Sequence[Path],
        include_dirs: Sequence[Path],
        image: Path,
        *,
        linker_script: Path | None = None,
        defines: Sequence[str] = (),
        sanitize: bool = False,
    ) -> None:
        """Compiles sources with warnings as errors and links them. The same sources give the same bytes.

        Args:
            sources: C files.
            include_dirs: Folders of headers.
            image: Where to write the program. It appears whole or not at all.
            linker_script: Memory of the target; needed for every core but the host.
            defines: Macros, `"NAME"` or `"NAME=VALUE"`.
            sanitize: Whether to stop at undefined behaviour and at wrong accesses; on the host, not with zig.

        Raises:
            ToolchainError: If the compiler refuses the code; the message holds its words.
        """
        with tempfile.TemporaryDirectory() as folder:
            objects = self.compile(sources, include_dirs, Path(folder), defines=defines, sanitize=sanitize)
            self.link(objects, image, linker_script=linker_script, sanitize=sanitize)

    def compile(
        self,
        sources: Sequence[Path],
        include_dirs: Sequence[Path],
        folder: Path,
        *,
        defines: Sequence[str] = (),
        sanitize: bool = False,
    ) -> list[Path]:
        """Compiles sources with warnings as errors; the first half of `build()`.

        Args:
            sources: As in `build()`.
            include_dirs: As in `build()`.
            folder: Where to write the objects.
            defines: As in `build()`.
            sanitize: As in `build()`.

        Returns:
            An object for each source, for `link()`.

        Raises:
            ToolchainError: If the compiler refuses the code; the message holds its words.
        """
        self._check_sanitize(sanitize)
        flags = [*COMPILE_FLAGS, *self._core_flags(), *(_SANITIZE if sanitize else ())]
        flags += [f"-D{define}" for define in defines] + [f"-I{directory}" for directory in include_dirs]
        objects = [folder / f"{index}.o" for index in range(len(sources))]
        pairs = zip(sources, objects, strict=True)
        self._run_all(
            [*flags, *_unnamed(source, include_dirs), "-c", str(source), "-o", str(object_)]
            for source, object_ in pairs
        )
        return objects

    def link(
        self, objects: Sequence[Path], image: Path, *, linker_script: Path | None = None, sanitize: bool = False
    ) -> None:
        """Links what `compile()` made; the second half of `build()`.

        Args:
            objects: In the order of the sources: it is that of the image.
            image: As in `build()`.
            linker_script: As in `build()`.
            sanitize: As it was compiled.

        Raises:
            ToolchainError: If the linker refuses the objects; the message holds its words.
        """
        self._check_script(linker_script)
        extra = _SANITIZE if sanitize else ()
        with tempfile.TemporaryDirectory() as folder:
            linked = Path(folder) / "image"
            arguments = [*self._core_flags(), *extra, *map(str, objects), *self._link_flags(linker_script)]
            self._run([*arguments, "-o", str(linked)])
            _publish(linked, image)

    def _check_script(self, linker_script: Path | None) -> None:
        if (linker_script is None) != (self.core == HOST):
            raise ToolchainError(
                "Cannot link. Expected a linker script for a microcontroller, and none for the host. "
                f"Received: core={self.core!r}, linker_script={linker_script}. Use ports/cortex-m/link.ld.j2."
            )

    def _check_sanitize(self, sanitize: bool) -> None:
        if sanitize and (self.core != HOST or self.name == "zig"):
            raise ToolchainError(
                "Cannot build with sanitizers. Expected core 'host' and gcc or clang. "
                f"Received: core={self.core!r}, name={self.name!r}. Leave sanitize out, or install gcc."
            )

    def _core_flags(self) -> tuple[str, ...]:
        plain = ("-fno-sanitize=undefined",) if self.name == "zig" else ()  # zig turns it on by itself
        if self.core == HOST:
            return plain
        return (*getattr(CORES[self.core], self.name), *plain)

    def _link_flags(self, linker_script: Path | None) -> list[str]:
        if linker_script is None:
            return []
        # zig takes --strip-debug for --strip-all; the linker script drops its library's debugging text.
        specific = ["--specs=nano.specs", "-nostartfiles", "-Wl,--strip-debug"] if self.name == "gcc" else []
        return [*specific, "-Wl,--gc-sections", f"-Wl,-e,{ENTRY}", "-T", str(linker_script)]

    def _run_all(self, argument_lists: Iterable[list[str]]) -> None:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            # list() waits for all, and raises the first error.
            list(pool.map(self._run, argument_lists))

    def _run(self, arguments: list[str]) -> None:
        done = subprocess.run(
            [*self.command, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_environment() if self.name == "zig" else None,
        )
        if done.returncode != 0:
            raise ToolchainError(
                f"{self.name} {self.version} refused the code for core {self.core}. "
                f"Expected it to compile and link without warnings. "
                f"Received:\n{done.stderr.strip()[:_MESSAGE_LENGTH]}\nMend the code that the message names."
            )


def find_toolchain(core: str, name: str = "auto") -> Toolchain:
    """Finds a compiler for a core.

    Args:
        core: A key of `CORES`, or "host" for a program for this computer.
        name: "gcc", "zig", or "auto" for the first of them that is installed.

    Raises:
        ToolchainError: If the core or the name is unknown, or the compiler is not installed.
    """
    _check_core(core)
    if name not in (*NAMES, "auto"):
        raise ToolchainError(f"Unknown compiler. Expected one of {['auto', *NAMES]}. Received: name={name!r}.")
    for candidate in NAMES if name == "auto" else (name,):
        toolchain = _find_gcc(core) if candidate == "gcc" else _find_zig(core)
        if toolchain is not None:
            return toolchain
    programs = "cc, gcc or clang" if core == HOST else "arm-none-eabi-gcc"
    expected = {"gcc": f"{programs} on PATH", "zig": "the package ziglang"}
    packages = "gcc" if core == HOST else "gcc-arm-none-eabi libnewlib-arm-none-eabi"
    install = f"Install one: Debian packages {packages}, or: {_INSTALL}."
    if core != HOST and not CORES[core].gcc:
        name, install = "zig", f"Install it: {_INSTALL}."
    wanted = " or ".join(expected.values()) if name == "auto" else expected[name]
    raise ToolchainError(f"No C compiler was found for core {core}. Expected {wanted}. Received: none. {install}")


def available_toolchains(core: str) -> tuple[Toolchain, ...]:
    """Returns every installed compiler for a core, the preferred one first.

    Raises:
        ToolchainError: If the core is unknown.
    """
    _check_core(core)
    return tuple(toolchain for toolchain in (_find_gcc(core), _find_zig(core)) if toolchain is not None)


def _check_core(core: str) -> None:
    if core != HOST and core not in CORES:
        raise ToolchainError(f"Unknown core. Expected one of {[*CORES, HOST]}. Received: core={core!r}.")


def _find_gcc(core: str) -> Toolchain | None:
    if core != HOST and not CORES[core].gcc:
        return None
    for program in ("cc", "gcc", "clang") if core == HOST else ("arm-none-eabi-gcc",):
        path = shutil.which(program)
        if path is not None:
            return Toolchain("gcc", _gcc_version(path), core, (path,))
    return None


def _find_zig(core: str) -> Toolchain | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    return Toolchain("zig", importlib.metadata.version("ziglang"), core, (sys.executable, "-m", "ziglang", "cc"))


@functools.cache
def _gcc_version(path: str) -> str:
    """Returns such as "12.2.1", the last number with dots in the first line of `--version`."""
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = re.findall(r"\d+(?:\.\d+)+", text.partition("\n")[0])
    return numbers[-1] if numbers else "of unknown version"


def _unnamed(source: Path, include_dirs: Sequence[Path]) -> list[str]:
    """Flags for names that an object holds, such as __FILE__: not where the code lies, nor what is compiled beside it.

    Compilers take the last flag that fits: the innermost folder.
    """
    folders = sorted({source.parent, *include_dirs}, key=lambda folder: (len(folder.parts), folder))
    return [f"-ffile-prefix-map={folder}/=" for folder in folders]


def _environment() -> dict[str, str]:
    """Zig builds its run-time library once for each core: kept between builds, and shared by parallel ones."""
    cache = str(cache_folder() / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ}


def _publish(built: Path, image: Path) -> None:
    staged = image.with_name(f".{image.name}.{os.getpid()}")
    try:
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, staged)
        staged.replace(image)
    except OSError as error:
        raise ToolchainError(
            f"Cannot write the image. Expected a folder that can be written. Received: {error}. Choose another."
        ) from error
    finally:
        staged.unlink(missing_ok=True)
