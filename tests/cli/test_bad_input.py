"""Every mistake of a user: the message, exit status 1, nothing half written."""

import dataclasses

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import rct_tflite as rct
from rct_tflite.cli.main import cli
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
        ({"x": np.full((2, 6, 6, 2), "a")}, "not numbers"),
        ({"z": np.zeros(3)}, "no array 'x'"),
        ({"x": np.zeros((2, 6, 6, 2)), "y": np.array([0, 3])}, "Expected 0 to 2. Received: 0 to 3"),
        ({"x": np.zeros((2, 6, 6, 2)), "y": np.array([0.5, 1.0])}, "labels do not match the samples"),
    ],
)
def test_wrong_samples(model, out, tmp_path, arrays, expected):
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    assert expected in export(model, out, "--data", path)


def test_samples_that_are_no_samples(model, out, tmp_path):
    path = tmp_path / "samples.npz"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    assert "Cannot read the samples" in export(model, out, "--data", path)


def test_output_folder_with_other_content(model, out):
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert "--force" in export(model, out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_output_folder_that_is_a_file(model, out):
    out.write_text("a file")
    assert "exists already" in export(model, out, "--force")
    assert out.read_text() == "a file"


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


@pytest.mark.parametrize("verb", ["build", "run"])
def test_folder_that_is_no_export(tmp_path, verb):
    assert "no folder of 'rct-tflite export'" in refused(verb, tmp_path)


def test_no_compiler_and_no_emulator(model, out, monkeypatch):
    assert CliRunner().invoke(cli, ["export", str(model), "--target", "cortex-m7", "--out", str(out)]).exit_code == 0
    from rct_tflite.emulator import finder
    from rct_tflite.firmware import run, toolchain

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
