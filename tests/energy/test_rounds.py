"""tools/read_rounds: on small clones of the form in which results are published."""

import csv

import pytest

from rct_tflite.errors import DataError
from tests.energy.published import commit
from tools.energy_evaluation import rounds
from tools.energy_evaluation.table import read_results
from tools.published_counting.stacks import Pin

SYSTEM = """{
    "Board Name": "NUCLEO-L4R5ZI", "SoC Name": "STM32L4R5ZIT6U", "Processor(s) Frequencies": "120 MHz",
    "Hardware Notes": "Operating at 1.8V / Single Bank", "Inference Framework": "X-CUBE-AI v9.0",
}"""
BOSCH = (
    '{"Board Name": "B", "SoC Name": "PSoC 62", "Processor(s) Frequencies": "150 MHz", "Inference Framework": "HALE"}'
)
PERFORMANCE = "00.1 ulp-ml: Median throughput is 200.0 inf./sec.\n"
RUNNER = """   # Inferences :  3000
   Runtime      :  15.3 sec.
   # Inferences :  3000
   Runtime      :  15.6 sec.
   # Inferences :  3000
   Runtime      :  15.0 sec.
 Median energy cost is 81.875 uJ/inf.
"""
ST, HALE = "closed/STMicroelectronics", "closed/bosch"
EARLIER = {
    f"{ST}/systems/NUCLEO_L4R5ZI.json": SYSTEM,
    f"{ST}/systems/NUCLEO_L4R5ZI_float.json": SYSTEM,
    f"{ST}/results/NUCLEO_L4R5ZI/ad/performance/results.txt": PERFORMANCE,
    f"{ST}/results/NUCLEO_L4R5ZI/ad/energy/results.txt": RUNNER,
    f"{ST}/results/NUCLEO_L4R5ZI_float/ad/performance/results.txt": PERFORMANCE,
    "closed/Renesas/systems/README": "none",
    f"{HALE}/systems/CY8CPROTO_int8_max_performance.json": BOSCH,
    f"{HALE}/results/CY8CPROTO_int8_max_performance/ic/performance/results.txt": PERFORMANCE,
}


@pytest.fixture
def clones(tmp_path, monkeypatch):
    files = {"v1.2": EARLIER, "v1.3": {**EARLIER, f"{ST}/systems/NUCLEO_L4R5ZI.json": SYSTEM.replace("9.0", "10.2")}}
    pins = {}
    for version, content in files.items():
        name = f"tiny_results_{version}"
        pins[version] = Pin(name, commit(tmp_path / name, content))
    monkeypatch.setattr(rounds, "ROUNDS", pins)
    return tmp_path


def test_rows_are_those_that_the_evaluation_reads(clones, monkeypatch, capsys):
    table = clones / "later.csv"
    monkeypatch.setattr("sys.argv", ["read_rounds", str(clones), str(table)])
    assert rounds.main() == 0
    assert "4 rows, 2 with energy" in capsys.readouterr().out
    with table.open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first["source_path"] == f"tiny_results_v1.2/{ST}/results/NUCLEO_L4R5ZI/ad"
    assert (first["latency_ms"], first["energy_run_latency_ms"], first["energy_uj"]) == ("5.0", "5.1", "81.875")
    read = read_results(table)
    # Of rows without energy that say the same, the evaluation keeps the first.
    assert [(row.part, row.core, row.clock_mhz, row.voltage_v, row.benchmark, row.energy_uj) for row in read] == [
        ("L4R5", "Cortex-M4", 120, 1.8, "ad", 81.875),
        ("PSOC", "Cortex-M4", 150, None, "ic", None),
        ("L4R5", "Cortex-M4", 120, 1.8, "ad", 81.875),
    ]
    assert [row.one_bank for row in read] == [True, False, True]
    assert [row.kernels for row in read][::2] == ["X-CUBE-AI 9.0 Arm", "X-CUBE-AI 10.2 Arm"]
    assert "Bosch HALE 1.0.175 (max performance)" in table.read_text()


def test_a_system_of_an_unknown_core_is_named(tmp_path):
    file = tmp_path / "closed/bosch/systems/NEW_BOARD.json"
    file.parent.mkdir(parents=True)
    file.write_text(BOSCH)
    with pytest.raises(DataError, match=r"of a known core in NEW_BOARD.json. Received: .*PSoC 62"):
        list(rounds.rows(tmp_path, "v1.2"))


def test_missing_clones_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["read_rounds", str(tmp_path), str(tmp_path / "later.csv")])
    assert rounds.main() == 2
    assert "tiny_results_v1.2" in capsys.readouterr().err
    assert not (tmp_path / "later.csv").exists()
