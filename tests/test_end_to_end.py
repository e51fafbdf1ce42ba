"""The whole path on real digits: Keras, `.tflite`, TFLite-Micro, C, the emulated core, and back."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import rct_tflite as rct
from models.digits import model as digits
from models.digits.drift import rotate
from rct_tflite.cli.main import cli
from rct_tflite.firmware.build import build_project
from rct_tflite.firmware.manifest import Project, read_project
from rct_tflite.firmware.parameters import tuned_model
from rct_tflite.firmware.samples import Samples, read_samples
from rct_tflite.firmware.session import host_runner, layer_trace
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.tflite.oracle import layer_outputs, run_micro

SAMPLES = 300


@dataclass
class Exported:
    """A trained model and its artifact folder."""

    keras: Path
    folder: Path
    learn: Path
    test: Path

    @property
    def project(self) -> Project:
        return read_project(self.folder)


def command(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    root = tmp_path_factory.mktemp("digits")
    paths = Exported(root / "digits.keras", root / "export", root / "learn.npz", root / "test.npz")
    digits.train(epochs=4, callback=rct.RCTCallback()).save(paths.keras)
    data = digits.load()
    drifted = rotate(data.test.images, 30.0)
    np.savez(paths.learn, x=drifted[:200], y=data.test.labels[:200])
    np.savez(paths.test, x=drifted[200:], y=data.test.labels[200:])
    names = ",".join(f"digit {n}" for n in range(10))
    command(
        "export", paths.keras, "--target", "cortex-m7", "--out", paths.folder, "--data", paths.test, "--labels", names
    )
    return paths


@pytest.fixture(scope="module")
def images(exported) -> Samples:
    path = exported.folder.parent / "clean.npz"
    data = digits.load()
    np.savez(path, x=data.train.images[:SAMPLES], y=data.train.labels[:SAMPLES])
    return read_samples(path, exported.project.graph)


def test_every_layer_equals_tflite_micro(exported, images):
    project = exported.project
    oracle = layer_outputs(project.model, images.inputs)
    reference = ReferenceNetwork(project.graph).layer_outputs(images.inputs)
    assert [layer.op.name for layer in oracle] == [op.name for op in project.graph.ops]
    for layer, ours in zip(oracle, reference, strict=True):
        np.testing.assert_array_equal(layer.values.reshape(ours.shape), ours)
    build = build_project(exported.folder, "host", defines=("RCT_TRACE",), sanitize=True)
    trace = layer_trace(host_runner(build.image), images.inputs)
    flat = [layer.values.reshape(SAMPLES, -1) for layer in oracle]
    np.testing.assert_array_equal(trace, np.concatenate(flat, axis=1))


def test_export_knows_the_digits(exported, images):
    project = exported.project
    logits = run_micro(project.model, images.inputs).reshape(SAMPLES, -1)
    assert np.mean(logits.argmax(axis=1) == images.labels) > 0.9
    assert project.graph.training.labels[3] == "digit 3"


def test_the_device_learns_and_its_weights_come_back(exported, tmp_path):
    tuned = tmp_path / "tuned.tflite"
    arguments = ["--learn", exported.learn, "--test", exported.test, "--save", tuned, "--json"]
    report = json.loads(command("run", exported.folder, *arguments))
    assert report["accuracy_before"] < 0.75
    assert report["accuracy_after"] > report["accuracy_before"] + 0.15

    project = exported.project
    learn, test = read_samples(exported.learn, project.graph), read_samples(exported.test, project.graph)
    logits = run_micro(tuned.read_bytes(), test.inputs).reshape(len(test.inputs), -1)
    assert float(np.mean(logits.argmax(axis=1) == test.labels)) == report["accuracy_after"]
    trainer = ReferenceTrainer(project.graph, project.plan)
    for sample, label in zip(learn.inputs, learn.labelled(), strict=True):
        trainer.step(sample, int(label))
    expected = tuned_model(project.model, project.graph, project.memory, trainer.parameter_block())
    assert tuned.read_bytes() == expected


def test_inspect_and_build_tell_of_the_export(exported):
    shown = json.loads(command("inspect", exported.folder, "--json"))
    assert [op["name"] for op in shown["ops"] if "bits" in op] == ["conv1", "conv2", "dense"]
    assert "conv2" in command("inspect", exported.folder / "model.tflite")
    built = json.loads(command("build", exported.folder, "--json"))
    assert Path(built["image"]).is_file()
    assert 0 < built["sizes"]["flash_bytes"] < 40_000


def test_a_tflite_enters_by_the_same_door(exported, tmp_path):
    out = tmp_path / "again"
    model = exported.folder / "model.tflite"
    result = json.loads(command("export", model, "--target", "cortex-m7", "--out", out, "--train", "last:1", "--json"))
    assert result["trained"] == ["dense"]
    assert (out / "model.tflite").read_bytes() == model.read_bytes()
    assert result["ram_bytes"]["parameters"] < exported.project.memory.parameter_bytes
