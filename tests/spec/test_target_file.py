"""Target files: the shipped ones are whole, wrong ones are refused with a reason."""

import re

import pytest

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Memory
from rct_tflite.spec.target_file import TARGETS_FOLDER, find_target, list_targets, read_target

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
        ("stm32h74", "Expected one of cortex-m7, .*'stm32h74'. Did you mean 'stm32h743'"),
        ("CORTEX-M7", "Did you mean 'cortex-m7'"),
        ("esp32", "Received: 'esp32'.$"),
        ("none.toml", "no such target file"),
    ],
)
def test_unknown_targets(name, message):
    with pytest.raises(TargetError, match=message):
        find_target(name)


def test_a_folder_is_no_target_file(tmp_path):
    with pytest.raises(TargetError, match="Cannot read"):
        read_target(tmp_path)
