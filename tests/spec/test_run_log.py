"""The log of a training, both of its forms."""

import math

import pytest

from rct_tflite.errors import DataError, RecipeError
from rct_tflite.spec.run_log import RunLog, RunWriter, find_run_log, read_run_log


def row(epoch, **cells):
    return {"epoch": epoch, "loss": 1.0 / epoch, "bits/lstm/kernel": 6, **cells}


@pytest.fixture(params=[".jsonl", ".csv"])
def path(request, tmp_path):
    return tmp_path / f"run{request.param}"


def write(path, rows, start=1):
    writer = RunWriter(path)
    last = writer.start(start)
    for cells in rows:
        writer.append(cells)
    return last


def test_what_is_written_is_read(path):
    rows = [row(1, lr=0.1), row(2, lr=1e-30), row(3, lr=123456789.0)]
    assert write(path, rows) is None
    assert read_run_log(path).rows == tuple(rows)


def test_it_is_whole_after_every_epoch(path):
    writer = RunWriter(path)
    writer.start(1)
    for epoch in (1, 2, 3):
        writer.append(row(epoch))
        assert len(read_run_log(path).rows) == epoch


def test_what_is_not_finite_or_missing_is_nothing(path):
    write(path, [row(1, val_loss=math.nan), row(2, val_loss=math.inf), row(3)])
    run = read_run_log(path)
    assert run.rows[0]["val_loss"] is run.rows[1]["val_loss"] is None
    assert all(math.isnan(value) for value in run.values("val_loss"))


def test_a_column_may_come_later(path):
    write(path, [row(1), row(2, val_loss=0.5), row(3)])
    run = read_run_log(path)
    assert run.columns == ("epoch", "loss", "bits/lstm/kernel", "val_loss")
    assert run.values("val_loss") == pytest.approx([math.nan, 0.5, math.nan], nan_ok=True)


def test_a_training_that_goes_on_replaces_later_epochs(path):
    write(path, [row(epoch, run=1) for epoch in (1, 2, 3)])
    assert write(path, [row(3, run=2), row(4, run=2)], start=3) == row(2, run=1)
    assert read_run_log(path).values("run") == [1, 1, 2, 2]


def test_a_new_training_begins_anew(path):
    write(path, [row(1), row(2)])
    assert write(path, [row(1)]) is None
    assert len(read_run_log(path).rows) == 1


def test_going_on_needs_a_log_or_nothing(path):
    assert write(path, [row(5)], start=5) is None
    path.write_text("{\n")
    with pytest.raises(DataError):
        RunWriter(path).start(2)


def test_names_of_columns():
    cells = {"epoch": 1, "steps": 5, "bits": 6, "accuracy": 0.5, "loss": 1, "val_accuracy": 0.4, "head_loss": 2}
    run = RunLog(({**cells, "bits/conv": 6, "bits/lstm/kernel": 6, "gavg/conv": 1, "gemm_energy/horowitz": 0.1},))
    assert (run.weights, run.gemm_models, run.metrics) == (("conv", "lstm/kernel"), ("horowitz",), ("accuracy",))


@pytest.mark.parametrize(
    ("name", "content", "received"),
    [
        ("a.jsonl", "", "no row"),
        ("a.csv", "", "no row"),
        ("a.csv", "epoch,loss\n", "no row"),
        ("a.jsonl", '{"loss": 1}\n', "row 1 without an epoch"),
        ("a.csv", "step,loss\n1,2\n", "row 1 without an epoch"),
        ("a.jsonl", '{"epoch": 1}\n[1]\n', "row 2 is no object"),
        ("a.jsonl", '{"epoch": 1, "loss": "low"}\n', "no number at 'loss'"),
        ("a.csv", "epoch,loss\n1,low\n", "could not convert"),
        ("a.csv", "epoch,loss\n1\n", "different lengths"),
        ("a.csv", "epoch,loss\n1,2,3\n", "different lengths"),
        ("a.jsonl", '{"epoch": 1', "delimiter"),
        ("a.jsonl", b"\xff\xfe\x00", "codec"),
        ("a.txt", '{"epoch"', "delimiter"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, received):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=received):
        read_run_log(path)


def test_the_log_of_a_folder(tmp_path):
    with pytest.raises(DataError, match="Received: none"):
        find_run_log(tmp_path)
    write(tmp_path / "run.jsonl", [row(1)])
    (tmp_path / "run.png").touch()
    assert find_run_log(tmp_path) == find_run_log(tmp_path / "run.jsonl") == tmp_path / "run.jsonl"
    write(tmp_path / "other.csv", [row(1)])
    with pytest.raises(DataError, match=r"other\.csv, run\.jsonl"):
        find_run_log(tmp_path)


@pytest.mark.parametrize("name", ["run", "run.txt", "run.json"])
def test_other_names_are_refused(name):
    with pytest.raises(RecipeError, match=r"\.jsonl or \.csv"):
        RunWriter(name)
