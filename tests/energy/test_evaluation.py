"""tools/evaluate_energy: on tables of known coefficients, and on the published ones where they lie."""

import csv
import json

import pytest

from tests.energy.published import STACKS, write_published, write_table
from tools.energy_evaluation.carrying import model_on_part
from tools.energy_evaluation.counted import Counted, read_counts
from tools.energy_evaluation.defaults import default_mw_per_mhz
from tools.energy_evaluation.protocols import Evaluation
from tools.energy_evaluation.run import DATA, main, measure
from tools.energy_evaluation.sessions import macs_run, unusual_stalls
from tools.energy_evaluation.table import (
    BENCHMARKS,
    LAYER_ENERGY,
    LAYERS,
    NEEDED,
    RESULTS,
    Row,
    read_layers,
    read_results,
)

STACK = STACKS[0][0]
REACHED = {
    "power known": (3, 7, 12, 90),
    "calibrated": (5, 12, 20, 90),
    "  stack known": (5, 12, 20, 90),
    "uncalibrated": (35, 50, 75, 90),
    "layers": (10, 25, 28, 90),
}
"""Limits in percent that the estimate keeps: median, p90, worst, covered. Those of the published data, rounded up;
the synthetic tables have fewer boards, and keep them too."""
COUNTED = {"  code counted": (10, 40, 49, 90), "layers counted": (10, 25, 36, 90)}
"""Likewise, of the published data alone: nothing synthetic was counted."""


def read(folder, counted=None):
    return Evaluation(
        tuple(read_results(folder / RESULTS)),
        tuple(read_layers(folder / LAYERS)),
        tuple(read_layers(folder / LAYER_ENERGY)),
        read_counts() if counted is None else Counted(counted),
    )


def results_of(folder):
    with (folder / RESULTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder


@pytest.fixture(scope="module")
def synthetic_figures(synthetic):
    return figures(synthetic)


@pytest.fixture(scope="module")
def published_figures(request):
    """Of the real tables where they are; else of tables with known coefficients, so that the check always runs."""
    return figures(DATA) if (DATA / RESULTS).is_file() else request.getfixturevalue("synthetic_figures")


def figures(folder):
    return {result.bar.name: result.figures for result in measure(read(folder)) if result.points}


def test_the_estimate_keeps_its_limits(published_figures):
    found = published_figures
    assert set(REACHED) <= set(found)
    assert found["uncalibrated"]["factor"] <= 2
    counted = COUNTED if (DATA / RESULTS).is_file() else {}
    for name, (median, p90, worst, covered) in (REACHED | counted).items():
        got = found[name]
        assert got["median"] <= median, name
        assert got["p90"] <= p90, name
        assert got["worst"] <= worst, name
        assert got["covered"] >= covered, name


def test_known_coefficients_are_found(synthetic_figures):
    """One power a board, and cycles that are a part's times a stack's times a model's: all that the method assumes."""
    found = synthetic_figures
    assert found["power known"]["worst"] < 4
    assert found["calibrated"]["median"] < 3
    assert found["calibrated"]["worst"] < found["MACs alone"]["worst"] / 3
    assert found["layers"]["median"] < 10


def test_what_is_asked_is_not_among_what_is_fitted(synthetic, tmp_path):
    """A wrong value of the point itself moves no estimate of it."""
    for name in (LAYERS, LAYER_ENERGY):
        (tmp_path / name).write_bytes((synthetic / name).read_bytes())
    rows = results_of(synthetic)
    asked = next(row for row in rows if row["mcu"] == "STM32U575" and row["benchmark"] == "kws")
    for key in ("latency_ms", "energy_run_latency_ms", "energy_uj"):
        asked[key] = str(1000 * float(asked[key]))
    write_table(tmp_path / RESULTS, rows)

    def estimate_of(folder):
        name = f"v1|test|B|{asked['stack']}|1.8 kws"
        return next(p for p in read(folder).calibrated(model_on_part) if p.name == name).estimate

    assert estimate_of(tmp_path) == estimate_of(synthetic)


def test_counted_instructions_foretell_energy(synthetic):
    """Cycles that are a known multiple of the instructions: totals of the other models tell the energy of each."""
    plain = read(synthetic, {})
    rows = [row for row in plain.asked if row.part == "L4R5"]
    counts = {(row.stack, "cortex-m4", row.benchmark, -1): round(row.cycles / 1.5) for row in rows}
    layers = [layer for layer in plain.measured if layer.duration_ms]
    counts |= {
        (STACK, "cortex-m4", layer.model, layer.index): round(layer.duration_ms * 120e3 / 1.5) for layer in layers
    }
    counted = read(synthetic, counts)
    points = [point for point in counted.calibrated() if "|A|" in point.name] + counted.by_counted_layer()
    assert len(points) > len(rows)
    assert max(abs(point.error) for point in points) < 0.02
    cycles = counted.counted.cycles(rows[0], rows[1:])
    assert cycles.value == pytest.approx(rows[0].cycles, rel=0.02)
    assert cycles.low < rows[0].cycles < cycles.high
    assert plain.counted.cycles(rows[0], rows[1:]) is None
    assert not plain.by_counted_layer()


def test_counted_estimates_do_not_see_what_is_asked(synthetic, tmp_path):
    rows = results_of(synthetic)
    asked = next(row for row in rows if row["board"] == "A" and row["stack"] == STACK and row["benchmark"] == "kws")
    asked["energy_uj"] = str(1000 * float(asked["energy_uj"]))
    for name in (LAYERS, LAYER_ENERGY):
        (tmp_path / name).write_bytes((synthetic / name).read_bytes())
    write_table(tmp_path / RESULTS, rows)
    counts = {(STACK, "cortex-m4", model, -1): 1000 + index for index, model in enumerate(BENCHMARKS)}
    name = f"v1|test|A|{STACK}|1.8 kws"
    estimates = [
        next(point.estimate for point in read(folder, counts).calibrated() if point.name == name)
        for folder in (synthetic, tmp_path)
    ]
    assert estimates[0] == estimates[1]


def test_wider_reads_of_the_flash_are_taken_off_and_added_again(synthetic, tmp_path):
    """A session with the flash as one bank is in usual cycles what it would be with two: no other estimate moves."""
    for name in (LAYERS, LAYER_ENERGY):
        (tmp_path / name).write_bytes((synthetic / name).read_bytes())
    rows = [{**row, "notes": ""} for row in results_of(synthetic)]
    read_fewer = {"ad": 2 * 81920 / 16, "ic": 3 * 3 * (3 * 16 + 16 * 16 + 32 * 32) / 16}  # 16 bytes at once, not 8
    shortened = {}
    for row in rows:
        if row["mcu"] == "STM32L4R5" and row["stack"].startswith("X-CUBE-AI") and row["benchmark"] in read_fewer:
            latency = float(row["latency_ms"])
            shorter = latency - 5 * read_fewer[row["benchmark"]] / 120e3  # 5 wait states, 120 MHz
            energy = float(row["energy_uj"]) * shorter / latency
            row |= {
                "latency_ms": shorter,
                "energy_run_latency_ms": shorter,
                "energy_uj": energy,
                "notes": "Single Bank",
            }
            shortened[f"v1|test|A|{row['stack']}|1.8 {row['benchmark']}"] = shorter / latency
    write_table(tmp_path / RESULTS, rows)
    before, after = (
        {point.name: point.estimate.value for point in read(folder).calibrated()} for folder in (synthetic, tmp_path)
    )
    assert sorted(shortened) == [f"v1|test|A|X-CUBE-AI 8.0.0|1.8 {model}" for model in ("ad", "ic")]
    for name, value in before.items():
        if name in shortened:
            assert 1 - after[name] / value == pytest.approx(1 - shortened[name], rel=0.1)
        else:
            assert after[name] == pytest.approx(value, rel=1e-6)


def row_of(kernels, benchmark, *, part="L4R5", one_bank=False):
    names = {"library": "", "family": "", "stack": "", "setup": "", "core": "Cortex-M4"}
    numbers = {"clock_mhz": 120.0, "voltage_v": 1.8, "latency_ms": 1.0, "energy_uj": None}
    return Row(part=part, kernels=kernels, benchmark=benchmark, one_bank=one_bank, **names, **numbers)


@pytest.mark.parametrize(
    ("kernels", "benchmark", "runs"),
    [
        ("X-CUBE-AI 8.0.0 Arm", "vww", 7_494_744),
        ("X-CUBE-AI 8.1.0 Arm", "vww", 4_646_932),
        ("X-CUBE-AI 10.2 Arm", "vww", 4_646_932),
        ("X-CUBE-AI 8.1.0 Arm", "ic", 7_494_744),
        ("Plumerai Inference Engine 2023.05 Arm", "vww", 7_494_744),
        ("microTVM native  Arm", "vww", 7_494_744),
    ],
)
def test_macs_that_the_stack_runs(kernels, benchmark, runs):
    assert macs_run(row_of(kernels, benchmark), 7_494_744) == pytest.approx(runs)


@pytest.mark.parametrize(
    ("part", "one_bank", "stalls"), [("L4R5", True, -51200.0), ("L4R5", False, 0.0), ("RX65", True, 0.0)]
)
def test_only_what_is_unusual_for_a_part_is_taken_off(synthetic, part, one_bank, stalls):
    layers = read_layers(synthetic / LAYERS)
    assert unusual_stalls(row_of("", "ad", part=part, one_bank=one_bank), layers) == stalls


def test_table_and_json(synthetic, capsys):
    assert main(["--data", str(synthetic)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in REACHED)
    assert main(["--data", str(synthetic), "--results", str(synthetic / RESULTS), "--json"]) == 0
    bars = json.loads(capsys.readouterr().out)["bars"]
    point = next(bar for bar in bars if bar["name"] == "calibrated")["points"][0]
    assert point["low_uj"] < point["estimated_uj"] < point["high_uj"]


def test_missing_data_says_what_to_do(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none")]) == 1
    assert "Put the folder data/energy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("clock_mhz", "fast", "fast"),
        ("latency_ms", "0", "0 is not above 0"),
        ("energy_uj", "nan", "nan is not above 0"),
        ("energy_uj", "", "No row can be asked"),
        ("mcu", "STM32L4R5", "Add rows of other parts"),
        ("stack", None, "lacks columns. Expected stack"),
        ("precision", None, "lacks columns. Expected precision"),
    ],
)
def test_damaged_data_is_refused(synthetic, tmp_path, capsys, column, value, message):
    rows = results_of(synthetic)
    for row in rows:
        row |= {column: value, "energy_run_latency_ms": ""}
        if value is None:
            del row[column]
    write_table(tmp_path / RESULTS, rows)
    assert main(["--data", str(synthetic), "--results", str(tmp_path / RESULTS)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe", "is no table"), (",".join(NEEDED).encode(), "holds no rows")]
)
def test_what_is_no_table_is_refused(synthetic, tmp_path, capsys, content, message):
    (tmp_path / RESULTS).write_bytes(content)
    assert main(["--data", str(synthetic), "--results", str(tmp_path / RESULTS)]) == 1
    assert message in capsys.readouterr().err


def test_other_results_may_lack_the_stack_of_the_layers(synthetic, tmp_path, capsys):
    write_table(tmp_path / RESULTS, [row for row in results_of(synthetic) if row["stack"] != STACK])
    asked = ["--data", str(synthetic), "--results", str(tmp_path / RESULTS)]
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "layers               0  not asked: no such rows in these tables" in lines
    assert main([*asked, "--json"]) == 0
    bars = {bar["name"]: bar for bar in json.loads(capsys.readouterr().out)["bars"]}
    assert (bars["layers"]["figures"], bars["calibrated"]["figures"]["factor"] < 2) == (None, True)


def test_order_repeats_and_zeros_of_versions_do_not_matter(synthetic, tmp_path):
    rows = results_of(synthetic)
    write_table(
        tmp_path / RESULTS, [{**row, "stack": row["stack"].replace("8.0.0", "8.0")} for row in rows[::-1] + rows[:9]]
    )
    there, here = ({(r.part, r.kernels, r.benchmark) for r in read_results(f / RESULTS)} for f in (synthetic, tmp_path))
    assert there == here
    assert len(read_results(tmp_path / RESULTS)) == len(rows)


def test_an_external_regulator_is_told_by_board_or_note(synthetic, tmp_path):
    """The current of a linear regulator counts at the supply of the core then."""
    rows = [{**row, "notes": "", "voltage_v": 3.0} for row in results_of(synthetic) if row["mcu"] == "STM32L4R5"]
    rows = [{**rows[0], **told} for told in ({}, {"board": "NUCLEO-L4R5ZI-P"}, {"notes": "Dual Bank; SMPS"})]
    write_table(tmp_path / RESULTS, rows)
    power = [
        default_mw_per_mhz(row, []).value for row in sorted(read_results(tmp_path / RESULTS), key=lambda r: r.switched)
    ]
    assert power[1:] == pytest.approx([power[0] * 1.29 / 3.0] * 2)


@pytest.mark.parametrize(("flag", "kept", "with_energy"), [("BAD_ENERGY: why", 24, 23), ("DUPLICATE of v1", 23, 23)])
def test_flagged_rows_are_not_believed(synthetic, tmp_path, flag, kept, with_energy):
    rows = results_of(synthetic)
    rows[0]["quality_flag"] = flag
    write_table(tmp_path / RESULTS, rows)
    read_rows = read_results(tmp_path / RESULTS)
    assert (len(read_rows), sum(row.energy_uj is not None for row in read_rows)) == (kept, with_energy)
