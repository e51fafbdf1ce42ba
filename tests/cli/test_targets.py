"""`rct-tflite targets`."""

import json

import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.spec.target_file import TARGETS_FOLDER, list_targets, read_target_file


def run(*arguments):
    return CliRunner().invoke(cli, ("targets", *arguments))


def test_the_table_has_a_row_for_each_target():
    rows = run().stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows[: len(list_targets())]] == list(list_targets())


@pytest.mark.parametrize("name", list_targets())
def test_explanation_gives_every_number_and_its_source(name):
    said = " ".join(run(name).stdout.split())
    for key, quantity in read_target_file(TARGETS_FOLDER / f"{name}.toml").quantities:
        assert f"{key} = " in said
        assert " ".join(quantity.source.split()) in said
        assert quantity.low == quantity.high or f"between {quantity.low:g} and {quantity.high:g}" in said


@pytest.mark.parametrize("arguments", [(), ("cortex-m7",)])
def test_json_is_one_object(arguments):
    result = json.loads(run(*arguments, "--json").stdout)
    targets = result["targets"] if not arguments else [result]
    assert {target["name"] for target in targets} == set(arguments or list_targets())
    core = next(target for target in targets if target["name"] == "cortex-m7")
    assert core["quantities"]["ram.size"]["value"] == 512 * 1024


def test_own_target_by_path(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text((TARGETS_FOLDER / "cortex-m7.toml").read_text().replace('name = "cortex-m7"', 'name = "mine"'))
    assert run(str(own)).stdout.startswith("mine: ")


def test_unknown_target():
    result = run("stm32h74")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Did you mean 'stm32h743'?" in result.stderr
