"""`rct-tflite estimate` on an exported network, and what it says when something does not fit."""

import json

import pytest
from click.testing import CliRunner

from rct_tflite.cli.main import cli
from rct_tflite.errors import ToolchainError
from rct_tflite.export.energy_picture import energy_curve
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.memory_map import Piece, map_memory
from rct_tflite.planning.selection import select
from rct_tflite.spec.run_log import RunLog
from rct_tflite.spec.target_file import find_target, target_path
from tests.cli.test_report import rows
from tests.cli.test_report import write as write_log
from tests.graphs import conv_digits
from tests.tflite.networks import exported

DAY = ("--per-day", "8640", "--sleep-uw", "100")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("estimate")
    (root / "net.tflite").write_bytes(exported())
    arguments = ("export", str(root / "net.tflite"), "--target", "stm32h743", "--out", str(root / "out"))
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return root / "out"


def run(folder, *arguments):
    return CliRunner().invoke(cli, ("estimate", str(folder), *map(str, arguments)))


def as_json(folder, *arguments):
    return json.loads(run(folder, *arguments, "--json").stdout)


@pytest.fixture(scope="module")
def plain(folder):
    return as_json(folder)


def test_phases_add_up_to_the_counted_instructions(plain):
    forward, backward = (sum(phase["instructions"].values()) for phase in plain["phases"])
    assert forward == plain["instructions_per_inference"]
    assert forward + backward == plain["instructions_per_training_step"]
    assert plain["phases"][1]["instructions"]["update"] > 0
    assert "update" not in plain["phases"][0]["instructions"]
    for cost in (plain["inference"], plain["training_step"]):
        assert all(
            cost[key]["low"] < cost[key]["value"] < cost[key]["high"] for key in ("cycles", "time_s", "energy_j")
        )
    assert plain["memory"]["fits"]
    assert (plain["fine_tuning"], plain["day"], plain["battery_days"]) == (None, None, None)


def test_without_a_compiler_instructions_are_estimated_and_told_to_be(folder, plain, monkeypatch):
    def missing(*arguments):
        raise ToolchainError("No C compiler was found.")

    monkeypatch.setattr("rct_tflite.firmware.instructions.find_toolchain", missing)
    estimated = as_json(folder)
    told = estimated["instructions"]
    assert (estimated["emulator"], told["guessed"]) == (None, [])
    assert told["source"].startswith("not counted: there is no compiler for cortex-m7; estimated from")
    for name, counted in (
        ("inference", "instructions_per_inference"),
        ("training_step", "instructions_per_training_step"),
    ):
        assert told[name]["low"] < plain[counted] < told[name]["high"]
        assert told[name]["high"] < 2 * plain[counted]
        assert estimated[name]["energy_j"]["high"] > plain[name]["energy_j"]["high"] * 0.9
    said = run(folder).stdout
    assert "not counted" in said
    assert "instructions (" in said  # with an interval
    refused = run(folder, "--toolchain", "gcc")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "No C compiler" in refused.stderr


def test_clock_and_supply_move_what_they_should(folder, plain):
    slow = as_json(folder, "--clock", "240")
    assert slow["inference"]["time_s"]["value"] == pytest.approx(2 * plain["inference"]["time_s"]["value"])
    assert slow["inference"]["energy_j"]["value"] == pytest.approx(plain["inference"]["energy_j"]["value"])
    low = as_json(folder, "--voltage", "1.65")
    assert low["inference"]["energy_j"]["value"] == pytest.approx(plain["inference"]["energy_j"]["value"] / 2)


def test_jobs_days_and_batteries(folder, plain):
    result = as_json(folder, "--samples", "10", "--epochs", "3", "--checkpoints", "2", *DAY, "--battery", "230")
    step = plain["training_step"]["energy_j"]["value"]
    assert result["fine_tuning"]["energy_j"]["value"] > 30 * step
    assert result["day"]["energy_j"]["value"] > 86400 * 100e-6 * 0.9
    life = result["battery_days"]
    assert life["low"] < life["value"] < life["high"]


def test_the_sleep_of_the_part_alone_is_a_default(folder, tmp_path):
    own = tmp_path / "own.toml"
    sleep = '[sleep_uw]\nvalue = 50\nlow = 40\nhigh = 100\nconfidence = "derived"\nsource = "made up"\n\n'
    text = target_path("stm32h743").read_text(encoding="utf-8")
    own.write_text(text.replace("[[region]]", sleep + "[[region]]", 1), encoding="utf-8")
    result = run(folder, "--target", own, "--per-day", "1", "--json")
    assert result.exit_code == 0, result.stderr
    day = json.loads(result.stdout)["day"]
    assert day["sleep_j"] == pytest.approx({"value": 4.32, "low": 3.456, "high": 8.64}, rel=0.01)
    assert day["sleep_of_part_alone"]


def test_the_table_tells_everything(folder):
    said = run(folder, "--samples", "5", "--duty", "0.1", "--sleep-uw", "100", "--battery", "230").stdout
    for word in (
        "inference",
        "training step",
        "fine-tuning",
        "mean power",
        "battery",
        "RAM",
        "flash",
        "free",
        "unused",
    ):
        assert word in said


def test_the_page_holds_its_pictures(folder, tmp_path):
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        assert run(folder, "--html", str(page)).exit_code == 0
    text = pages[0].read_text()
    assert text.count("<svg") == 2
    assert "inference" in text
    assert "src=" not in text
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_the_page_draws_a_training(folder, tmp_path):
    log = write_log(tmp_path / "run.jsonl", rows())
    assert run(folder, "--counts", "model", "--html", tmp_path / "page.html", "--run", log).exit_code == 0
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg") == 3
    assert "average bits" in text
    write_log(tmp_path / "bare.jsonl", [{"epoch": 1, "loss": 0.5}])
    bare = run(folder, "--counts", "model", "--html", tmp_path / "no.html", "--run", tmp_path / "bare.jsonl")
    assert (bare.exit_code, (tmp_path / "no.html").exists()) == (1, False)
    assert "tells no energy" in bare.stderr


def test_a_curve_knows_that_each_step_is_worth_the_same_in_float32():
    curve = energy_curve(RunLog(tuple(rows())))
    assert curve.energy == pytest.approx((0.0625 / 3, 0.0625 * 2 / 3, 0.0625))
    assert (curve.metric, curve.epochs) == ("val_accuracy", (1, 2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--run", __file__), "--run alone"),
        (("--per-day", "3"), "--sleep-uw"),
        (("--battery", "3"), "Expected --per-day or --duty"),
        ((*DAY, "--duty", "0.5"), "Received: both"),
        ((*DAY, "--tunings-per-day", "1"), "Expected --samples"),
        (("--clock", "500"), "at most 480 MHz"),
        (("--target", "nrf52840"), "core cortex-m7"),
        (("--html", "no/such/folder/page.html"), "Cannot write the page"),
    ],
)
def test_mistakes_are_explained(folder, arguments, message):
    result = run(folder, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


@pytest.mark.parametrize("missing", [1, 10**6])
def test_what_does_not_fit_tells_what_to_cut(missing):
    graph, target = conv_digits(), find_target("stm32h743")
    plan = select(graph, "all")
    size = target.ram.size + missing - plan_memory(graph, plan).ram_bytes
    ram = (Piece("network", plan_memory(graph, plan).ram_bytes), Piece("other", size))
    found = map_memory(target, (Piece("code", target.flash.size + missing),), ram, graph, plan)
    assert not found.fits
    assert (found.ram.free, found.flash.free) == (-missing, -missing)
    train, buffer, weights = found.cuts
    assert ("(enough)" in train) == (missing == 1)
    assert "largest of the arena" in buffer
    assert "instead of 8 bits" in weights
    assert {region.name for region in found.unused} >= {"ITCM", "DTCM"}


def test_what_fits_needs_no_cut():
    graph, target = conv_digits(), find_target("stm32f746")
    found = map_memory(target, (), (Piece("network", 100),), graph, select(graph, "all"))
    assert found.fits
    assert found.cuts == ()
    assert found.ram.regions == ("DTCM", "SRAM")
