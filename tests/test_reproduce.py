import json
from pathlib import Path

import numpy as np
import pytest

from rct_tflite.training.comparison import built, check_fit
from rct_tflite.training.comparison_report import table
from rct_tflite.training.contenders import DEFAULT_METHODS
from tools.reproduction import data
from tools.reproduction import run as reproduction
from tools.reproduction.experiments import EXPERIMENTS
from tools.reproduction.run import main, row_of


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_quick_experiment_fits_its_network(name):
    experiment = EXPERIMENTS[name](True)
    assert experiment.data.startswith("scikit-learn")
    check_fit(built(experiment.build, 0), experiment.samples, experiment.schedule)


def chance(experiment):
    """Percent that are reached without looking at the samples."""
    samples = experiment.samples
    return 100.0 * np.bincount(samples.y_test).max() / len(samples.y_test) if samples.is_classification else 0.0


DIFFERENT = [name for name in EXPERIMENTS if name not in ("agnews-conv", "sst2-conv")]
"""The quick form of the other two is that of trec6-conv."""


def test_the_quick_form_trains_everything_above_chance_and_is_not_repeated(tmp_path, capsys, monkeypatch):
    arguments = [part for name in DIFFERENT for part in ("--only", name)]
    arguments += ["--quick", "--seeds", "1", "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "rows.json").read_text())
    scores = {(row["experiment"], row["method"]): row["score"] for row in results["rows"]}
    assert list(scores) == [(name, method) for name in DIFFERENT for method in DEFAULT_METHODS]
    low = {key: score for key, score in scores.items() if not score > 5.0 + chance(EXPERIMENTS[key[0]](True))}
    assert low == {}
    tables = (tmp_path / "rows.txt").read_text()
    monkeypatch.setattr(reproduction, "train", None)
    assert main(arguments) == 0
    assert json.loads((tmp_path / "rows.json").read_text()) == results
    assert (tmp_path / "rows.txt").read_text() == tables
    assert capsys.readouterr().out.count("ms/step\n") == len(scores) + 2 * len(DIFFERENT)


def run(file, *arguments):
    return main(["--quick", "--only", "diabetes", "--epochs", "1", "--json", str(file), *arguments])


def test_rows_are_appended_and_finished_ones_are_kept(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert run(file, "--methods", "float32", "fixed-8") == 0
    first = json.loads(file.read_text())
    assert [row["method"] for row in first["rows"]] == ["float32", "fixed-8"]
    assert run(file, "--methods", "float32", "fixed-8", "fixed-4", "--seeds", "1") == 0
    second = json.loads(file.read_text())
    assert second["rows"][:2] == first["rows"]
    assert second["command"].startswith("tools/reproduce --quick")
    assert "fixed-4" in file.with_suffix(".txt").read_text()
    printed = capsys.readouterr().out
    assert printed.count("ms/step\n") == 3 + 2  # a line for each row that was run, and the heads of two tables
    assert printed.count("diabetes on scikit-learn diabetes") == 2


def test_a_mistake_is_one_line(tmp_path, capsys):
    assert run(tmp_path / "rows.json", "--methods", "float64") == 1
    assert capsys.readouterr().err.startswith("Error: Unknown method.")


def test_without_the_shared_folder_the_download_is_said_and_its_failure_explained(monkeypatch, capsys):
    def fail(name):
        raise OSError(f"no network for {name}")

    monkeypatch.setattr(data, "SHARED", Path("nowhere"))
    monkeypatch.setattr(data, "_download", fail)
    with pytest.raises(data.DataError, match=r"no network for cifar10.*--quick"):
        data.arrays_of("cifar10_jpegq75", "cifar10")
    assert "keras.datasets.cifar10" in capsys.readouterr().err


MEASURED = sorted(Path(data.__file__).parents[2].glob("models/*/*.txt"))


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_tables_in_models_tell_the_rows_beside_them(path):
    results = json.loads(path.with_suffix(".json").read_text())
    assert results["command"].startswith("tools/reproduce ")
    for name in {row["experiment"] for row in results["rows"]}:
        rows = [row_of(row) for row in results["rows"] if row["experiment"] == name]
        methods = [method for method in DEFAULT_METHODS if method in {row.method for row in rows}]
        assert table(sorted(rows, key=lambda row: methods.index(row.method))) in path.read_text()


def test_there_are_measured_results():
    assert {path.parent.name for path in MEASURED} >= {"cifar10_resnet", "diabetes", "fashion_mnist", "text"}
