"""One image gives the same bytes, exit code and counts in every emulator, and a wrong one is named."""

import itertools
import os
import struct

import pytest

from rct_tflite.emulator import CORES, available_emulators, find_emulator, plugin
from rct_tflite.emulator.audit import FLASH, NOWHERE, STACK, audit
from rct_tflite.errors import EmulatorError
from rct_tflite.firmware.toolchain import available_toolchains

WORK = b"w" + struct.pack("<i", 20)
REVERSE = b"r" + struct.pack("<I", 5) + b"hello"
STACK_ARRAY_BYTES = 512


def mix_and_wide(rounds):
    """The work of `commands.c` in Python."""

    def divide(value, divisor):
        return abs(value) // divisor * (1 if value >= 0 else -1)

    table = [1, -1, 2, -2, 3, -3, 5, -5, 7, -7, 11, -11, 13, -13, 17, -17]
    result = 1
    for turn in range(1, rounds + 1):
        value = turn * 77
        for i in range(16):
            value += table[i] * turn
            if value % 3 == 0:
                value = divide(value, 2) + (value >> 3)
            table[i] ^= value & 1
        result = divide(result + value, turn) + (result + value) * turn
        result = (result + 2**63) % 2**64 - 2**63
    return struct.pack("<q", result)


def test_every_tool_is_here_in_ci():
    found = {(core, tool.name) for core in CORES for tool in (*available_toolchains(core), *available_emulators(core))}
    missing = set(itertools.product(CORES, ("gcc", "zig", "qemu", "unicorn"))) - found
    missing -= {("cortex-m55", "unicorn"), ("rv32imc", "gcc"), ("rv32imc", "qemu")}
    assert not (os.environ.get("CI") == "true" and missing)


def test_run_gives_response_and_console(build_image, toolchain, emulator):
    run = emulator.run(build_image(toolchain), REVERSE)
    assert (run.exit_code, run.response, run.console) == (0, b"olleh", "reversed\n")
    assert run.emulator == f"{emulator.name} {emulator.version}"


@pytest.mark.parametrize(
    ("request_bytes", "exit_code", "response"),
    [
        (b"", 0, b""),
        (WORK, 0, mix_and_wide(20)),
        (REVERSE + WORK + REVERSE, 0, b"olleh" + mix_and_wide(20) + b"olleh"),
        (REVERSE[:-1], 2, b""),  # the stream ends within a request
        (b"\x07", 7, b""),  # main() returns 263: the host sees the lowest 8 bits
    ],
    ids=["empty", "work", "several", "short", "exit"],
)
def test_emulators_agree(build_image, toolchain, request_bytes, exit_code, response):
    image = build_image(toolchain)
    marks = ("main", "mix", "wide")
    profiles = [
        emulator.profile(image, request_bytes, marks)
        for emulator in available_emulators(toolchain.core)
        for _ in range(2)
    ]
    for profile in profiles:
        assert (profile.run.exit_code, profile.run.response) == (exit_code, response)
        assert profile.instructions == sum(function.instructions for function in profile.functions)
        assert (profile.instructions, profile.functions) == (profiles[0].instructions, profiles[0].functions)
        assert (profile.marks, profile.stack_bytes) == (profiles[0].marks, profiles[0].stack_bytes)


def test_marks_and_counts_fit_together(build_image, toolchain, emulator):
    profile = emulator.profile(build_image(toolchain), WORK, ["mix", "wide", "main"])
    functions = {function.name: function for function in profile.functions}
    assert [mark.name for mark in profile.marks] == ["main", *["mix", "wide"] * 20]
    assert functions["mix"].calls == functions["wide"].calls == 20
    # From mix() to wide() nothing runs but mix(), a division that it calls, and a few instructions of work().
    between = sum(after.instructions - before.instructions for before, after in itertools.pairwise(profile.marks[1:]))
    assert 0 < functions["mix"].instructions < between < profile.instructions
    assert [mark.instructions for mark in profile.marks] == sorted(mark.instructions for mark in profile.marks)


def test_stack_depth(build_image, toolchain, emulator):
    image = build_image(toolchain)
    shallow, deep = (emulator.profile(image, request).stack_bytes for request in (b"", b"s"))
    assert shallow < 200
    assert STACK_ARRAY_BYTES <= deep < STACK_ARRAY_BYTES + 200


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (b"l", "load_from"),  # no memory
        (b"f", "load_from"),  # flash behind the image
        (b"b", "load_from"),  # RAM between variables and stack
        (b"u", "undefined"),
        (b"z", "store_to"),  # flash
    ],
)
def test_fault_names_the_function(build_image, toolchain, emulator, command, function):
    with pytest.raises(EmulatorError, match=rf"faulted.*pc=0x[0-9a-f]{{8}} in {function}\."):
        emulator.profile(build_image(toolchain), command)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7"])
@pytest.mark.parametrize("name", [emulator.name for emulator in available_emulators("cortex-m7")])
def test_hang_names_the_function(build_image, core, name):
    image = build_image(available_toolchains(core)[0])
    with pytest.raises(EmulatorError, match=r"did not end.*0\.5 s.*in spin\."):
        find_emulator(core, name).run(image, b"h", timeout_s=0.5)


def test_unknown_mark(build_image, toolchain, emulator):
    with pytest.raises(EmulatorError, match=r"no such function.*'mixed'"):
        emulator.profile(build_image(toolchain), b"", ["mixed"])


def test_memory_of_another_board(build_image):
    for toolchain in available_toolchains("cortex-m7"):
        image = build_image(toolchain, flash_origin=0x08020000, ram_origin=0x24000000)
        for emulator in available_emulators("cortex-m7"):
            assert emulator.accepts(image) == (emulator.name == "unicorn")
            if emulator.name == "unicorn":
                assert find_emulator("cortex-m7", image=image).name == "unicorn"
                assert emulator.run(image, WORK).response == mix_and_wide(20)
            else:
                with pytest.raises(EmulatorError, match="other memory.*0x08020000"):
                    emulator.run(image, WORK)


@pytest.mark.parametrize(
    ("core", "name", "message"),
    [
        ("cortex-a53", "auto", "cortex-a53"),
        ("cortex-m7", "renode", "'renode'"),
        ("rv32imc", "qemu", "qemu has no rv32imc.*Expected 'unicorn'"),
        ("cortex-m55", "unicorn", "unicorn has no cortex-m55.*Expected 'qemu'"),
    ],
)
def test_unknown_names(core, name, message):
    with pytest.raises(EmulatorError, match=message):
        find_emulator(core, name)


@pytest.mark.parametrize("name", ["auto", "qemu", "unicorn"])
def test_nothing_installed(monkeypatch, name):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmulatorError, match=r"qemu-system-arm gcc.*rct-tflite\[emulate\]"):
        find_emulator("cortex-m7", name)


def test_auto_falls_back_where_the_plugin_cannot_be_built(monkeypatch):
    def refuse(qemu):
        raise EmulatorError("no compiler")

    monkeypatch.setattr("rct_tflite.emulator.finder.plugin_for", refuse)
    if "unicorn" in {emulator.name for emulator in available_emulators("cortex-m7")}:
        assert find_emulator("cortex-m7").name == "unicorn"
    else:
        with pytest.raises(EmulatorError):
            find_emulator("cortex-m7")


def test_plugin_is_rebuilt_for_another_api_version(monkeypatch, tmp_path):
    asked = []

    def wants_version_3(qemu, built):
        asked.append(built)
        return "" if len(asked) == 3 else "requires API version 1, but this QEMU supports only a minimum version of 3"

    monkeypatch.setattr(plugin, "_probe", wants_version_3)
    assert plugin.plugin_for(str(tmp_path / "qemu")) == asked[2]
    assert len(set(asked)) == 3
    assert all(built.exists() for built in asked)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7", "rv32imc"])
def test_audit_names_functions_and_variables(build_image, core):
    image = build_image(available_toolchains(core)[0])
    accesses = {(a.function, a.place, a.is_store) for a in audit(core, image, REVERSE + WORK + b"s")}
    assert {("mix", "table", False), ("mix", "table", True), ("use_stack", STACK, True)} <= accesses
    touched = {place for _, place, _ in accesses if not place.startswith("streams")}
    assert touched - {NOWHERE} == {"bytes", "table", STACK, FLASH}
    assert all(function in ("rct_reset", "rct_start", "memset") for function, place, _ in accesses if place == NOWHERE)
    with pytest.raises(EmulatorError, match=r"faulted.*it read 0x.*not its own.*in load_from\."):
        audit(core, image, b"f")
