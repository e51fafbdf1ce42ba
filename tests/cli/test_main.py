"""The frame of the command line: help, errors, exit status."""

import importlib.util
import re
import sys
import tomllib
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import COMMANDS, EXTRA_OF, cli
from rct_tflite.errors import FitError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command_that(monkeypatch):
    """Puts a command that calls a function in the place of `run`."""

    def install(action):
        module = types.ModuleType("rct_tflite.cli.run")
        module.command = click.Command("run", callback=action)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def run(*arguments):
    return CliRunner().invoke(cli, arguments)


def test_help_lists_every_command_and_the_whole_path():
    result = run("--help")
    assert result.exit_code == 0
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{' '.join(text.split()[:3])}", result.stdout, re.MULTILINE)
    named = re.findall(r"rct-tflite (\w+)", result.stdout)
    assert named == ["targets", "export", "build", "run"]


PRESENT = [name for name in COMMANDS if importlib.util.find_spec(f"rct_tflite.cli.{name}")]


@pytest.mark.parametrize("name", PRESENT)
def test_every_command_explains_itself_and_offers_json(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_our_errors_are_one_line_without_traceback(command_that):
    def fail():
        raise FitError("The model needs 70 KiB of RAM. Received: 64 KiB.")

    command_that(fail)
    result = run("run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The model needs 70 KiB of RAM. Received: 64 KiB.\n"


def test_a_missing_package_names_the_extra(command_that):
    def fail():
        raise ModuleNotFoundError("No module named 'unicorn.arm_const'", name="unicorn.arm_const")

    command_that(fail)
    result = run("run")
    assert result.exit_code == 1
    assert 'pip install "rct-tflite[emulate]"' in result.stderr


def test_every_extra_that_is_named_brings_its_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = {"sklearn": "scikit-learn"}
    for package, extra in EXTRA_OF.items():
        name = distributions.get(package, package.replace("_", "-"))
        assert any(re.match(rf"{name}\b", requirement) for requirement in extras[extra]), (package, extra)


def test_our_own_mistakes_are_not_hidden(command_that):
    def fail():
        raise ModuleNotFoundError("No module named 'typo'", name="typo")

    command_that(fail)
    assert isinstance(run("run").exception, ModuleNotFoundError)


@pytest.mark.parametrize(("wrong", "near"), [("exprt", "export"), ("target", "targets")])
def test_an_unknown_command_suggests_the_nearest(wrong, near):
    result = run(wrong)
    assert result.exit_code == 2
    assert f"Did you mean {near!r}?" in result.stderr


def test_an_unknown_option_is_a_usage_error():
    result = run("--verbos")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
