"""The whole path on real words: Keras, `.tflite`, TFLite-Micro, the emulated core that learns a new text, and back."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import rct_tflite as rct
from models.text.model import build_conv
from rct_tflite.cli.main import cli
from rct_tflite.firmware.manifest import read_project
from rct_tflite.firmware.parameters import tuned_model
from rct_tflite.firmware.samples import read_samples
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.tflite.oracle import layer_outputs, run_micro
from tools.reproduction.data import described_data_sets

import keras  # isort: skip

NEW_TEXT, LEARNT = 3, 240


def command(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network that has read three of four texts, exported, and runs of words from all four."""
    folder = tmp_path_factory.mktemp("words")
    arrays = described_data_sets()
    x, y = arrays["x_train"], arrays["y_train"]
    model = rct.quantize(build_conv(0, 1 + int(max(x.max(), arrays["x_test"].max())), 8, 4), rct.Recipe(bits=8))
    model.compile(rct.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[y != NEW_TEXT], y[y != NEW_TEXT], 16, 12, verbose=0)
    model.save(folder / "words.keras")
    np.savez(folder / "learn.npz", x=x[:LEARNT], y=y[:LEARNT])
    np.savez(folder / "test.npz", x=arrays["x_test"], y=arrays["y_test"])
    model, out = folder / "words.keras", folder / "export"
    command("export", model, "--target", "cortex-m7", "--out", out, "--learning-rate", "0.03")
    return folder


def test_every_layer_equals_tflite_micro(folder):
    project = read_project(folder / "export")
    inputs = read_samples(folder / "test.npz", project.graph).inputs
    assert project.graph.ops[0].kind.name == "GATHER"
    ours = ReferenceNetwork(project.graph).layer_outputs(inputs)
    for layer, values in zip(layer_outputs(project.model, inputs), ours, strict=True):
        np.testing.assert_array_equal(layer.values.reshape(values.shape), values)


def test_the_device_learns_a_text_and_its_words_come_back(folder):
    tuned = folder / "tuned.tflite"
    options = ["--learn", folder / "learn.npz", "--test", folder / "test.npz", "--save", tuned, "--json"]
    report = json.loads(command("run", folder / "export", *options))
    assert report["accuracy_after"] > report["accuracy_before"] + 0.15

    project = read_project(folder / "export")
    learn, test = (read_samples(folder / f"{name}.npz", project.graph) for name in ("learn", "test"))
    logits = run_micro(tuned.read_bytes(), test.inputs).reshape(len(test.inputs), -1)
    assert float(np.mean(logits.argmax(axis=1) == test.labels)) == report["accuracy_after"]
    trainer = ReferenceTrainer(project.graph, project.plan)
    for sample, label in zip(learn.inputs, learn.labelled(), strict=True):
        trainer.step(sample, int(label))
    block = trainer.parameter_block()
    assert tuned.read_bytes() == tuned_model(project.model, project.graph, project.memory, block)


def test_ids_that_are_no_words_are_refused_before_anything_is_written(folder, tmp_path):
    project, bad = read_project(folder / "export"), tmp_path / "bad.npz"
    np.savez(bad, x=np.full((2, 8), project.graph.id_limit), y=[0, 1])
    out = tmp_path / "out"
    for arguments in (
        ["export", folder / "words.keras", "--target", "cortex-m7", "--out", out, "--data", bad],
        ["run", folder / "export", "--learn", bad],
    ):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == 1
        assert "An id is out of range" in result.output
        assert isinstance(result.exception, SystemExit)
    assert not out.exists()
