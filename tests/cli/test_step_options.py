"""Options of the training step and aids of learning, from `export` to `run`."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.firmware.manifest import read_project
from rct_tflite.spec.aid_options import AidOptions
from rct_tflite.spec.graph import OpKind
from rct_tflite.spec.step_options import RatePoint, StepOptions
from tests.tflite.one_op import Quantised, one_op

OPTIONS = ("--class-weights", "1,2,0.5", "--rate-schedule", "40=0.5", "--clip-norm", "0.8", "--accumulate", "2")
AIDS = ("--momentum", "0.5", "--keep-best", "--replay", "6")
WIDTHS = ("--error-bits", "16", "--adapt-bits", "4:10", "--interval", "9")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dense layer of 6 inputs and 3 classes, and samples that show their class."""
    random, folder = np.random.default_rng(2), tmp_path_factory.mktemp("cli")
    weights = Quantised.constant(random.integers(-20, 21, (3, 6), np.int8), 0.02)
    inputs = [Quantised((1, 6), 0.05), weights, Quantised.constant(np.zeros(3, np.int32), 0.001)]
    (folder / "net.tflite").write_bytes(one_op(OpKind.FULLY_CONNECTED, inputs, Quantised((1, 3), 0.1)))
    labels = random.integers(0, 3, 30)
    samples = random.normal(0, 0.7, (30, 6)) + 2.0 * (labels[:, None] == np.arange(6) % 3)
    np.savez(folder / "samples.npz", x=samples.astype(np.float32), y=labels)
    return folder


def export(place, out, *options):
    arguments = ("export", place / "net.tflite", "--target", "cortex-m4", "--out", place / out, *options)
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_an_export_with_everything_learns_and_tells(place):
    result = export(place, "all", *OPTIONS, *AIDS, *WIDTHS, "--json")
    assert result.exit_code == 0, result.output
    ram = json.loads(result.stdout)["ram_bytes"]
    parts = ram.keys() - {"total", "available", "inference_alone"}
    assert sum(ram[name] for name in parts) == ram["total"]
    assert (ram["learning rate"], ram["momentum"], ram["best weights"]) == (12, 36, ram["parameters"])
    assert ram["widths"] == 16 + 4 + 8
    plan = read_project(place / "all").plan
    assert plan.options == StepOptions((256, 512, 128), (RatePoint(40, 32768),), 0.8, 2, 128)
    assert plan.aids == AidOptions(True, True, 6)
    samples = str(place / "samples.npz")
    arguments = ["--learn", samples, "--test", samples, "--epochs", "9", "--replay", "1", "--patience", "1", "--json"]
    result = CliRunner().invoke(cli, ["run", str(place / "all"), *arguments])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    aids, learnt = told["aids"], 30 - told["aids"]["held_samples"]
    assert told["training_steps"] == learnt * len(aids["held_scores"])
    assert aids["held_scores"][aids["best_evaluation"]] == max(aids["held_scores"])
    assert sorted(aids["replay_labels"]) == [0, 0, 1, 1, 2, 2]
    assert told["accuracy_after"] > told["accuracy_before"]
    assert told["ram_bytes"]["replay buffer"] == ram["replay buffer"]


def test_a_plain_export_has_no_file_of_an_option(place):
    assert export(place, "plain").exit_code == 0
    names = {path.name for path in (place / "plain" / "firmware").rglob("*") if path.is_file()}
    assert "update.c" in names
    assert (
        not {
            "rct_rates.h",
            "rct_held.h",
            "rct_aids.h",
            "scale_error.c",
            "held_update.c",
            "replay.c",
            "rct_adapt.h",
            "adapt.c",
        }
        & names
    )
    assert "RCT_HAS_AIDS 0" in (place / "plain" / "firmware" / "runtime" / "rct_options.h").read_text()
    result = CliRunner().invoke(cli, ["run", str(place / "plain"), "--replay", "1"])
    assert "Export the model again with --replay SLOTS" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--class-weights", "1,2"), "Expected 3 numbers of 1/256 to 256"),
        (("--rate-schedule", "half:3"), "Cannot read the schedule"),
        (("--rate-schedule", "0=60000", "--learning-rate", "900"), "times the learning rate of 900"),
        (("--learning-rate", "1e-9"), "an update that integers cannot hold"),
        (("--clip-norm", "0"), "Cannot clip to this norm"),
        (("--accumulate", "0"), "Expected 1 to 65535"),
        (("--momentum", "1"), "The momentum is out of range"),
        (("--replay", "0"), "Cannot hold samples to replay"),
        (("--replay", "9", "--loss", "huber"), "and a loss of classes"),
        (("--replay", "60000"), "replay buffer 480028 B"),
    ],
)
def test_what_cannot_be_is_refused(place, options, expected):
    result = export(place, "refused", *options)
    assert result.exit_code == 1
    assert expected in " ".join(result.output.split())
    assert not (place / "refused").exists()
