"""The wheel holds all that the package needs, and runs far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rct_tflite.spec.target_file import list_targets
from rct_tflite.spec.templates import templates_folder

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {"__pycache__", "build"}
REPORT = """
import rct_tflite.cli.main
from rct_tflite.spec.templates import templates_folder
print(rct_tflite.__file__)
print(templates_folder())
"""


def relative_files(folder):
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if IGNORED.isdisjoint(path.parts)}


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("rct_tflite-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the installed package, and a function that runs Python on it from elsewhere."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def python(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
        ).stdout

    return folder, python


def test_wheel_holds_the_package_and_the_templates(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {f"rct_tflite/{name}" for name in relative_files(ROOT / "rct_tflite")}
    templates = {f"rct_tflite/firmware_templates/{name}" for name in relative_files(ROOT / "firmware_templates")}
    assert held == package | templates
    assert {f"rct_tflite/targets/{name}.toml" for name in list_targets()} <= held


def test_installed_command_runs(installed):
    folder, python = installed
    table = python(str(folder / "bin" / "rct-tflite"), "targets")
    assert all(name in table for name in list_targets())


def test_installed_package_finds_its_templates(installed):
    folder, python = installed
    package, templates = map(Path, python("-c", REPORT).splitlines())
    assert package == folder / "rct_tflite" / "__init__.py"
    assert templates == folder / "rct_tflite" / "firmware_templates"
    assert relative_files(templates) == relative_files(ROOT / "firmware_templates")


def test_checkout_finds_its_templates():
    assert templates_folder() == ROOT / "firmware_templates"
