"""The folder for a TensorFlow Lite Micro project: what it says is true, and it compiles."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rct_tflite.errors import DataError, OutputFolderError
from rct_tflite.export.micro_artifacts import MAX_VECTORS, arena_margin, write_micro_artifacts
from rct_tflite.tflite.oracle import arena_bytes, run_micro
from rct_tflite.tflite.reader import read_graph
from tests.tflite.networks import exported, network_of, random_inputs
from tests.tflite.one_op import words_model

HERE = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
C, CXX = ["gcc", "-std=c99", *WARNINGS], ["g++", "-std=c++17", "-fno-exceptions", "-fno-rtti", *WARNINGS]
CASES = ["per channel", "strides", "large", "convolution"]


def write(folder, case="per channel", name="net", samples=6):
    inputs = random_inputs(network_of(case), samples)
    return write_micro_artifacts(folder, read_graph(exported(case), name), exported(case), inputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts") / "net"


@pytest.fixture(scope="module")
def artifacts(folder):
    return write(folder)


def compile_all(folder, target, *definitions):
    """Builds the checks with the artifacts, TFLite-Micro replaced by the replay."""
    objects = []
    for source in (HERE / "artifact_checks.c", *sorted(folder.glob("*.c")), folder / "net_model.cc"):
        objects.append(target / f"{source.name}.o")
        compiler = CXX if source.suffix == ".cc" else C
        command = [*compiler, *definitions, "-I", str(folder), "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True)
    subprocess.run(["g++", *map(str, objects), "-o", str(target / "checks")], check=True)
    return subprocess.run([str(target / "checks")], capture_output=True, check=True)


@pytest.mark.parametrize("definitions", [(), ("-DNET_MODEL_IN_RAM",)])
def test_array_vectors_and_weights_are_the_file_s(folder, artifacts, tmp_path, definitions):
    run = compile_all(folder, tmp_path, *definitions)
    assert run.stdout == exported() == (folder / "net.tflite").read_bytes()
    graph = read_graph(exported())
    lines = run.stderr.decode().splitlines()
    ops = [op for op in graph.ops if op.has_weights]
    assert len(lines) == len(ops)
    for line, op in zip(lines, ops, strict=True):
        name, *integers, scale = line.split()
        start, size, bias_start, bias_size, bits, trainable = map(int, integers)
        weights, bias = (graph.tensors[index] for index in op.inputs[1:])
        assert (name, bits, trainable) == (op.name, graph.bits_of(op), 1)
        assert exported()[start : start + size] == weights.data.tobytes()
        assert exported()[bias_start : bias_start + bias_size] == bias.data.astype("<i4").tobytes()
        assert np.float32(scale) == weights.quantization.scales[-1]


def numbers(text, name):
    """The integers of an initialiser."""
    body = text[text.index(f"{name}[") :].split("= {", 1)[1].split("};", 1)[0]
    return [int(number) for number in re.findall(r"-?\d+", body)]


def test_vectors_are_the_oracle_s(folder, artifacts):
    text = (folder / "net_test_vectors.h").read_text()
    inputs = random_inputs(network_of("per channel"), 6)[:MAX_VECTORS]
    assert numbers(text, "net_test_inputs") == inputs.ravel().tolist()
    assert numbers(text, "net_test_outputs") == run_micro(exported(), inputs).ravel().tolist()
    assert artifacts.test_vectors == MAX_VECTORS


def test_header_says_arena_and_quantisation(folder, artifacts):
    graph = read_graph(exported())
    text = (folder / "net_tflm.h").read_text()
    defined = dict(re.findall(r"#define NET_(\w+) +\(?([^()\n]+)\)?", text))
    assert int(defined["ARENA_MEASURED_BYTES"]) == arena_bytes(exported()) == artifacts.arena.smallest_bytes
    assert int(defined["ARENA_BYTES"]) == artifacts.arena_bytes
    assert 0 <= artifacts.arena_bytes - artifacts.arena.smallest_bytes - arena_margin(graph) < 16
    for role, tensor in (("INPUT", graph.tensors[graph.input]), ("OUTPUT", graph.tensors[graph.output])):
        assert int(defined[f"{role}_BYTES"]) == tensor.size
        assert int(defined[f"{role}_ZERO_POINT"]) == tensor.zero_point
        assert np.float32(defined[f"{role}_SCALE"].rstrip("f")) == tensor.scale


@pytest.mark.parametrize("definition", ["-DCMSIS_NN", "-DREFERENCE_KERNELS"])
@pytest.mark.parametrize("case", CASES)
def test_glue_fits_tflm_s_declarations(tmp_path, case, definition):
    write(tmp_path / "net", case)
    source = tmp_path / "net" / "net_tflm.cc"
    includes = ["-I", str(HERE / "tflm_declarations"), "-DTF_LITE_STATIC_MEMORY", definition]
    subprocess.run([*CXX, "-fsyntax-only", *includes, str(source)], check=True)
    kinds = {op.kind for op in read_graph(exported(case)).ops}
    assert f"MicroMutableOpResolver<{len(kinds)}>" in source.read_text()
    assert source.read_text().count("resolver.Add") == 2 * len(kinds)


def test_a_network_of_ids(tmp_path):
    model, folder = words_model(), tmp_path / "net"
    graph = read_graph(model, "net")
    ids = graph.random_inputs(3, np.random.default_rng(0))
    write_micro_artifacts(folder, graph, model, ids)
    assert compile_all(folder, tmp_path).stdout == model
    assert numbers((folder / "net_test_vectors.h").read_text(), "net_test_inputs") == ids.ravel().tolist()
    assert "#define NET_INPUT_IDS   11" in (folder / "net_tflm.h").read_text()
    assert "ids from 0 to 10" in (folder / "README.md").read_text()
    includes = ["-I", str(HERE / "tflm_declarations"), "-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN"]
    subprocess.run([*CXX, "-fsyntax-only", *includes, str(folder / "net_tflm.cc")], check=True)


def test_same_input_gives_same_bytes(folder, artifacts, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert write(elsewhere) == artifacts
    for name in artifacts.files:
        content = (folder / name).read_bytes()
        assert content == (elsewhere / name).read_bytes()
        assert str(tmp_path).encode() not in content
        assert name == "net.tflite" or not re.search(rb"20\d\d-\d\d", content)


def test_readme_names_every_file(folder, artifacts):
    text = (folder / "README.md").read_text()
    for name in artifacts.files:
        assert name == "README.md" or name in text or Path(name).suffix in text
    assert "**Not checked here**" in text
    assert str(artifacts.arena_bytes) in text


@pytest.mark.parametrize(("case", "warned"), [("per channel", True), ("one scale", False)])
def test_readme_warns_of_old_ports(tmp_path, case, warned):
    write(tmp_path / "net", case)
    assert ("older ports refuse it or give wrong results" in (tmp_path / "net" / "README.md").read_text()) == warned


def test_names_are_made_c_identifiers(tmp_path):
    result = write(tmp_path / "x", name="key-word 2")
    assert result.name == "key_word_2"
    assert "KEY_WORD_2_OK" in (tmp_path / "x" / "key_word_2_tflm.h").read_text()


def test_a_folder_is_written_twice_but_not_over_others(tmp_path):
    write(tmp_path / "net")
    write(tmp_path / "net", samples=2)
    with pytest.raises(OutputFolderError, match="other files"):
        write(tmp_path / "net", name="second")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="Cannot write"):
        write(tmp_path / "file")


def test_samples_are_needed(tmp_path):
    with pytest.raises(DataError, match="at least one"):
        write(tmp_path / "net", samples=0)
