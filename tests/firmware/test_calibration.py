"""The benchmark firmware builds, runs emulated, and its schedule is what was counted."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rct_tflite.emulator.finder import available_emulators
from rct_tflite.energy.calibration.schedule import COMPUTE, KINDS, SCHEDULE_FILE, read_schedule
from rct_tflite.errors import TargetError, ToolchainError
from rct_tflite.firmware.calibration import (
    ANY_PORT,
    INCLUDE_FOLDERS,
    PHASES_FILE,
    PORT_FILE,
    PORTS,
    STM32_PORT,
    BenchmarkOptions,
    has_port,
    write_benchmark,
)
from rct_tflite.firmware.project import CORTEX_M, port_of
from rct_tflite.firmware.toolchain import CORES, available_toolchains, find_toolchain
from rct_tflite.spec.target import OP_CLASSES
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.templates import templates_folder

TARGET = find_target("cortex-m7")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("benchmark"), TARGET, BenchmarkOptions())


def test_schedule(benchmark):
    schedule = benchmark.schedule
    assert read_schedule(benchmark.folder / SCHEDULE_FILE) == schedule
    assert [phase.kind for phase in schedule.phases] == [COMPUTE] * len(schedule.phases)
    classes = {name for phase in schedule.phases for name, _ in phase.instructions}
    assert {"mac", "elementwise", "update", "move"} <= classes <= set(OP_CLASSES)
    clock = TARGET.clock_mhz.value * 1e6
    for phase in schedule.phases:
        assert 0.5 < phase.seconds < 2.0
        cycles = sum(count for _, count in phase.instructions) * phase.iterations
        assert 0.3 < phase.seconds * clock / cycles < 3.0
    header = (benchmark.folder / "firmware" / "bench" / "schedule.h").read_text()
    iterations = [int(count) for count in re.findall(r"^ +(\d+)u,", header, re.MULTILINE)]
    assert iterations == [*(phase.iterations for phase in schedule.phases), 0, 0]  # without flash


def test_counts_are_those_of_the_kernels(benchmark):
    counts = {phase.name: dict(phase.instructions) for phase in benchmark.schedule.phases}
    macs = {"conv_3x3": (3 * 8 - 2) ** 2 * 8 * 16, "conv_1x1": 64 * 16 * 16, "dense": 256 * 32}
    for name, count in macs.items():
        assert 1.5 < counts[name]["mac"] / count < 12
    assert counts["copy_first"] == counts["copy_last"]
    assert 3 < counts["copy_first"]["move"] / 1024 < 8
    assert 5 < counts["update"]["update"] / 256 < 20
    assert counts["learn"]["update"] > 6 * counts["update"]["update"]  # eight rows
    main = {name: max(found, key=found.get) for name, found in counts.items()}
    assert main["pool"] == main["mask"] == "elementwise"


def test_every_emulator_counts_the_same(tmp_path):
    found = set()
    for emulator in available_emulators(TARGET.core):
        folder = tmp_path / emulator.name
        folder.mkdir()
        found.add(write_benchmark(folder, TARGET, BenchmarkOptions(emulator=emulator.name)).schedule)
    assert len(found) == 1


@pytest.mark.parametrize("core", [core for core in CORES if port_of(core) == CORTEX_M])
@pytest.mark.parametrize("toolchain", [toolchain.name for toolchain in available_toolchains(TARGET.core)])
def test_board_code_compiles_for_every_core(core, toolchain, benchmark, tmp_path):
    firmware = benchmark.folder / "firmware"
    own = [firmware / part for part in ("bench/main.c", "bench/phases.c", "board/board.c", "runtime/memory.c")]
    shared = [path for part in ("runtime/kernels", "ports/cortex-m") for path in sorted((firmware / part).glob("*.c"))]
    includes = [firmware / part for part in ("bench", "runtime", "runtime/kernels", "ports/cortex-m")]
    registers = "MARK_REGISTER=0x58020418u MARK_HIGH=2u MARK_LOW=0x20000u SERIAL_DATA_REGISTER=0x40004828u"
    registers += " SERIAL_STATE_REGISTER=0x4000481Cu SERIAL_READY=128u SERIAL_ALL_OUT=64u"
    compiler, image, script = (
        find_toolchain(core, toolchain),
        tmp_path / "calibration.elf",
        firmware / "board" / "link.ld",
    )
    (tmp_path / "shared").mkdir()
    objects = compiler.compile(shared, includes, tmp_path / "shared")
    for defines in ((), registers.split()):
        compiler.link(
            [*compiler.compile(own, includes, tmp_path, defines=defines), *objects], image, linker_script=script
        )
        assert image.stat().st_size > 1000
        image.unlink()


@pytest.mark.parametrize("port", [path.stem for path in (templates_folder() / PORTS).glob("*.h")])
@pytest.mark.parametrize("toolchain", [toolchain.name for toolchain in available_toolchains(TARGET.core)])
def test_ports_compile_without_warnings(port, toolchain, benchmark, tmp_path):
    ports, firmware = templates_folder() / PORTS, benchmark.folder / "firmware"
    if port in ("any", "stm32"):
        assert (firmware / PORT_FILE).read_bytes() == (ports / ANY_PORT).read_bytes()
        return
    target = find_target(port)
    assert has_port(target)
    for source, name in ((f"{port}.h", "port.h"), (STM32_PORT, STM32_PORT)):
        (tmp_path / name).write_bytes((ports / source).read_bytes())
    (tmp_path / "board.c").write_bytes((firmware / "board" / "board.c").read_bytes())
    includes = [firmware / part for part in INCLUDE_FOLDERS]
    compiled = find_toolchain(target.core, toolchain).compile([tmp_path / "board.c"], includes, tmp_path)
    assert all(path.stat().st_size > 500 for path in compiled)
    text = (ports / f"{port}.h").read_text()
    place = int(re.search(r"FLASH_PLACE +0x([0-9A-F]+)u", text).group(1), 16)
    assert target.flash.origin < place < target.flash.origin + target.flash.size
    assert place % target.writing.erase_bytes == 0
    assert f"{target.clock_mhz.value:g} MHz" in text.splitlines()[0]


def test_flash_phases_take_what_the_target_tells(tmp_path):
    target = find_target("stm32h743")
    schedule = write_benchmark(tmp_path, target, BenchmarkOptions(flash=True, seconds=2.0)).schedule
    flash = [phase for phase in schedule.phases if phase.kind != COMPUTE]
    assert [phase.kind for phase in flash] == ["flash_erase", "flash_write"]
    assert all(phase.bytes == 128 * 1024 for phase in flash)


def test_the_list_of_phases():
    lines = (templates_folder() / PHASES_FILE).read_text().splitlines()
    phases = [line for line in lines if line.startswith("RCT_PHASE(")]
    kinds = [phase.split(", ")[1] for phase in phases]
    lengths = [int(re.search(r"(\d+)\)", phase).group(1)) for phase in phases]
    assert set(kinds) == set(KINDS)
    assert all(a != b for a, b in itertools.pairwise(lengths[:9]))


def test_same_options_give_the_same_files(benchmark, tmp_path):
    again = write_benchmark(tmp_path, TARGET, BenchmarkOptions())

    def files(folder):
        return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}

    assert files(again.folder) == files(benchmark.folder)


@pytest.mark.parametrize(
    ("core", "error", "message"),
    [("xtensa", ToolchainError, "Unknown core.*xtensa"), ("rv32imc", TargetError, "on a Cortex-M only.*rv32imc")],
)
def test_a_core_that_is_not_built_for(tmp_path, core, error, message):
    with pytest.raises(error, match=message):
        write_benchmark(tmp_path, replace(TARGET, core=core), BenchmarkOptions())
