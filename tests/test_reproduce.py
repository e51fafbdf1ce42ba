import json
from pathlib import Path

import pytest

from rct_tflite.training.comparison import built, check_fit
from tools.reproduction import data
from tools.reproduction.experiments import EXPERIMENTS
from tools.reproduction.run import main


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_quick_experiment_fits_its_network(name):
    experiment = EXPERIMENTS[name](True)
    assert experiment.data.startswith("scikit-learn")
    check_fit(built(experiment.build, 0), experiment.samples, experiment.schedule)


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
