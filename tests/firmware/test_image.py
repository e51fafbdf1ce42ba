"""What must hold of the firmware beside its results."""

import dataclasses
import json
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

from rct_tflite.device.protocol import Command, DeviceStatus, Request, decode_responses
from rct_tflite.emulator import available_emulators
from rct_tflite.emulator.disassembly import float_instructions, heap_symbols
from rct_tflite.errors import DeviceError, FitError, UnsupportedLayerError
from rct_tflite.firmware.build import build_project
from rct_tflite.firmware.manifest import MANIFEST_FILE
from rct_tflite.firmware.model_source import RUNTIME_VERSION, model_source
from rct_tflite.firmware.project import FIRMWARE_FOLDER, write_firmware
from rct_tflite.firmware.samples import Samples
from rct_tflite.firmware.session import exchange, host_runner, measure
from rct_tflite.firmware.toolchain import available_toolchains
from rct_tflite.planning.fit import memory_need
from rct_tflite.planning.flash import GOLDEN_VECTORS
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import select
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.templates import templates_folder
from rct_tflite.spec.training_plan import TrainingPlan
from tests import mlperf_tiny
from tests.firmware.conftest import TARGET, Case
from tests.graphs import GraphBuilder, conv_digits

TOOLCHAINS = [toolchain.name for toolchain in available_toolchains(TARGET.core)]
EMULATORS = available_emulators(TARGET.core)


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_no_float_and_no_heap(case, toolchain):
    image = case.build(TARGET.core, toolchain).image
    assert float_instructions(image) == ()
    assert heap_symbols(image) == ()


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_cost_is_the_same_on_every_emulator(case, toolchain):
    build = case.build(TARGET.core, toolchain)
    samples = Samples(case.samples[:2], case.labels[:2])
    costs = [measure(emulator, build.image, samples) for emulator in EMULATORS]
    assert len({(cost.inference, cost.step, cost.stack_bytes, cost.functions) for cost in costs}) == 1
    assert 0 < costs[0].inference < costs[0].step
    # Far below what targets reserve; a kernel that begins to keep buffers on the stack shows here.
    assert 0 < costs[0].stack_bytes <= build.stack.stack_bytes <= 512


@pytest.mark.parametrize(
    ("build", "train"),
    [
        (mlperf_tiny.visual_wake_words, "last:2"),
        (mlperf_tiny.keyword_spotting, "all"),
        (mlperf_tiny.image_classification, "bias"),
        (conv_digits, "layer2:3,layer5"),
    ],
)
def test_flash_is_known_before_anything_is_compiled(tmp_path, build, train):
    graph = build()
    plan = select(graph, train)
    memory = plan_memory(graph, plan)
    golden = graph.random_inputs(GOLDEN_VECTORS, np.random.default_rng(0))
    write_firmware(tmp_path, graph, plan, memory, TARGET, golden)
    taken = build_project(tmp_path, TARGET.core, "gcc").sizes.flash_bytes
    assert taken == pytest.approx(memory_need(graph, memory, TARGET).flash, rel=0.06)


def test_an_image_beyond_the_flash_of_a_search_is_not_left(tmp_path):
    case = Case(tmp_path, GraphBuilder((4, 4, 1)).conv(2).reshape(32).dense(3).graph(), "all", steps=1)
    manifest = tmp_path / MANIFEST_FILE
    taken = case.build(TARGET.core).sizes.flash_bytes
    manifest.write_text(json.dumps({"search": {"limits": {"flash": taken}}}))
    assert case.build(TARGET.core).sizes.flash_bytes == taken
    manifest.write_text(json.dumps({"search": {"limits": {"flash": taken - 1}}}))
    with pytest.raises(FitError, match=rf"Expected at most {taken - 1} B\. Received: {taken} B"):
        case.build(TARGET.core)
    assert not list(tmp_path.rglob("firmware.elf"))


def test_a_stack_that_may_not_fit_leaves_no_image(tmp_path):
    target = dataclasses.replace(TARGET, stack_bytes=256)
    case = Case(tmp_path, GraphBuilder((4, 4, 1)).conv(2).reshape(32).dense(3).graph(), "all", target=target, steps=1)
    with pytest.raises(FitError, match=r"Expected at most 256 B\. Received: \d+ B, by rct_reset > main > rct_\w+"):
        case.build(TARGET.core)
    assert not list(tmp_path.rglob("firmware.elf"))


@pytest.mark.usefixtures("no_object_store")
def test_the_same_export_gives_the_same_bytes(conv_case, tmp_path):
    again = Case(tmp_path, conv_case.graph, conv_case.train)
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / FIRMWARE_FOLDER).rglob("*") if path.is_file())
    assert files
    for file in files:
        assert (tmp_path / file).read_bytes() == (conv_case.folder / file).read_bytes()
    images = [c.build(TARGET.core, TOOLCHAINS[0]).image.read_bytes() for c in (conv_case, again)]
    assert images[0] == images[1]


def test_runtime_version_equals_that_of_the_header():
    header = (templates_folder() / "runtime" / "rct.h").read_text()
    assert re.findall(r"#define RCT_RUNTIME_VERSION (\d+)", header) == [str(RUNTIME_VERSION)]


def test_cmake_builds_for_the_host(conv_case, tmp_path):
    firmware = conv_case.folder / FIRMWARE_FOLDER
    cmake(firmware, tmp_path)
    assert conv_case.learn(host_runner(tmp_path / "firmware")) == conv_case.learnt


@pytest.mark.parametrize("core", ["cortex-m7"] if "gcc" in TOOLCHAINS else [])
def test_cmake_builds_for_the_core(conv_case, tmp_path, core):
    firmware = conv_case.folder / FIRMWARE_FOLDER
    toolchain = firmware / "ports" / "cortex-m" / "arm-none-eabi.cmake"
    cmake(firmware, tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", f"-DRCT_CORE={core}")
    emulator = EMULATORS[0]
    run = emulator.run(tmp_path / "firmware.elf", Request(Command.SELF_TEST).encode())
    assert [r.command for r in decode_responses(run.response)] == [Command.SELF_TEST]


def cmake(source, build, *options):
    program = shutil.which("cmake")
    assert program, "CMake is part of the test set-up: apt-get install cmake, or pip install cmake"
    subprocess.run([program, "-S", source, "-B", build, *options], check=True, capture_output=True)
    subprocess.run([program, "--build", build], check=True, capture_output=True)


@pytest.fixture(scope="module")
def host(conv_case):
    return host_runner(conv_case.build("host", sanitize=True).image)


def test_reset_forgets_and_write_restores(conv_case, host):
    read = Request(Command.READ_PARAMETERS)
    lessons = conv_case.lessons(20)
    answers = list(exchange(host, [read, *lessons, read, Request(Command.RESET), read, *lessons, read]))
    initial, learnt, forgotten, again = (r.payload for r in answers if r.command is Command.READ_PARAMETERS)
    assert initial != learnt
    assert (forgotten, again) == (initial, learnt)
    restored = list(exchange(host, [Request(Command.WRITE_PARAMETERS, learnt), read]))[-1].payload
    assert restored == learnt


@pytest.mark.parametrize("bias", [2**31 - 1, -(2**31)])
def test_damaged_biases_are_refused(conv_case, host, bias):
    """With them a sum could pass 32 bits; the network is that of the export again."""
    read = Request(Command.READ_PARAMETERS)
    (exported,) = (answer.payload for answer in exchange(host, [read]))
    damaged = Request(Command.WRITE_PARAMETERS, conv_case.learnt[:-4] + struct.pack("<i", bias))
    with pytest.raises(DeviceError, match="WRITE_PARAMETERS: ERR_ARGUMENT"):
        exchange(host, [damaged])
    assert exported in host(b"".join(request.encode() for request in (damaged, read, Request(Command.EXIT))))


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"nonsense" * 3, DeviceStatus.ERR_FRAME),
        (Request(Command.PREDICT, b"short").encode(), DeviceStatus.ERR_FRAME),
        (Request(Command.INFO).encode()[:-1] + b"?", DeviceStatus.ERR_CHECKSUM),
        (Request(Command.INFO).encode()[:-1], DeviceStatus.ERR_STREAM),
        (Request(99).encode(), DeviceStatus.ERR_COMMAND),
    ],
)
def test_damaged_requests_are_refused(conv_case, stream, status):
    program = conv_case.build("host", sanitize=True).image
    done = subprocess.run([program], input=stream, capture_output=True, check=False)
    assert done.returncode == 1
    assert not done.stderr
    with pytest.raises(DeviceError, match=status.name):
        list(decode_responses(done.stdout))


def test_label_out_of_range_is_refused(conv_case, host):
    wrong = conv_case.lessons(1)[0]
    payload = (10).to_bytes(2, "little") + wrong.payload[2:]
    with pytest.raises(DeviceError, match="LEARN: ERR_ARGUMENT"):
        list(exchange(host, [Request(Command.LEARN, payload)]))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (GraphBuilder((300, 1, 1)).average_pool((300, 1)).reshape(1).dense(2).graph(), "window or stride above 255"),
        (
            GraphBuilder((70_000,)).reshape(7, 10_000).reshape(70_000).graph(),
            "axis, row of weights or number of rows above 65535",
        ),
    ],
)
def test_sizes_that_the_tables_cannot_hold(graph, expected):
    plan = TrainingPlan((), 0.01, Rounding.STOCHASTIC)
    with pytest.raises(UnsupportedLayerError, match=expected):
        model_source(graph, plan, plan_memory(graph, plan), np.zeros((0, graph.tensors[0].size), np.int8))
