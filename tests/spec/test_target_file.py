"""Target files: the shipped ones are whole, wrong ones are refused with a reason."""

import re

import pytest

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Memory
from rct_tflite.spec.target_file import TARGETS_FOLDER, find_target, list_targets, read_target, read_target_file

KIB = 1024
GOOD = (TARGETS_FOLDER / "cortex-m7.toml").read_text()


@pytest.mark.parametrize(
    ("name", "flash", "ram", "clock_mhz"),
    [
        ("cortex-m7", Memory(0, 2048 * KIB), Memory(0x20000000, 512 * KIB), 216),
        ("stm32f746", Memory(0x08000000, 1024 * KIB), Memory(0x20000000, 320 * KIB), 216),
        ("stm32h743", Memory(0x08000000, 2048 * KIB), Memory(0x24000000, 512 * KIB), 480),
        ("stm32h7a3", Memory(0x08000000, 2048 * KIB), Memory(0x24000000, 1024 * KIB), 280),
    ],
)
def test_shipped_targets(name, flash, ram, clock_mhz):
    target = find_target(name)
    assert (target.name, target.core, target.stack_bytes) == (name, "cortex-m7", 2048)
    assert (target.flash, target.ram, target.clock_mhz.value) == (flash, ram, clock_mhz)


def test_every_shipped_file_is_listed():
    assert list_targets() == tuple(sorted(path.stem for path in TARGETS_FOLDER.iterdir()))


def test_own_target_by_path(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text(GOOD.replace('name = "cortex-m7"', 'name = "board"'))
    assert find_target(str(path)).name == "board"


CLOCK_LOW = "[clock_mhz]\nvalue = 216\nlow = 216"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "cortex-m7"\n', "", "name is missing"),
        ('name = "cortex-m7"', "name = 7", "name must be a text"),
        ('name = "cortex-m7"', 'name = ""', "name must be a text"),
        ('name = "cortex-m7"', 'name = "my */ board"', "name must be letters"),
        (
            r"re:(\[ram.size\])\n(\w+) = \d+\nlow = \d+\nhigh = \d+",
            r"\1\nvalue=8193\nlow=8193\nhigh=8193",
            "must end at",
        ),
        ("[stack_bytes]", "[stack_byte]", "stack_byte is unknown.*Did you mean 'stack_bytes'"),
        ("[flash.size]", "[flash.length]", "flash.length is unknown"),
        ("[clock_mhz]", "[clock_mhz]\nunit = 1", "clock_mhz must be a table with value"),
        ('core = "cortex-m7"', 'core = "cortex-m7"\nclock_mhz = 216', "no valid TOML"),
        (CLOCK_LOW, "[clock_mhz]\nvalue = 216\nlow = 217", r"clock_mhz must satisfy low <= value <= high.*217"),
        (CLOCK_LOW, "[clock_mhz]\nvalue = 216\nlow = 0", "clock_mhz must be above 0"),
        (CLOCK_LOW, "[clock_mhz]\nvalue = 216\nlow = true", "clock_mhz.low must be a number"),
        (CLOCK_LOW, "[clock_mhz]\nvalue = nan\nlow = 216", "clock_mhz.value must be a number"),
        (CLOCK_LOW, '[clock_mhz]\nvalue = "216"\nlow = 216', "clock_mhz.value must be a number"),
        ('confidence = "derived"', 'confidence = "sure"', "confidence must be one of measured, datasheet, derived"),
        (
            r"re:\[flash.size\]\n(\w+) = \d+\nlow = \d+\nhigh = \d+",
            "[flash.size]\nvalue=0\nlow=0\nhigh=0",
            "size must be 1",
        ),
        (r"re:(\[ram.size\]\nvalue) = \d+\nlow = \d+", r"\1 = 8192\nlow = 4096", "ram.size must be a whole number"),
        (
            r"re:(\[stack_bytes\])\nvalue = 2048\nlow = 2048\nhigh = 2048",
            r"\1\nvalue=2044\nlow=2044\nhigh=2044",
            "of 8",
        ),
        (r"re:0x20000000", "0x00100000", "ram overlaps flash"),
        (r"re:0x20000000", "0xFFFF0000", "beyond the 32-bit address space"),
    ],
)
def test_wrong_files_are_refused(tmp_path, old, new, message):
    text = re.sub(old[3:], new, GOOD) if old.startswith("re:") else GOOD.replace(old, new)
    assert text != GOOD
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(TargetError, match=f"wrong.toml.*{message}"):
        read_target(path)


def test_a_table_must_be_a_table(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('name = "a"\nflash = 3\n')
    with pytest.raises(TargetError, match="flash must be a table with origin and size. Received: 3"):
        read_target(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stm32h74", "Expected one of apollo4-plus, .*cortex-m7, .*'stm32h74'. Did you mean 'stm32h743'"),
        ("CORTEX-M7", "Did you mean 'cortex-m7'"),
        ("z80", "Received: 'z80'.$"),
        ("esp32", "Did you mean 'esp32-c3'"),
        ("none.toml", "no such target file"),
    ],
)
def test_unknown_targets(name, message):
    with pytest.raises(TargetError, match=message):
        find_target(name)


def test_a_folder_is_no_target_file(tmp_path):
    with pytest.raises(TargetError, match="Cannot read"):
        read_target(tmp_path)


PART = """name = "mine"
description = "a part"
core = "cortex-m4"
regulator = "linear"
""" + "".join(
    f'[{key}]\nvalue = {value}\nconfidence = "derived"\nsource = "test"\n'
    for key, value in {
        "flash.origin": 0,
        "flash.size": 65536,
        "ram.origin": 0x20000000,
        "ram.size": 16384,
        "clock_mhz": 100,
        "clock_max_mhz": 120,
        "flash.wait_states": 3,
        "flash.cache_bytes": 0,
        "flash.read_bytes": 16,
        "flash.zero_wait_mhz": 30,
        "flash.erase_bytes": 2048,
        "flash.write_bytes": 8,
        "flash.erase_uj_per_byte": 0.1,
        "flash.write_uj_per_byte": 0.1,
        "flash.erase_us_per_byte": 10,
        "flash.write_us_per_byte": 10,
    }.items()
)
REGIONS = """
[[region]]
name = "flash"
kind = "flash"
origin = 0
size = 65536
[[region]]
name = "SRAM"
kind = "ram"
origin = 0x20000000
size = 16384
"""


def part(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_target_file(path)


def test_a_part_inherits_from_its_core_what_it_does_not_say(tmp_path):
    own, core = part(tmp_path, PART + REGIONS), read_target_file(TARGETS_FOLDER / "cortex-m4.toml")
    assert own.target.cycles_per_instruction == core.target.cycles_per_instruction
    assert (own.target.op_cpi, own.target.op_power) == (core.target.op_cpi, core.target.op_power)
    assert {"stack_bytes", "active_mw_per_mhz", "cpi.mac"} <= set(own.inherited)
    assert not {"flash.size", "clock_mhz"} & set(own.inherited)
    assert own.target.linear_regulator
    assert (own.target.timing.wait_states, own.target.writing.erase_bytes) == (3, 2048)
    assert (own.target.timing.read_bytes, core.target.timing) == (16, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[clock_mhz]", '[voltage_v]\nvalue = 300\nconfidence = "derived"\nsource = "x"\n[clock_mhz]', "at most 60 V"),
        ('core = "cortex-m4"', 'core = "cortex-m99"', "stack_bytes is missing. No shipped core 'cortex-m99' tells it"),
        ("[clock_mhz]\nvalue = 100", "[clock_mhz]\nvalue = 130", "clock_mhz is faster than the part.*at most 120"),
        (
            "[flash.wait_states]\nvalue = 3",
            "[flash.wait_states]\nvalue = 2",
            "slower than the clock allows.*at most 90",
        ),
        ("[flash.erase_bytes]\nvalue = 2048", "[flash.erase_bytes]\nvalue = 2049", "must be a multiple of flash.write"),
        ("[flash.read_bytes]\nvalue = 16", "[flash.read_bytes]\nvalue = 12", "must be a power of two. Received: 12"),
        ("[flash.zero_wait_mhz]", "[headline.voltage_v]", "flash.zero_wait_mhz is missing. Expected all or none"),
        ("flash.size]\nvalue = 65536", "flash.size]\nvalue = 65537", "flash must lie in the regions of the part"),
        ("origin = 0x20000000\nsize", "origin = 0x8000\nsize", "region 'SRAM' overlaps region 'flash'"),
        ('kind = "ram"', 'kind = "rom"', "kind must be one of flash, ram, external"),
        ('name = "SRAM"\n', "", "region 2 must be a table with name, kind, origin, size"),
        ("size = 16384\n", "size = -1\n", "region 2 must have whole numbers"),
        ('regulator = "linear"', 'regulator = "none"', "regulator must be one of linear, switched"),
        ("[flash.cache_bytes]", "[flash.cache]", "flash.cache is unknown. .* Did you mean 'flash.cache_bytes'"),
        ("[flash.cache_bytes]", "[cpi.convolution]", "cpi.convolution is unknown"),
        ("[clock_max_mhz]\nvalue = 120", "[clock_max_mhz]\nvalue = 120\nlow = 120", "must be a table with value, low"),
    ],
)
def test_impossible_parts_are_refused(tmp_path, old, new, message):
    text = (PART + REGIONS).replace(old, new)
    assert text != PART + REGIONS
    with pytest.raises(TargetError, match=message):
        part(tmp_path, text)


def test_bytes_of_a_read_need_what_it_waits(tmp_path):
    waits = tuple(f"[flash.{name}]" for name in ("wait_states", "cache_bytes", "zero_wait_mhz"))
    entries = (entry for entry in re.split(r"(?m)^(?=\[)", PART) if not entry.startswith(waits))
    with pytest.raises(TargetError, match="flash.wait_states is missing. Expected it with flash.read_bytes"):
        part(tmp_path, "".join(entries) + REGIONS)


@pytest.mark.parametrize("name", list_targets())
def test_every_shipped_number_has_an_interval_and_a_source(name):
    file = read_target_file(TARGETS_FOLDER / f"{name}.toml")
    assert {key for key, _ in file.quantities} >= {"clock_mhz", "active_mw_per_mhz", "cpi.mac", "cpi.elementwise"}
    for _, quantity in file.quantities:
        assert quantity.low <= quantity.value <= quantity.high
        assert len(quantity.source) > 10
    for key in ("cycles_per_instruction", "active_mw_per_mhz"):
        quantity = dict(file.quantities)[key]
        assert quantity.confidence == "measured" or quantity.high / quantity.low > 1.2
