"""What learns, as `rct-tflite export` takes it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.firmware.manifest import read_project
from rct_tflite.tflite.reader import read_graph
from tests.tflite.networks import Stack


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small `.tflite` of ours: input 6x6x2, 3 classes."""
    from rct_tflite.export.tflite_export import export_tflite
    from rct_tflite.spec.graph import TrainingMetadata

    path = tmp_path_factory.mktemp("model") / "net.tflite"
    network = Stack(0, (6, 6, 2)).conv(4, 3).flatten().dense(3).network()
    path.write_bytes(export_tflite(network, TrainingMetadata()))
    return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "mine.npz"
    random = np.random.default_rng(0)
    np.savez(path, x=random.random((9, 6, 6, 2), np.float32), y=np.arange(9) % 3)
    return path


def export(model, out, *options):
    arguments = ["export", model, "--target", "cortex-m7", "--out", out, *options]
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_search_is_printed_and_kept(model, samples, tmp_path):
    done = export(model, tmp_path / "out", "--train", "auto", "--ram", "4K", "--samples", samples)
    assert done.exit_code == 0, done.output
    assert "smallest loss after fine-tuning" in done.output
    assert "last:1" in done.output
    search = json.loads((tmp_path / "out" / "manifest.json").read_text())["search"]
    best = next(row for row in search["candidates"] if row["name"] == search["best"])
    plan = read_project(tmp_path / "out").plan
    assert best["ram"] <= search["limits"]["ram"] == 4096
    assert plan.trained == tuple(best["trained"])
    assert {part.op: list(part.channels) for part in plan.partial} == best["partial"]


def test_parts_of_layers_come_back_from_the_folder(model, samples, tmp_path):
    names = [op.name for op in read_graph(model).ops if op.has_weights]
    done = export(model, tmp_path / "out", "--train", f"{names[0]}:2,{names[1]}:bias", "--samples", samples, "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    plan = read_project(tmp_path / "out").plan
    assert {part.op: list(part.channels) for part in plan.partial} == printed["partial"]
    assert [len(channels) for channels in printed["partial"].values()] == [2, 0]
    assert printed["ram_bytes"]["inference_alone"] < printed["ram_bytes"]["total"]


def test_weights_get_more_bits(model, tmp_path):
    """Of the layers that learn; what inference reads stays at 8."""
    names = [op.name for op in read_graph(model).ops if op.has_weights]
    done = export(model, tmp_path / "out", "--train", "last:1", "--weight-bits", "12", "--json")
    assert done.exit_code == 0, done.output
    printed, project = json.loads(done.output), read_project(tmp_path / "out")
    assert printed["bits"] == dict(zip(names, (8, 12), strict=True))
    assert project.graph.wide.keys() == {names[1]}
    assert printed["ram_bytes"]["parameters"] == 3 * 144 * 12 // 8 + 3 * 4
    firmware = tmp_path / "out" / "firmware"
    assert "RCT_WIDE_WEIGHTS 1" in (firmware / "runtime" / "kernels" / "wide.h").read_text()
    assert "12 bits" in (firmware / "model" / "model.c").read_text()
    inference = read_graph(tmp_path / "out" / "tflite-micro" / "net.tflite")
    assert [inference.bits_of(op) for op in inference.ops if op.has_weights] == [8, 8]


def test_nothing_learns(model, tmp_path):
    done = export(model, tmp_path / "out", "--train", "none")
    assert done.exit_code == 0, done.output
    assert "learns    nothing" in done.output
    assert read_project(tmp_path / "out").plan.trained == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--train", "auto"), "Expected --samples"),
        (("--flash", "64K"), "Limits but that of RAM are for a search"),
        (("--weight-bits", "17"), "Expected a number of 2 to 16 bits"),
        (("--weight-bits", "nothing:12"), "Cannot widen weights"),
        (("--weight-bits", "fully_connected_2:6"), "no fewer bits than the layer has"),
        (("--weight-bits", "conv_2d_0:12", "--train", "last:1"), "only where weights learn"),
        (("--train", "auto", "--ram", "1K", "--samples", "SAMPLES"), "--ram 1024, where"),
        (("--train", "dens"), "Cannot choose what learns"),
    ],
)
def test_what_cannot_be(model, samples, tmp_path, options, expected):
    done = export(model, tmp_path / "out", *(samples if option == "SAMPLES" else option for option in options))
    assert done.exit_code == 1
    assert expected in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["0", "-4", "4.5K", "lots", "K"])
def test_sizes_that_are_none(model, tmp_path, size):
    done = export(model, tmp_path / "out", "--train", "auto", "--ram", size)
    assert done.exit_code == 2
    assert "expected a number of bytes such as 65536 or 64K" in done.output


@pytest.mark.parametrize("value", ["nan", "inf", "0"])
@pytest.mark.parametrize("option", ["--time-per-step", "--energy-per-step"])
def test_limits_that_are_none(model, samples, tmp_path, option, value):
    done = export(model, tmp_path / "out", "--train", "auto", "--samples", samples, option, value)
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output
    assert not (tmp_path / "out").exists()


def test_a_search_counts_what_options_hold(model, samples, tmp_path):
    """Sums, momentum and a copy of the best weights depend on what learns; widths get their room afterwards."""
    options = ("--momentum", "0.9", "--accumulate", "3", "--keep-best", "--train", "auto", "--samples", samples)
    done = export(model, tmp_path / "all", *options, "--ram", "64K", "--json")
    assert done.exit_code == 0, done.output
    whole = json.loads(done.output)["ram_bytes"]["total"]
    done = export(model, tmp_path / "some", *options, "--ram", whole - 300, "--json")
    assert done.exit_code == 0, done.output
    some = json.loads(done.output)
    assert some["ram_bytes"]["total"] <= whole - 300
    best = next(row for row in some["search"]["candidates"] if row["name"] == some["search"]["best"])
    assert best["ram"] == some["ram_bytes"]["total"]
    done = export(model, tmp_path / "widths", *options, "--ram", whole, "--adapt-bits", "8:16")
    assert done.exit_code == 1
    assert "Lower --budget" in " ".join(done.output.split())
