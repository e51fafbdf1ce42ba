"""`--recompute`: what is computed again is printed, kept in the folder, and found when the target is too small."""

import json

import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.errors import ModelFileError
from rct_tflite.firmware.manifest import read_project
from rct_tflite.spec.target_file import find_target, target_path
from tests.tflite.networks import Stack


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Five images of 1,152 bytes behind each other."""
    from rct_tflite.export.tflite_export import export_tflite
    from rct_tflite.spec.graph import TrainingMetadata

    path = tmp_path_factory.mktemp("model") / "net.tflite"
    stack = Stack(0, (12, 12, 2))
    for _ in range(5):
        stack = stack.conv(8, 3)
    path.write_bytes(export_tflite(stack.flatten().dense(3).network(), TrainingMetadata()))
    return path


def export(model, out, *options):
    arguments = ["export", model, "--out", out, *options]
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_target_that_is_too_small(model, tmp_path):
    kept = json.loads(export(model, tmp_path / "kept", "--target", "cortex-m7", "--json").output)
    assert kept["recomputation"] is None
    target, room = tmp_path / "small.toml", kept["ram_bytes"]["total"] - 100
    head, sizes = target_path("cortex-m7").read_text().split("[ram.size]")
    target.write_text(f"{head}[ram.size]" + sizes.replace(str(find_target("cortex-m7").ram.size), str(room)))
    done = export(model, tmp_path / "fits", "--target", target)
    assert done.exit_code == 0, done.output
    project = read_project(tmp_path / "fits")
    assert "  again     saves" in done.output
    assert f" % of a training step: {', '.join(project.plan.recomputed)}\n" in done.output
    assert project.target.ram.size == room
    assert project.memory.ram_bytes <= room - kept["ram_bytes"]["stack"] - kept["ram_bytes"]["application"]
    refused = export(model, tmp_path / "no", "--target", "cortex-m7", "--ram", room, "--recompute", "none")
    assert refused.exit_code == 1
    assert f"--ram allows {room} B (100 B too little)" in refused.output
    manifest = tmp_path / "fits" / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "recomputed": [*values["recomputed"], "no such layer"]}))
    with pytest.raises(ModelFileError, match="does not fit the model"):
        read_project(tmp_path / "fits")


def test_a_request_that_cannot_be_read(model, tmp_path):
    refused = export(model, tmp_path / "out", "--target", "cortex-m7", "--recompute", "10")
    assert refused.exit_code == 1
    assert "Expected --recompute auto, none, or N%" in refused.output
    assert not (tmp_path / "out").exists()
