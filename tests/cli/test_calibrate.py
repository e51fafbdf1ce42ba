"""`rct-tflite calibrate`: from a project to a target file."""

import json

import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.energy.calibration.schedule import read_schedule
from rct_tflite.spec.target_file import read_target
from tests.energy.calibration import synthetic
from tests.energy.calibration.synthetic import Board


def run(*arguments):
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "project"
    result = run("firmware", "--target", "cortex-m7", "--out", folder, "--seconds", "0.4", "--sleep", "0.05")
    assert result.exit_code == 0, result.output
    assert "conv_3x3" in result.stdout
    assert "fill in" in result.stdout
    assert "port.h" in result.stdout
    return folder


@pytest.fixture
def recording(bench, tmp_path, monkeypatch):
    """A trace of the generated firmware on a board that is made up."""
    schedule = read_schedule(bench / "schedule.json")
    monkeypatch.setattr(synthetic, "CLOCK_MHZ", schedule.clock_mhz)
    trace, _ = synthetic.record(schedule, Board(active_mw=150.0, sleep_mw=30.0))
    path = tmp_path / "ppk.csv"
    synthetic.write_ppk2_csv(path, trace)
    return path


def test_from_firmware_to_target(bench, recording, tmp_path):
    out, plot = tmp_path / "my-board.toml", tmp_path / "fit.svg"
    options = ("--target", "cortex-m7", "--firmware", bench, "--voltage", synthetic.VOLTAGE, "--out", out)
    result = run("fit", *options, "--trace", recording, "--plot", plot)
    assert result.exit_code == 0, result.output
    for part in ("cpi.mac", "leave one out", "conv_1x1", "power between phases"):
        assert part in result.stdout
    target = read_target(out)
    cpi = dict(target.op_cpi)
    assert cpi["mac"].value == pytest.approx(synthetic.CPI["mac"], rel=0.02)
    assert cpi["update"].value == pytest.approx(synthetic.CPI["update"], rel=0.02)
    shares = [synthetic.POWER_SHARE[name] for name in ("move", "mac", "elementwise", "update")]
    mean = 150.0 * sum(shares) / len(shares)
    assert target.active_mw_per_mhz.value * target.clock_mhz.value == pytest.approx(mean, rel=0.01)
    first = plot.read_bytes()
    report = run("fit", *options, "--trace", recording, "--plot", plot, "--json")
    values = json.loads(report.stdout)
    assert values["time_error"]["fit"]["worst"] < 0.01
    assert values["time_error"]["left_out"]["worst"] < 0.02
    assert values["coefficients"]["cpi.mac"]["fitted"]
    assert plot.read_bytes() == first


def test_a_table(tmp_path):
    table, out = tmp_path / "table.csv", tmp_path / "mine.toml"
    table.write_text("workload,latency_ms,energy_uj,instructions\nkws,100,18000,20000000\nic,300,54100,61000000\n")
    result = run("fit", "--target", "cortex-m7", "--table", table, "--clock", "216", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["coefficients"]["cycles_per_instruction"]["value"] == pytest.approx(1.07, rel=0.02)
    assert values["sleep_mw"] is None
    assert read_target(out).active_mw_per_mhz.value == pytest.approx(0.834, rel=0.01)
    results = tmp_path / "kws" / "results.txt"
    results.parent.mkdir()
    results.write_text("Energy/Inf.  :  1000.0 uJ/inf.\nPower : 150000 uW\n")
    result = run("fit", "--target", "cortex-m7", "--table", results, "--out", out)
    assert "stays at its default" in result.stdout
    assert "instructions not known" in result.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "either --trace or --table"),
        (("--trace", "t.csv", "--table", "t.csv"), 2, "either --trace or --table"),
        (("--trace", "t.csv"), 1, "--voltage"),
        (("--trace", "t.csv", "--voltage", "3"), 2, "needs --firmware"),
        (("--trace", "t.csv", "--column", "x"), 2, "NAME=UNIT"),
        (("--trace", "t.csv", "--voltage", "3", "--firmware", "."), 1, "no schedule"),
        (("--table", "t.jls"), 1, "Export > CSV"),
    ],
)
def test_wrong_use_is_explained(options, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("Timestamp(ms),Current(uA)\n0,1\n1,1\n")
    (tmp_path / "t.jls").write_text("")
    result = run("fit", "--target", "cortex-m7", "--out", "mine.toml", *options)
    assert result.exit_code == status
    assert message in result.stderr
    assert not (tmp_path / "mine.toml").exists()


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run("firmware", "--target", "cortex-m7", "--out", tmp_path)
    assert result.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
