"""Test images: each program built once per session for each core and compiler."""

from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from rct_tflite.emulator import CORES, available_emulators
from rct_tflite.emulator.qemu import MACHINES
from rct_tflite.firmware.toolchain import Toolchain, available_toolchains
from rct_tflite.spec.target import Memory, Quantity, Target

TEMPLATES = Path(__file__).parents[2] / "firmware_templates"
PROGRAMS = Path(__file__).parent / "programs"
STACK_BYTES = 2048

# zig builds a run-time library for each core, which takes 12 s the first time: few cores will do.
ZIG_CORES = ("cortex-m0plus", "cortex-m7", "rv32imc")

TOOLCHAINS = [
    toolchain
    for core in CORES
    for toolchain in available_toolchains(core)
    if toolchain.name != "zig" or core in ZIG_CORES
]

PAIRS = [(toolchain, emulator) for toolchain in TOOLCHAINS for emulator in available_emulators(toolchain.core)]

BuildImage = Callable[..., Path]


def make_target(core: str, flash_origin: int, ram_origin: int) -> Target:
    unused = Quantity(1.0, 1.0, 1.0, "derived", "test")
    flash, ram = Memory(flash_origin, 1 << 20), Memory(ram_origin, 1 << 18)
    return Target("test", "", core, flash, ram, STACK_BYTES, unused, unused, unused)


def build_program(toolchain: Toolchain, program: str, folder: Path, target: Target) -> Path:
    port = TEMPLATES / "ports" / "cortex-m"
    script = folder / "link.ld"
    template = jinja2.Template((port / "link.ld.j2").read_text(), undefined=jinja2.StrictUndefined)
    script.write_text(template.render(target=target))
    image = folder / f"{program}.elf"
    start = port if toolchain.core.startswith("cortex-m") else TEMPLATES / "ports" / "riscv"
    sources = [PROGRAMS / f"{program}.c", start / "startup.c", port / "semihosting.c"]
    toolchain.build(sources, [TEMPLATES / "app", port], image, linker_script=script)
    return image


@pytest.fixture(scope="session")
def build_image(tmp_path_factory: pytest.TempPathFactory) -> BuildImage:
    """Builds a program for the board that QEMU has for the compiler's core, or for other memory."""
    built: dict[tuple[object, ...], Path] = {}

    def build(
        toolchain: Toolchain, program: str = "commands", flash_origin: int | None = None, ram_origin: int | None = None
    ) -> Path:
        key = (toolchain, program, flash_origin, ram_origin)
        if key not in built:
            board = MACHINES.get(toolchain.core, MACHINES[CORES[0]])
            flash = board.flash.origin if flash_origin is None else flash_origin
            ram = board.ram.origin if ram_origin is None else ram_origin
            folder = tmp_path_factory.mktemp(f"{toolchain.core}-{toolchain.name}")
            built[key] = build_program(toolchain, program, folder, make_target(toolchain.core, flash, ram))
        return built[key]

    return build


@pytest.fixture(scope="session")
def stack_bytes() -> int:
    """Stack that the images reserve."""
    return STACK_BYTES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`toolchain`: each installed compiler for each core; `emulator` beside it: each emulator that has that core."""
    if "emulator" in metafunc.fixturenames:
        names = [f"{toolchain.core}-{toolchain.name}-{emulator.name}" for toolchain, emulator in PAIRS]
        metafunc.parametrize(("toolchain", "emulator"), PAIRS, ids=names)
    elif "toolchain" in metafunc.fixturenames:
        names = [f"{toolchain.core}-{toolchain.name}" for toolchain in TOOLCHAINS]
        metafunc.parametrize("toolchain", TOOLCHAINS, ids=names)
