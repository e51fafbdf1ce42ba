import json
import math
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import rct_tflite
from rct_tflite.cli.compare import load_function
from rct_tflite.cli.main import cli
from rct_tflite.errors import DataError, RecipeError
from rct_tflite.training.comparison import compare, score_of
from rct_tflite.training.comparison_report import draw, summaries, table
from rct_tflite.training.contenders import Samples, Schedule, method_of
from tests.training.conftest import small_model

import keras  # isort: skip

SHORT = Schedule(epochs=2, batch_size=16, learning_rate=0.05, interval=3)
METHODS = ("float32", "qat", "rct-stochastic", "rct-truncate", "fixed-5")


def halves(samples):
    x, y = samples
    return Samples(x[:64], y[:64], x[64:], y[64:])


@pytest.fixture(scope="module")
def rows(samples):
    told = []
    rows = compare(
        small_model, halves(samples), methods=METHODS, schedule=SHORT, seeds=1, progress=lambda *done: told.append(done)
    )
    assert told == [(method, epoch) for method in METHODS for epoch in (1, 2)]
    return rows


def test_every_method_gives_a_row(rows):
    assert [(row.method, row.seed) for row in rows] == [(method, 0) for method in METHODS]
    assert all(0.0 <= row.score <= 100.0 and row.step_ms > 0.0 for row in rows)


def test_bits_bytes_and_energies_are_those_of_the_method(rows):
    float32, qat, stochastic, truncate, fixed = rows
    assert (float32.measured.average_bits, qat.measured.average_bits, fixed.measured.average_bits) == (32, 40, 5.0)
    assert (float32.parameter_bytes, qat.parameter_bytes) == (qat.float32_bytes, float32.qat_bytes)
    assert set(fixed.measured.final_bits.values()) == {5}
    assert fixed.parameter_bytes < stochastic.parameter_bytes <= truncate.parameter_bytes < float32.parameter_bytes
    assert (float32.measured.moving, qat.measured.moving) == (128 / 88, 1.0)
    assert fixed.measured.moving == pytest.approx(4 * 5 / 88)
    assert set(float32.measured.gemm.values()) == {1.0}
    assert 0.0 < fixed.measured.gemm["bits-product"] < 0.1


def test_the_same_seed_gives_the_same_score(rows, samples):
    again = compare(small_model, halves(samples), methods=("rct-stochastic",), schedule=SHORT, seeds=1)[0]
    assert (again.score, again.measured) == (rows[2].score, rows[2].measured)


def test_the_table_holds_every_method_and_the_picture_is_drawn(rows, tmp_path):
    lines = table(rows).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(METHODS)
    assert lines[0].startswith("method")
    assert {len(line) for line in lines} == {len(lines[0])}
    for name in ("a.png", "b.png"):
        draw(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_seeds_become_mean_and_spread(rows):
    from dataclasses import replace

    scores = [90.0, 92.0, None]
    (summary,) = summaries([replace(rows[0], seed=seed, score=score) for seed, score in enumerate(scores)])
    assert (summary.mean, summary.diverged) == (91.0, 1)
    assert summary.spread == pytest.approx(math.sqrt(2.0))


def regression():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def test_floats_are_predicted_and_scored_by_r2():
    x = np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)
    y = (x @ np.float32([1.0, -2.0, 0.5])).astype(np.float32)
    data = Samples(x[:96], y[:96], x[96:], y[96:])
    rows = compare(regression, data, methods=("float32", "qat", "fixed-8"), schedule=Schedule(20, 16, 0.1, 3), seeds=1)
    assert all(row.score > 90.0 for row in rows)
    assert score_of(data.y_test.reshape(-1, 1), data) == 100.0


def test_training_that_diverges_is_a_row_without_score():
    x = 1e18 * np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    y = 1e12 * x[:, 0]
    data = Samples(x, y, x, y)
    rows = compare(regression, data, methods=("float32", "fixed-8"), schedule=Schedule(3, 16, 1.0), seeds=1)
    assert [row.score for row in rows] == [None, None]
    assert "diverged" in table(rows)


def classes(*shape, labels=3):
    return np.zeros(shape, np.float32), np.arange(shape[0]) % labels


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        (*classes(32, 6, 5, 2), r"Expected shape \(6, 6, 2\)"),
        (*classes(8, 6, 6, 2), "one batch of 16"),
        (*classes(32, 6, 6, 2, labels=4), "0 to 2"),
        (classes(32, 6, 6, 2)[0], np.arange(64.0).reshape(32, 2), "3 values"),
        (classes(32, 6, 6, 2)[0], np.zeros(31, int), "same length"),
        (classes(32, 6, 6, 2)[0], np.ones((32, 3), np.float32), "all alike"),
        (np.full((32, 6, 6, 2), np.nan), np.zeros(32, int), "x_train"),
        (np.full((32, 6, 6, 2), "a"), np.zeros(32, int), "x_train"),
    ],
)
def test_samples_that_do_not_fit_are_refused(x, y, named):
    with pytest.raises(DataError, match=named):
        compare(small_model, Samples(x, y, x, y), schedule=SHORT)


def test_a_classifier_must_end_in_logits():
    x, y = classes(32, 4)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax", name="last")])
    with pytest.raises(DataError, match="softmax or sigmoid in output 'last'"):
        compare(lambda: model, Samples(x, y, x, y), schedule=SHORT)


@pytest.mark.parametrize("name", ["float16", "fixed-1", "fixed-17", "fixed-", ""])
def test_an_unknown_method_is_refused(name):
    with pytest.raises(RecipeError, match="rct-stochastic"):
        method_of(name)


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"interval": 0}])
def test_a_schedule_out_of_range_is_refused(settings):
    with pytest.raises(RecipeError, match="Received"):
        Schedule(**settings)


MODEL = """
import keras
ANSWER = 42
def build():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
def nothing():
    return None
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("import does_not_exist")
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    np.savez(tmp_path / "other.npz", images=x)
    return tmp_path


def run(folder, *arguments, model="model.py:build", data="data.npz"):
    fixed = ("compare", "--model", f"{folder}/{model}", "--data", f"{folder}/{data}")
    return CliRunner().invoke(cli, [*fixed, *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_rows_and_picture(folder):
    short = ("--epochs", 1, "--batch-size", 16, "--methods", "float32,fixed-6")
    result = run(folder, *short, "--json", folder / "rows.json", "--picture", folder / "rows.svg")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["float32", "fixed-6"]
    rows = json.loads((folder / "rows.json").read_text())["rows"]
    assert rows[1]["measured"]["final_bits"] == {"dense": 6}
    assert (folder / "rows.svg").read_text().startswith("<?xml")
    assert json.loads(run(folder, *short, "--json", "-").stdout)["rows"][0]["method"] == "float32"


def test_settings_of_tensorflow_come_before_the_users_file(folder, monkeypatch):
    (folder / "late.py").write_text("import sys\nassert 'rct_tflite.training' in sys.modules\nbuild = print")
    monkeypatch.setattr(rct_tflite, "training", rct_tflite.training)
    monkeypatch.delitem(sys.modules, "rct_tflite.training")
    assert load_function(f"{folder}/late.py:build") is print


@pytest.mark.parametrize(
    ("arguments", "files", "named"),
    [
        ((), {"model": "missing.py:build"}, "not there"),
        ((), {"model": "model.py"}, "FILE.py:FUNCTION"),
        ((), {"model": "broken.py:build"}, "does_not_exist"),
        ((), {"model": "model.py:biuld"}, "build"),
        ((), {"model": "model.py:ANSWER"}, "a int"),
        (("--methods", "float32"), {"model": "model.py:nothing"}, "NoneType"),
        ((), {"data": "other.npz"}, "x_train"),
        ((), {"data": "model.py"}, "Cannot read"),
        (("--methods", "fixed-99"), {}, "fixed-99"),
        (("--seeds", 0), {}, "seeds=0"),
        (("--picture", "a.gif"), {}, "a.gif"),
    ],
)
def test_mistakes_are_one_line(folder, arguments, files, named):
    result = run(folder, *arguments, **files)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert named in result.stderr
    assert "Received" in result.stderr
