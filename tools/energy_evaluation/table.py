"""Reads the published tables: which rows count, and what they say."""

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import DataError

RESULTS = "mlperf_tiny_results.csv"
LAYERS = "mlperf_tiny_layers.csv"
LAYER_ENERGY = "mlperf_tiny_layer_energy.csv"
BENCHMARKS = ("vww", "ic", "kws", "ad")
"""The four models that every round has."""

NEEDED = (
    *("version", "submitter", "board", "mcu", "core", "clock_mhz", "voltage_v", "stack", "benchmark", "latency_ms"),
    *("energy_uj", "device_class", "precision", "energy_run_latency_ms", "quality_flag"),
)
"""Columns of the results that are read; without `notes` a session is taken as usual for its part."""

BAD_ENERGY, DUPLICATE = "BAD_ENERGY", "DUPLICATE"
"""Starts of a `quality_flag`: the energy is wrong; the row repeats another."""
MENDED = re.compile(r"own trace gives .* ([0-9.]+) uJ/inf")
"""In the flag of a wrong energy: the right one, from the trace that was published beside it."""
SAME_SILICON = {"U585": "U575"}
"""Parts that differ in cryptography only."""
ONE_BANK_NOTE = "Single Bank"
"""In the notes of a system whose flash runs as one bank."""
SWITCHED_NOTE, SWITCHED_BOARD = "SMPS", "-P"
"""In the notes of a system with a switched regulator; how ST names boards whose core an external one supplies."""


@dataclass(frozen=True)
class Row:
    """One model on one board.

    Attributes:
        setup: Round, submitter, board, stack and supply: what was measured together.
        part: Short name of the microcontroller, such as "L4R5".
        core: Such as "Cortex-M4".
        clock_mhz: Core clock.
        voltage_v: Supply; None if not told.
        library: Whose kernels, on which kind of core.
        family: The stack without its version, on which kind of core.
        kernels: The stack with its version.
        stack: As the table names it.
        benchmark: One of `BENCHMARKS`.
        latency_ms: Of the energy run where there is one.
        energy_uj: Of one inference; None if not measured.
        one_bank: Whether the flash runs as one bank, unlike as delivered.
        switched: Whether a switched regulator supplies the core, as far as is told.
    """

    setup: str
    part: str
    core: str
    clock_mhz: float
    voltage_v: float | None
    library: str
    family: str
    kernels: str
    stack: str
    benchmark: str
    latency_ms: float
    energy_uj: float | None
    one_bank: bool = False
    switched: bool = False

    @property
    def cycles(self) -> float:
        """Of one inference."""
        return self.latency_ms * 1e3 * self.clock_mhz

    @property
    def power_mw(self) -> float:
        """Mean power while inferring; only of a row with energy."""
        assert self.energy_uj is not None
        return self.energy_uj / self.latency_ms


@dataclass(frozen=True)
class Layer:
    """One layer of a model, and what it cost where that was measured.

    Attributes:
        model: One of `BENCHMARKS`.
        index: Place in the model, from 0.
        op: TFLite's name of the op.
        kernel: Height and width; (1, 1) where the op has none.
        stride: Height and width.
        in_channels: Of its input.
        positions: Output positions.
        outputs: Output elements.
        macs: Multiply-accumulates.
        weight_bytes: Of its weights; 0 if the file does not tell.
        duration_ms: Measured; 0 without measurement.
        energy_uj: Measured; 0 without measurement.
        kernels: Stack that ran it; empty without measurement.
        part: Short name of the part; empty without measurement.
    """

    model: str
    index: int
    op: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    in_channels: int
    positions: int
    outputs: int
    macs: int
    weight_bytes: int = 0
    duration_ms: float = 0.0
    energy_uj: float = 0.0
    kernels: str = ""
    part: str = ""


def read_results(*paths: Path) -> list[Row]:
    """Reads the rows of plain microcontrollers with int8 models, without the repeated ones.

    Rows are repeated that are flagged so, and those without energy that tell the latency of an earlier row of the same
    stack and part, digit for digit.
    """
    entries = [
        (path, entry)
        for path in paths
        for entry in read_entries(path, NEEDED)
        if entry["device_class"] == "mcu"
        and entry["precision"] == "int8"
        and entry["benchmark"] in BENCHMARKS
        and not entry["quality_flag"].startswith(DUPLICATE)
    ]
    rows: dict[Row, None] = {}
    told: set[tuple[str, str, str, str]] = set()
    for path, entry in sorted(entries, key=lambda read: _round_first(read[1])):
        row = _row(path, entry)
        key = (row.part, row.kernels, row.benchmark, entry["latency_ms"])
        if row.energy_uj is not None or key not in told:
            rows[row] = None  # one that is there twice counts once
        told.add(key)
    return list(rows)


def read_layers(path: Path) -> list[Layer]:
    """Reads layers, with what they cost where the file has it."""
    layers: list[Layer] = []
    read: Counter[tuple[str, str]] = Counter()
    for entry in read_entries(path, ("model", "op", "kernel", "output_shape", "macs")):
        network = (entry.get("stack", ""), entry["model"])
        layers.append(_layer(path, entry, read[network]))
        read[network] += 1
    return layers


def core_name(core: str) -> str:
    """Returns the core without remarks, such as "Cortex-M4".

    Example:
        >>> core_name("RISC-V RV32IMAC+FPU")
        'RISC-V'
    """
    return core.partition(" ")[0]


def stack_names(stack: str) -> tuple[str, str]:
    """Splits a stack into family and version.

    Example:
        >>> stack_names("TFLM 2.3.1 + CMSIS-NN (mbed)")
        ('TFLM + CMSIS-NN', '2.3.1')
        >>> stack_names("X-CUBE-AI 9.0.0") == stack_names("X-CUBE-AI 9.0")
        True
    """
    version = re.search(r"\d+(?:\.\d+)*", stack)
    plain = re.sub(r"\(.*?\)", "", re.sub(r"\s*\d+(?:\.\d+)*", "", stack))
    return " ".join(plain.split()), re.sub(r"(\.\d+)(\.0)+$", r"\1", version.group()) if version else ""


def read_entries(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Reads the rows of a table that must have some columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            entries, columns = list(reader), reader.fieldnames or ()
    except OSError as error:
        raise DataError(
            f"Cannot read the published data. Expected a file {path}. Received: {error.strerror}. Put the folder "
            "data/energy of the project's shared material beside the checkout, or name another (--data, --results)."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table. Expected CSV in UTF-8. Received: {error}. Save it so.") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(columns)[:200] or "none"
        raise DataError(
            f"{path} lacks columns. Expected {', '.join(missing)}. Received: {found}. Use the same columns."
        )
    if not entries:
        raise DataError(f"{path} holds no rows. Expected at least one. Received: the names of the columns. Add rows.")
    return entries


def _round_first(entry: dict[str, str]) -> tuple[str, ...]:
    """Orders rows, so that it does not matter how a file does: a round's with energy stand before those without."""
    return (entry["version"], "" if entry["energy_uj"] else "later", *(entry[name] for name in NEEDED))


def _row(path: Path, entry: dict[str, str]) -> Row:
    notes = entry.get("notes") or ""
    family, version = stack_names(entry["stack"])
    core = core_name(entry["core"])
    # Kernels written for Arm's instructions are other kernels elsewhere.
    kind = "Arm" if core.startswith("Cortex") else core
    library = next((name for name in ("CMSIS-NN", "X-CUBE-AI") if name in family), family)
    energy, latency = entry["energy_uj"], entry["energy_run_latency_ms"] or entry["latency_ms"]
    if entry["quality_flag"].startswith(BAD_ENERGY):
        mended = MENDED.search(entry["quality_flag"])
        energy, latency = mended.group(1) if mended else "", entry["latency_ms"]  # what spoilt one spoilt both
    latency = latency if energy else entry["latency_ms"]
    try:
        return Row(
            setup="|".join(entry[key] for key in ("version", "submitter", "board", "stack", "voltage_v")),
            part=_part(entry["mcu"]),
            core=core,
            clock_mhz=_above_0(entry["clock_mhz"]),
            voltage_v=_above_0(entry["voltage_v"]) if entry["voltage_v"] else None,
            library=f"{library} {kind}",
            family=f"{family} {kind}",
            kernels=f"{family} {version} {kind}",
            stack=entry["stack"],
            benchmark=entry["benchmark"],
            latency_ms=_above_0(latency),
            energy_uj=_above_0(energy) if energy else None,
            one_bank=ONE_BANK_NOTE in notes,
            switched=SWITCHED_NOTE in notes or entry["board"].endswith(SWITCHED_BOARD),
        )
    except ValueError as error:
        raise DataError(
            f"{path} holds a row that cannot be: {error}. Expected numbers above 0. Received: {entry}. Mend it."
        ) from error


def _above_0(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"{text} is not above 0")
    return number


def _part(mcu: str) -> str:
    short = mcu.upper().replace("STM32", "")[:4]
    return SAME_SILICON.get(short, short)


def _layer(path: Path, entry: dict[str, str], index: int) -> Layer:
    try:
        shape_in, shape_out = (_numbers(entry[key]) for key in ("input_shape", "output_shape"))
        kernel, stride = (_numbers(entry[key]) or (1, 1) for key in ("kernel", "stride"))
        positions = shape_out[1] * shape_out[2] if len(shape_out) == 4 else 1
        family, version = stack_names(entry.get("stack", ""))
        measured = "duration_ms" in entry
        return Layer(
            model=entry["model"],
            index=index,
            op=entry["op"],
            kernel=(kernel[0], kernel[1]),
            stride=(stride[0], stride[1]),
            in_channels=shape_in[-1],
            positions=positions,
            outputs=int(entry["output_elements"]),
            macs=int(entry["macs"]),
            weight_bytes=int(entry.get("weight_bytes") or 0),
            duration_ms=float(entry["duration_ms"]) if measured else 0.0,
            energy_uj=float(entry["energy_uj"]) if measured else 0.0,
            kernels=f"{family} {version} Arm" if measured else "",
            part=_part(entry["mcu"]) if measured else "",
        )
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} holds a layer that cannot be read: {error!r}. Received: {entry}.") from error


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("x")) if text else ()
