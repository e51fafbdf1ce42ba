"""Compilers: what they build is the same everywhere, appears whole, and refusals carry the compiler's words."""

import subprocess
from pathlib import Path

import jinja2
import pytest

from rct_tflite.emulator import CORES as EMULATED_CORES
from rct_tflite.emulator import image_sizes
from rct_tflite.errors import ToolchainError
from rct_tflite.firmware.toolchain import CORES, HOST, available_toolchains, find_toolchain
from rct_tflite.spec.target import Memory, Quantity, Target

TEMPLATES = Path(__file__).parents[2] / "firmware_templates"
CORTEX_M = TEMPLATES / "ports" / "cortex-m"

# Upper-cases the stream; GREETING comes from the command line, __FILE__ from the compiler.
SOURCE = """
#include "rct_port.h"
static uint8_t buffer[BUFFER_BYTES];
int main(void)
{
    rct_port_print(__FILE__ "\\n");
    while (rct_port_read(buffer, 1u)) {
        const uint8_t upper = (uint8_t)(buffer[0] - 'a' + 'A');
        if (!rct_port_write(&upper, 1u)) {
            return 1;
        }
    }
    return EXIT_CODE;
}
"""

ARM = [*available_toolchains("cortex-m7")]
HOSTS = [*available_toolchains(HOST)]
pytestmark = pytest.mark.usefixtures("no_object_store")
EVERY = [*ARM, *available_toolchains("rv32imc"), *HOSTS]


def by_name(toolchain):
    return f"{toolchain.core}-{toolchain.name}"


def build(toolchain, folder, *, source=SOURCE, ram_bytes=1 << 16, buffer_bytes=64, sanitize=False):
    """Builds `source` in a folder of its own, with everything it needs copied there."""
    folder.mkdir(parents=True, exist_ok=True)
    main = folder / "main.c"
    main.write_text(source)
    port, script = [*(TEMPLATES / "ports" / "host").glob("*.[ch]")], None
    if toolchain.core != HOST:
        unused = Quantity(1.0, 1.0, 1.0, "derived", "test")
        flash, ram = Memory(0, 1 << 16), Memory(0x20000000, ram_bytes)
        target = Target("test", "", toolchain.core, flash, ram, 1024, unused, unused, unused)
        start = CORTEX_M if toolchain.core.startswith("cortex-m") else TEMPLATES / "ports" / "riscv"
        port, script = [start / "startup.c", *CORTEX_M.glob("semihosting.*")], folder / "link.ld"
        script.write_text(jinja2.Template((CORTEX_M / "link.ld.j2").read_text()).render(target=target))
    copies = [folder / path.name for path in sorted(port)]
    for copy, path in zip(copies, sorted(port), strict=True):
        copy.write_bytes(path.read_bytes())
    sources = [main, *(copy for copy in copies if copy.suffix == ".c")]
    defines = [f"BUFFER_BYTES={buffer_bytes}", "EXIT_CODE=42"]
    image = folder / "out" / "image"
    include_dirs = [TEMPLATES / "app", folder]
    toolchain.build(sources, include_dirs, image, linker_script=script, defines=defines, sanitize=sanitize)
    return image


@pytest.mark.parametrize("toolchain", EVERY, ids=by_name)
def test_build_is_reproducible(tmp_path, toolchain):
    images = [build(toolchain, tmp_path / folder) for folder in ("a", "deeper/b")]
    assert images[0].read_bytes() == images[1].read_bytes()
    assert str(tmp_path).encode() not in images[0].read_bytes()
    assert [path.name for path in images[0].parent.iterdir()] == ["image"]


@pytest.mark.parametrize("toolchain", HOSTS, ids=by_name)
@pytest.mark.parametrize("sanitize", [False, True])
def test_host_program_runs(tmp_path, toolchain, sanitize):
    if sanitize and toolchain.name == "zig":
        with pytest.raises(ToolchainError, match="sanitizers"):
            build(toolchain, tmp_path, sanitize=True)
        return
    image = build(toolchain, tmp_path, sanitize=sanitize)
    done = subprocess.run([image], input=b"bytes", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, b"BYTES", b"main.c\n")


@pytest.mark.parametrize("toolchain", [tool for tool in HOSTS if tool.name != "zig"], ids=by_name)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("volatile unsigned k = 64u; buffer[0] = buffer[k];", b"out of bounds"),
        ("volatile int k = 2147483647; k++;", b"overflow"),
    ],
)
def test_sanitizers_stop_the_program(tmp_path, toolchain, wrong, message):
    image = build(toolchain, tmp_path, source=SOURCE.replace("return EXIT_CODE;", wrong + " return 0;"), sanitize=True)
    done = subprocess.run([image], input=b"", capture_output=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize("toolchain", EVERY, ids=by_name)
@pytest.mark.parametrize(
    "wrong", ["int x = 1.5f;", "int8_t narrow(int v); int8_t narrow(int v) { return v; }", "int main(void);;}"]
)
def test_refused_code_leaves_the_old_image(tmp_path, toolchain, wrong):
    image = build(toolchain, tmp_path)
    before = image.read_bytes()
    with pytest.raises(ToolchainError, match=r"refused the code(.|\n)*main\.c:3"):
        build(toolchain, tmp_path, source=SOURCE.replace("static uint8_t", wrong + " static uint8_t"))
    assert image.read_bytes() == before


@pytest.mark.parametrize("toolchain", ARM, ids=by_name)
def test_ram_is_checked_to_the_byte(tmp_path, toolchain):
    sizes = image_sizes(build(toolchain, tmp_path))
    build(toolchain, tmp_path, ram_bytes=sizes.ram_bytes)
    with pytest.raises(ToolchainError, match="variables and stack do not fit into the RAM"):
        build(toolchain, tmp_path, ram_bytes=sizes.ram_bytes - 8)


@pytest.mark.parametrize("toolchain", EVERY, ids=by_name)
def test_buffer_counts_as_zeroed_ram(tmp_path, toolchain):
    small, large = (image_sizes(build(toolchain, tmp_path, buffer_bytes=size)) for size in (64, 4096))
    assert (large.bss - small.bss, large.data, large.text) == (4032, small.data, small.text)


def test_linker_script_belongs_to_a_microcontroller(tmp_path):
    for toolchain in EVERY:
        script = tmp_path / "link.ld" if toolchain.core == HOST else None
        with pytest.raises(ToolchainError, match="Expected a linker script for a microcontroller"):
            toolchain.build([], [], tmp_path / "image", linker_script=script)


@pytest.mark.parametrize(("core", "name"), [("cortex-a9", "auto"), ("cortex-m7", "iar")])
def test_unknown_names(core, name):
    with pytest.raises(ToolchainError, match=r"Received: (core='cortex-a9'|name='iar')"):
        find_toolchain(core, name)


@pytest.mark.parametrize(
    ("core", "name", "message"),
    [
        ("cortex-m7", "auto", r"arm-none-eabi-gcc on PATH or the package ziglang.*gcc-arm-none-eabi"),
        ("cortex-m7", "zig", r"Expected the package ziglang\..*rct-tflite\[emulate\]"),
        ("cortex-m7", "gcc", r"Expected arm-none-eabi-gcc on PATH\..*rct-tflite\[emulate\]"),
        ("rv32imc", "auto", r"Expected the package ziglang\. Received: none\. Install it: pip"),
        (HOST, "auto", r"cc, gcc or clang on PATH or.*Debian packages gcc,"),
    ],
)
def test_nothing_installed(monkeypatch, core, name, message):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=message):
        find_toolchain(core, name)


def test_every_core_can_be_emulated():
    assert tuple(CORES) == EMULATED_CORES
