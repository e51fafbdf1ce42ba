"""`rct-tflite report`, on logs of known numbers."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.errors import OutputFolderError
from rct_tflite.export.run_picture import draw_run
from rct_tflite.spec.run_log import RunLog, RunWriter, read_run_log


def rows(weights=("conv", "dense"), epochs=3):
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "steps": 40 * epoch, "learning_rate": 0.1, "accuracy": 1 - 0.4 / epoch}
        row |= {"loss": 1.0 / epoch, "val_accuracy": 1 - 0.5 / epoch, "val_loss": 1.5 / epoch, "bits": 6.5}
        row |= {"parameter_bytes": 1250, "parameter_bytes/float32": 5000, "parameter_bytes/qat": 6250}
        row |= {"parameter_bytes/optimizer": 0, "gemm_energy/bits-product": 0.0625, "gemm_energy/horowitz": 0.05}
        row |= {"moved_bits/3": 0.25, "moved_bits/4": 0.375}
        for index, name in enumerate(weights):
            row |= {f"bits/{name}": 5 + epoch + index, f"gavg/{name}": 2.0 + index, f"underflow/{name}": 0.75}
            row |= {f"saturated/{name}": 0.01 * index, f"t_min/{name}": 1.0, f"t_max/{name}": 4.0}
        yield row


def write(path, rows):
    writer = RunWriter(path)
    writer.start(1)
    for row in rows:
        writer.append(row)
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") if path.suffix == ".png" else "<svg" in path.read_text()


@pytest.mark.parametrize(("missing", "status"), [(("keras", "tensorflow", "sklearn"), 0), (("matplotlib",), 1)])
def test_it_needs_matplotlib_and_no_tensorflow(tmp_path, missing, status):
    path = write(tmp_path / "run.jsonl", rows())
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing})); "
        f"from rct_tflite.cli.main import cli; cli(['report', {str(path)!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    assert ('pip install "rct-tflite[report]"' in result.stderr) == bool(status)


@pytest.mark.parametrize("name", ["run.jsonl", "run.csv"])
def test_the_table(tmp_path, name):
    path = write(tmp_path / name, rows())
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    said = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert said == [
        f"{path}: 3 epochs, 120 training steps",
        "result accuracy 0.8667, loss 0.3333, val_accuracy 0.8333, val_loss 0.5000",
        "weight bits Gavg its band underflow saturated",
        "conv 6 -> 8 2 1 to 4 75.0% 0.0%",
        "dense 7 -> 9 3 1 to 4 75.0% 1.0%",
        "bits 6.50 on average",
        "parameters 1,250 B: 25.0% of float32, 20.0% of QAT (8 + 32 bits)",
        "the paper's models of the whole training (no energy of a microcontroller):",
        "GEMM energy, bits-product 6.2% of float32",
        "GEMM energy, horowitz 5.0% of float32",
        "moved bits, 3 accesses 25.0% of QAT",
        "moved bits, 4 accesses 37.5% of QAT",
        f"picture {tmp_path / 'run.png'}",
    ]
    assert is_picture(tmp_path / "run.png")


def test_json_is_one_object(tmp_path):
    path = write(tmp_path / "run.jsonl", rows())
    result = json.loads(run(path, "--out", tmp_path / "a.svg", "--json").stdout)
    assert result["picture"] == str(tmp_path / "a.svg")
    assert (result["epochs"], result["logs"]["val_accuracy"]) == (3, pytest.approx(5 / 6))
    assert [(weight["name"], weight["bits"]) for weight in result["weights"]] == [("conv", 8), ("dense", 9)]
    assert result["gemm_energy"] == {"bits-product": 0.0625, "horowitz": 0.05}


def test_the_picture_shows_every_quantity(tmp_path):
    path = write(tmp_path / "run.csv", rows())
    run(path, "--out", tmp_path / "run.svg")
    drawn = (tmp_path / "run.svg").read_text()
    for text in ("Loss", "Accuracy", "Bits per weight", "Gavg, and the band where bits stay", "dense", "validation",
                 "Updates smaller than one step", "Weights at the end of their range", "Parameters, kB",
                 "The paper's energy models, so far", "GEMM, horowitz, of float32",
                 "Accuracy for its energy, by epoch", "average bits"):  # fmt: skip
        assert f"<!-- {text} -->" in drawn


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_log_gives_the_same_bytes(tmp_path, suffix):
    pictures = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for picture in pictures:
        draw_run(RunLog(tuple(rows())), picture)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert not re.search(rb"20\d\d-\d\d|dc:date", pictures[0].read_bytes())


@pytest.mark.parametrize(
    "log",
    [
        [{"epoch": 1, "loss": -0.5}],  # no layer, no metric, no logarithm
        [{"epoch": 1, "bits/dense": 6}, {"epoch": 2, "bits/dense": 7, "loss": None}],
        list(rows([f"layer{index}" for index in range(12)], epochs=1)),  # more layers than hues
        [{**row, "gavg/conv": 0.0} for row in rows()],
        [{"epoch": 1}],
    ],
)
def test_a_log_that_lacks_something(tmp_path, log):
    path = write(tmp_path / "run.jsonl", [{k: float("nan") if v is None else v for k, v in row.items()} for row in log])
    result = run(path)
    assert result.exit_code == 0, result.output
    assert is_picture(path.with_suffix(".png"))
    json.loads(run(path, "--json").stdout)
    assert read_run_log(path).rows[-1]["epoch"] == len(log)


@pytest.mark.parametrize(
    ("content", "said"), [("", "Received: no row"), ("{}", "row 1 without an epoch"), ("loss", "Cannot read")]
)
def test_another_file_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "run.jsonl").write_text(content)
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_pictures_are_refused(tmp_path):
    with pytest.raises(OutputFolderError, match=r"\.png or \.svg.*a\.gif"):
        draw_run(RunLog(tuple(rows())), tmp_path / "a.gif")
    with pytest.raises(OutputFolderError, match="Cannot write"):
        draw_run(RunLog(tuple(rows())), tmp_path / "missing" / "a.png")
