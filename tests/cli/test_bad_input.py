"""Every mistake of a user: the message, exit status 1, nothing half written."""

import dataclasses
import io
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import rct_tflite as rct
from rct_tflite.cli.main import cli
from rct_tflite.firmware import run
from rct_tflite.spec.templates import PACKAGE_FOLDER
from tests.tflite.networks import Stack


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small `.tflite` of ours: input 6x6x2, 3 classes."""
    from rct_tflite.export.tflite_export import export_tflite
    from rct_tflite.spec.graph import TrainingMetadata

    network = Stack(0, (6, 6, 2)).conv(4, 3).flatten().dense(3).network()
    path = tmp_path_factory.mktemp("model") / "net.tflite"
    path.write_bytes(export_tflite(network, TrainingMetadata()))
    return path


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.keras"
    quantised = rct.quantize(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="out")]))
    quantised.compile(optimizer=rct.optimizers.SGD(0.1), loss="mse")
    quantised.fit(np.ones((8, 4), np.float32), np.ones((8, 3), np.float32), verbose=0)
    quantised.save(path)
    return path


def refused(*arguments) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return " ".join(result.output.split())


def export(model, out, *extra, target="cortex-m7") -> str:
    message = refused("export", model, "--target", target, "--out", out, *extra)
    assert sorted(path.name for path in out.parent.iterdir()) == ([out.name] if out.exists() else [])
    return message


@pytest.fixture
def out(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "out"


def test_unknown_target(model, out):
    message = export(model, out, target="cortex-m8")
    assert "cortex-m7" in message
    assert "cortex-m8" in message


@pytest.mark.parametrize("suffix", [".tflite", ".keras"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_model(model, keras_model, out, tmp_path, suffix, share):
    whole = (model if suffix == ".tflite" else keras_model).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: int(share * len(whole))])
    assert f"cut{suffix}" in export(cut, out) or suffix == ".tflite"


def test_model_that_was_never_quantised(out, tmp_path):
    path = tmp_path / "plain.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(path)
    assert "rct.quantize" in export(path, out)


def test_model_of_another_kind(out, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"")
    assert "Expected a .keras or a .tflite file" in export(path, out)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": np.zeros((3, 6, 6, 1))}, r"Expected (n, 6, 6, 2) with n of at least 1. Received: (3, 6, 6, 1)"),
        ({"x": np.zeros((0, 6, 6, 2))}, r"Received: (0, 6, 6, 2)"),
        ({"x": np.full((2, 6, 6, 2), np.nan)}, "hold 144 values that are not finite"),
        ({"x": np.full((2, 6, 6, 2), "a")}, "not real numbers"),
        ({"x": np.full((2, 6, 6, 2), 1j)}, "not real numbers"),
        ({"z": np.zeros(3)}, "no array 'x'"),
        ({"x": np.zeros((2, 6, 6, 2)), "y": np.array([0, 3])}, "Expected 0 to 2. Received: 0 to 3. Number the classes"),
        ({"x": np.zeros((2, 6, 6, 2)), "y": np.array([0.5, 1.0])}, "labels do not match the samples"),
        ({"x": np.zeros((2, 6, 6, 2)), "y": np.eye(3)[:2]}, "y.argmax(axis=1)"),
        ({"x": np.zeros((1, 6, 6, 2)), "y": np.full(1, 2**64 - 1, np.uint64)}, "Received: 18446744073709551615"),
    ],
)
def test_wrong_samples(model, out, tmp_path, arrays, expected):
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    assert expected in export(model, out, "--data", path)


def npy(header: bytes) -> bytes:
    """A .npy file of a header alone."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def npz(**members: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return archive.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 and then nothing",
        npy(b"{'descr': '<f8',"),
        npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 6, 6, 2)}"),
        npz(x=b"no array"),
        npz(x=bytes(100)).replace(b"\x5d\x00\x00", b"\xff\xff\xff"),
    ],
)
def test_samples_that_are_no_samples(model, out, tmp_path, content):
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    assert "sampl" in export(model, out, "--data", path)


@pytest.mark.parametrize(
    ("member", "expected"), [({"x": np.ones((2, 6, 6, 2)), "names": np.array(["a", None])}, 0), ({"names": []}, 1)]
)
def test_only_x_and_y_are_read(model, out, tmp_path, member, expected):
    np.savez(tmp_path / "samples.npz", **member)
    arguments = ["export", model, "--target", "cortex-m7", "--out", out, "--data", tmp_path / "samples.npz"]
    assert CliRunner().invoke(cli, [str(argument) for argument in arguments]).exit_code == expected


@pytest.mark.parametrize("extra", [(), ("--force",)])
def test_output_folder_with_other_content(model, out, extra):
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert "--force replaces earlier exports only" in export(model, out, *extra)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_output_folder_that_is_a_file(model, out):
    out.write_text("a file")
    assert "exists already" in export(model, out, "--force")
    assert out.read_text() == "a file"


@pytest.mark.parametrize("name", [".", "..", "a" * 300, "net.tflite/out"])
def test_output_folder_that_cannot_be(model, tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "net.tflite").write_bytes(model.read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    assert "output folder" in refused("export", "net.tflite", "--target", "cortex-m7", "--out", name, "--force")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["net.tflite"]


@pytest.mark.parametrize("labels", ["a,b", "a,,b"])
def test_labels_that_do_not_fit(keras_model, out, labels):
    assert "Expected 3 names" in export(keras_model, out, "--labels", labels)


@pytest.mark.parametrize(("region", "flag"), [("ram", "--train last:1"), ("flash", "fewer bits")])
def test_model_that_does_not_fit(model, out, tmp_path, region, flag):
    text = (PACKAGE_FOLDER / "targets" / "cortex-m7.toml").read_text()
    size = "524288" if region == "ram" else "2097152"
    target = tmp_path / "tiny.toml"
    target.write_text(text.replace('name = "cortex-m7"', 'name = "tiny"').replace(size, "2560"))
    message = export(model, out, target=target)
    assert flag in message
    assert "too little" in message
    assert "largest" in message


@pytest.mark.parametrize(("train", "rate"), [("last:9", 0.01), ("all", -1.0), ("all", 1e-45)])
def test_training_that_cannot_be(model, out, train, rate):
    assert "Received" in export(model, out, "--train", train, "--learning-rate", rate)


@pytest.mark.parametrize("core", ["cortex-m99", "host", "my.toml"])
def test_core_that_is_unknown(model, out, tmp_path, core):
    target = tmp_path / "mine.toml"
    text = (PACKAGE_FOLDER / "targets" / "cortex-m7.toml").read_text()
    target.write_text(text.replace('core = "cortex-m7"', f'core = "{core}"'))
    message = export(model, out, target=target)
    assert f"Received: core='{core}'" in message
    assert "'cortex-m4'" in message


@pytest.mark.parametrize("arguments", [("build",), ("build", "--host"), ("run",)])
def test_folder_that_is_no_export(tmp_path, arguments):
    assert "no folder of 'rct-tflite export'" in refused(*arguments, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def project(model, tmp_path_factory):
    """An exported folder."""
    folder = tmp_path_factory.mktemp("project") / "net"
    arguments = ["export", str(model), "--target", "cortex-m7", "--out", str(folder)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return folder


@pytest.fixture
def damaged(project, tmp_path):
    """A copy of the exported folder, to damage."""
    return shutil.copytree(project, tmp_path / "net")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("trained", "dense"),
        ("trained", [["dense"]]),
        ("trained", ["unknown"]),
        ("partial", [{"op": "unknown", "channels": [0]}]),
        ("partial", [{"op": "conv"}]),
        ("partial", "conv:2"),
        ("learning_rate", -1),
        ("learning_rate", None),
        ("rounding", "up"),
        ("network", 5),
        ("model_sha256", "0"),
        ("unknown", 1),
    ],
)
def test_manifest_that_was_edited(damaged, key, value):
    manifest = json.loads((damaged / "manifest.json").read_text())
    (damaged / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    assert "Received" in refused("build", damaged)


@pytest.mark.parametrize("order", [slice(None, None, -1), [0, 0, 1]])
def test_trained_layers_stand_in_order_and_once(damaged, order):
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["trained"] = np.array(manifest["trained"])[order].tolist()
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    assert "does not fit the model beside it" in refused("build", damaged)


def test_model_that_was_replaced(damaged):
    content = bytearray((damaged / "model.tflite").read_bytes())
    content[-1] ^= 1
    (damaged / "model.tflite").write_bytes(content)
    assert "has changed since the export" in refused("run", damaged)


def test_build_folder_that_cannot_be_made(damaged):
    (damaged / "build").write_text("")
    assert "Cannot write" in refused("build", damaged)


@pytest.mark.parametrize("option", ["--test", "--learn"])
def test_run_needs_labels(project, tmp_path, monkeypatch, option):
    monkeypatch.setattr(run, "build_project", None)  # refused before
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 6, 6, 2)))
    assert "have no labels" in refused("run", project, option, tmp_path / "x.npz")


def test_run_cannot_save_into_a_missing_folder(project, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_project", None)
    assert "Expected a folder that exists" in refused("run", project, "--save", tmp_path / "none" / "tuned.tflite")


def test_stack_that_is_too_small(model, tmp_path):
    text = (PACKAGE_FOLDER / "targets" / "cortex-m7.toml").read_text()
    target = tmp_path / "tiny.toml"
    target.write_text(text.replace("2048\n", "64\n"))
    arguments = ["export", model, "--target", target, "--out", tmp_path / "net"]
    assert CliRunner().invoke(cli, [str(argument) for argument in arguments]).exit_code == 0
    for command in ("build", "run"):
        assert "Expected at most 64 B" in refused(command, tmp_path / "net")


def test_no_compiler_and_no_emulator(model, out, monkeypatch):
    assert CliRunner().invoke(cli, ["export", str(model), "--target", "cortex-m7", "--out", str(out)]).exit_code == 0
    from rct_tflite.emulator import finder
    from rct_tflite.firmware import toolchain

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda _name: None)
    for extra in ((), ("--toolchain", "gcc"), ("--toolchain", "zig")):
        message = refused("build", out, *extra)
        assert "pip install" in message
        assert "gcc-arm-none-eabi" in message
    monkeypatch.setattr(run, "build_project", lambda *_: dataclasses.make_dataclass("Build", ["image"])(None))
    monkeypatch.setattr(finder, "available_emulators", lambda _core: ())
    message = refused("run", out)
    assert "pip install" in message
    assert "qemu-system-arm" in message
