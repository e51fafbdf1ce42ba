"""NumPy, the sanitised host and every emulated core learn the same bytes, and touch no memory but their own."""

import re

import pytest

from rct_tflite.device import protocol
from rct_tflite.device.protocol import Command, Request
from rct_tflite.emulator import CORES, available_emulators
from rct_tflite.emulator.audit import FLASH, NOWHERE, STACK, Access, audit
from rct_tflite.errors import DeviceError
from rct_tflite.firmware.session import lessons_of
from rct_tflite.firmware.toolchain import HOST, available_toolchains
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.templates import templates_folder
from tests.firmware.matrix import ROWS, Place, lesson, run_guarded

PLACES = [place for place in (HOST, *CORES) if available_toolchains(place)]
RUNTIME = templates_folder() / "runtime"
KERNELS = {path.name for folder in ("kernels", "options") for path in (RUNTIME / folder).glob("*.c")}
START = ("rct_reset", "rct_start", "memset", "memcpy")  # zeroes the gaps between variables, too


@pytest.fixture(scope="module", params=PLACES)
def place(request, tmp_path_factory) -> Place:
    return Place(request.param, tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("name", ROWS)
def test_the_same_bytes(place, name):
    assert place.learn(lesson(name), place.image(name)) == lesson(name).learnt


@pytest.mark.parametrize("place", PLACES[1:], indirect=True)
@pytest.mark.parametrize("name", ROWS)
def test_functions_stay_in_their_memory(place, name):
    """An access to what is nobody's ends the run; kernels own less than the image."""
    learn = stream([Request(Command.SELF_TEST), *lessons_of(lesson(name).samples.first(2))])
    emulators = available_emulators(place.core)
    assert emulators[0].profile(place.image(name), learn).stack_bytes <= find_target(place.core).stack_bytes
    if "unicorn" not in [emulator.name for emulator in emulators]:
        return
    accesses = [a for a in audit(place.core, place.image(name), learn) if a.function not in START]
    assert not [a for a in accesses if a.place == NOWHERE or (a.is_store and a.place == FLASH)]
    kernels = [a for a in accesses if is_kernel(a)]
    assert {"arena", "parameters", "backward"} <= {a.place for a in kernels}
    assert all(a.place == STACK or a.place_source == "model.c" for a in kernels if a.is_store)
    assert all(a.place in (STACK, FLASH) or a.place_source in ("model.c", *KERNELS) for a in kernels)
    predict = stream([protocol.predict(sample) for sample in lesson(name).samples.inputs[:1]])
    accesses = [a for a in audit(place.core, place.image(name), predict) if is_kernel(a)]
    assert not [a for a in accesses if a.is_store and a.place not in ("arena", STACK)]


@pytest.mark.parametrize("place", [HOST], indirect=True)
def test_kernels_stay_in_their_buffers(place, tmp_path):
    called = set()
    for name in ROWS:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        called |= set(re.findall(r"\b(rct_\w+)\(", run_guarded(place, lesson(name), folder)))
    declared = set(re.findall(r"\b(rct_\w+)\(", (RUNTIME / "rct.h").read_text()))
    kernels = {f"rct_{path.stem}" for path in (RUNTIME / "kernels").glob("*.c")} & declared
    assert kernels - called == {"rct_argmax"}  # called by applications


@pytest.mark.parametrize("place", [HOST], indirect=True)
@pytest.mark.parametrize("short", ["act:0", "sums", "rows", "bias"])
def test_a_byte_behind_a_buffer_is_noticed(place, tmp_path, short):
    with pytest.raises(DeviceError, match="use-after-poison"):
        run_guarded(place, lesson("conv, 8 bits, per channel, last two"), tmp_path, short)


def stream(requests: list[Request]) -> bytes:
    return b"".join(request.encode() for request in requests)


def is_kernel(access: Access) -> bool:
    return access.source in KERNELS or access.function.removeprefix("rct_") + ".c" in KERNELS
