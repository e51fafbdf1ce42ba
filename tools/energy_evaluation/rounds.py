"""Reads the results of later MLPerf Tiny rounds out of git clones, for `tools/evaluate_energy --results`.

Rows of plain microcontrollers and int8 models, as `mlperf_tiny_results.csv` has them up to v1.1: median latency and
energy of their results.txt, the system of their JSON.

./tools/read_rounds FOLDER FILE.csv    where FOLDER holds git clones of tiny_results_v1.2 and tiny_results_v1.3
"""

import argparse
import csv
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is no part of the installed package

from rct_tflite.errors import DataError, RCTError  # noqa: E402
from tools.energy_evaluation.table import BENCHMARKS  # noqa: E402
from tools.published_counting.stacks import Pin, find_clones, take_out  # noqa: E402

ROUNDS = {
    "v1.2": Pin("tiny_results_v1.2", "cadb3623"),
    "v1.3": Pin("tiny_results_v1.3", "cd605ea0"),
}
SUBMITTERS = ("STMicroelectronics", "bosch", "Renesas")
"""Those with plain microcontrollers."""
NOT_PLAIN = re.compile(r"float|RH850|U3C5")
"""Systems with float32 models, and those with an accelerator or of an automotive core."""
CORES = {
    "H7A3": "Cortex-M7",
    "F746": "Cortex-M7",
    "L4R5": "Cortex-M4",
    "CY8C": "Cortex-M4",
    "U575": "Cortex-M33",
    "U385": "Cortex-M33",
    "G0B1": "Cortex-M0+",
    "RA8D": "Cortex-M85",
}
"""By what the name of the part or of the system holds."""
THROUGHPUT = re.compile(r"Median throughput is\s+([\d.]+)")
ENERGY = re.compile(r"Median energy cost is\s+([\d.]+)")
INFERENCES = re.compile(r"Inferences\s+:\s+(\d+)")
RUNTIME = re.compile(r"(?:Runtime|Elapsed time)\s*:\s*([\d.]+)")


@dataclass(frozen=True)
class System:
    """What a submission says of a board, in the columns of the table."""

    board: str
    mcu: str
    core: str
    clock_mhz: str
    voltage_v: str
    stack: str
    notes: str


def rows(folder: Path, version: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of a round.

    Args:
        folder: With the files of the round's `closed`.
        version: Of the round.

    Raises:
        DataError: If a system cannot be read.
    """
    for submitter in SUBMITTERS:
        for file in sorted((folder / "closed" / submitter / "systems").glob("*.json")):
            if NOT_PLAIN.search(file.stem) or file.stem.startswith("."):
                continue
            system = _system(file, submitter)
            for benchmark in BENCHMARKS:
                place = folder / "closed" / submitter / "results" / file.stem / benchmark
                measured = _measured(place)
                if measured:
                    yield {
                        "version": version,
                        "submitter": submitter,
                        **vars(system),
                        "benchmark": benchmark,
                        **measured,
                        "source_path": f"{ROUNDS[version].repository}/{place.relative_to(folder)}",
                        "device_class": "mcu",
                        "precision": "int8",
                        "quality_flag": "",
                    }


def _measured(place: Path) -> dict[str, float | str] | None:
    """Returns latencies in ms and the energy in uJ, medians; None where nothing was submitted."""
    performance, energy = (_text(place / part / "results.txt") for part in ("performance", "energy"))
    throughput, cost = THROUGHPUT.search(performance), ENERGY.search(energy)
    if throughput is None:
        return None
    windows = zip(map(float, RUNTIME.findall(energy)), map(int, INFERENCES.findall(energy)), strict=False)
    latencies = [1e3 * seconds / count for seconds, count in windows]
    return {
        "latency_ms": round(1e3 / float(throughput[1]), 4),
        "energy_uj": cost[1] if cost else "",
        "energy_run_latency_ms": round(statistics.median(latencies), 4) if cost and latencies else "",
    }


def _system(file: Path, submitter: str) -> System:
    told = dict(re.findall(r'"([^"]*)"\s*:\s*"([^"]*)"', _text(file)))  # some of these are no proper JSON
    try:
        mcu, hardware = told["SoC Name"], told.get("Hardware Notes", "")
        core = next(core for part, core in CORES.items() if part in f"{mcu} {file.stem}".upper())
        clock = re.findall(r"(\d+)\s*MHz", told["Processor(s) Frequencies"])[0]
        voltage = re.search(r"at ([\d.]+)\s*V", hardware)
        return System(
            board=told["Board Name"],
            mcu=mcu,
            core=core,
            clock_mhz=clock,
            voltage_v=voltage[1] if voltage else "",
            stack=_stack(submitter, told["Inference Framework"], file.stem),
            notes="; ".join(fact for fact in ("Single Bank", "SMPS") if fact in hardware),
        )
    except (KeyError, IndexError, StopIteration) as error:
        raise DataError(
            f"Cannot read a system. Expected board, part, clock and framework of a known core in {file.name}. "
            f"Received: {json.dumps(told)[:200]}. Read the commit that is named in tools/energy_evaluation/rounds.py."
        ) from error


def _stack(submitter: str, framework: str, system: str) -> str:
    if submitter == "STMicroelectronics":
        return "X-CUBE-AI " + re.findall(r"v([\d.]+)", framework)[0]
    if submitter == "Renesas":
        return "TFLM + CMSIS-NN"
    variants = {"max": " (max performance)", "min_ram": " (min ram)"}
    return "Bosch HALE 1.0.175" + next((text for part, text in variants.items() if part in system), "")


def _take_out(clone: Path, pin: Pin, folder: Path) -> None:
    """Writes the systems' files, and what was measured on them."""
    take_out(clone, pin, [f"closed/{submitter}/systems" for submitter in SUBMITTERS], folder)
    systems = [
        (submitter, file.stem) for submitter in SUBMITTERS for file in (folder / "closed" / submitter).rglob("*.json")
    ]
    parts = [f"{benchmark}/{part}/results.txt" for benchmark in BENCHMARKS for part in ("performance", "energy")]
    take_out(clone, pin, [f"closed/{owner}/results/{name}/{part}" for owner, name in systems for part in parts], folder)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def main() -> int:
    """Reads both rounds, writes one table; returns 2 if a clone is missing or cannot be read."""
    parser = argparse.ArgumentParser(prog="read_rounds", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clones", type=Path, metavar="FOLDER", help="with git clones of tiny_results_v1.2 and _v1.3")
    parser.add_argument("table", type=Path, metavar="FILE.csv", help="to write")
    options = parser.parse_args()
    try:
        clones = find_clones(options.clones, [pin.repository for pin in ROUNDS.values()])
        found = []
        for version, pin in ROUNDS.items():
            with tempfile.TemporaryDirectory() as folder:
                _take_out(clones[pin.repository], pin, Path(folder))
                found += rows(Path(folder), version)
    except RCTError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    with options.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    print(f"{len(found)} rows, {sum(bool(row['energy_uj']) for row in found)} with energy: {options.table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
