"""`rct-tflite calibrate`: the numbers of your own board, from a benchmark firmware and a power meter."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from rct_tflite.cli.output import Number, json_option, print_json, typed
from rct_tflite.energy.calibration.calibrate import Calibration, TraceOptions, calibrate_table, calibrate_trace
from rct_tflite.energy.calibration.fit import Coefficient, Point
from rct_tflite.energy.calibration.formats import FORMATS, read_measurement
from rct_tflite.energy.calibration.plot import draw_calibration
from rct_tflite.energy.calibration.schedule import SCHEDULE_FILE, read_schedule
from rct_tflite.energy.calibration.target_writer import write_target
from rct_tflite.energy.calibration.trace import Trace
from rct_tflite.export.output_folder import staged_folder
from rct_tflite.firmware.calibration import BenchmarkOptions, has_port, write_benchmark
from rct_tflite.spec.target_file import find_target, read_target_file, target_path

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TARGET = click.option("--target", required=True, help="Target of 'rct-tflite targets', or a .toml file of your own.")


@click.group()
def command() -> None:
    """Measure your own board: first 'firmware', then a power meter, then 'fit'.

    The defaults of a target come from data sheets and other boards. Published numbers of one board differ by
    25 % between sessions, so a calibration of yours is worth more than any default. Both steps print one JSON
    object with --json.
    """


@command.command()
@_TARGET
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--seconds", type=Number(0.1, 60), default=1.0, show_default=True, help="Length of a phase.")
@click.option("--sleep", "sleep_s", type=Number(0.02, 60), default=0.2, show_default=True)
@click.option("--flash", is_flag=True, help="Also erase and write flash: two functions of port.h.")
@click.option("--toolchain", type=click.Choice(["auto", "gcc", "zig"]), default="auto", show_default=True)
@click.option("--emulator", type=click.Choice(["auto", "qemu", "unicorn"]), default="auto", show_default=True)
@json_option
def firmware(
    target: str,
    out: Path,
    seconds: float,
    sleep_s: float,
    flash: bool,
    toolchain: str,
    emulator: str,
    as_json: bool,
) -> None:
    """Write the benchmark firmware: a C project whose phases were counted on the emulated core.

    \b
    Example:
      rct-tflite calibrate firmware --target stm32h743 --out build/calibration
    """
    board = find_target(target)
    with staged_folder(out, force=False) as staged:
        options = BenchmarkOptions(seconds, sleep_s, flash, toolchain, emulator)
        benchmark = write_benchmark(staged, board, options)
    schedule = benchmark.schedule
    if as_json:
        phases = [{**vars(phase), "instructions": dict(phase.instructions)} for phase in schedule.phases]
        print_json({"folder": str(out), "compiler": schedule.compiler, "phases": phases})
        return
    click.echo(f"Wrote {out} for {schedule.target} at {schedule.clock_mhz:g} MHz, counted with {schedule.compiler}")
    for phase in schedule.phases:
        counts = ", ".join(f"{name} {count:,.0f}" for name, count in phase.instructions)
        click.echo(f"  {phase.name:<12} {phase.seconds:5.2f} s  {phase.iterations:>8,} x {counts} instructions")
    port = typed(out / "firmware" / "board" / "port.h")
    what = f"see the pins in {port}, which was compiled but not run" if has_port(board) else f"fill in {port}"
    click.echo(f"Next: {what}, and follow {typed(out / 'README.md')}")


@command.command()
@_TARGET
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Your target file, .toml.")
@click.option("--trace", "trace_path", type=_FILE, help="Recording of the benchmark by a power meter.")
@click.option("--table", "table_path", type=_FILE, help="Workloads with latency and energy, or a log of the runner.")
@click.option(
    "--firmware",
    "firmware_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of 'calibrate firmware'; needed with --trace.",
)
@click.option("--format", "form", type=click.Choice(["auto", *FORMATS]), default="auto", show_default=True)
@click.option("--voltage", type=float, help="Supply in volts, where the file does not tell.")
@click.option("--clock", "clock_mhz", type=Number(0.01, 5000), help="Core clock in MHz, with --table.")
@click.option("--column", "columns", multiple=True, metavar="NAME=UNIT", help="What a column is, such as 'Ch 1=mA'.")
@click.option("--input", "input_bit", type=click.IntRange(0, 7), help="Digital input of the mark.  [default: found]")
@click.option("--no-marks", is_flag=True, help="Find the phases by the power alone.")
@click.option("--zero", "zero_s", type=Number(0), default=0.0, help="Seconds at the start without the board.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw measured against predicted.")
@json_option
def fit(
    target: str,
    out: Path,
    trace_path: Path | None,
    table_path: Path | None,
    firmware_folder: Path | None,
    form: str,
    voltage: float | None,
    clock_mhz: float | None,
    columns: tuple[str, ...],
    input_bit: int | None,
    no_marks: bool,
    zero_s: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Fit power and cycles of a board to a measurement, and write its target file.

    Reads PPK2 (.csv, .ppk2), Joulescope and Otii CSV, the log of an LPM01A, sessions of EnergyRunner, and any
    table with units in its header. What the measurement does not tell stays at the target's default, and is named.

    \b
    Examples:
      rct-tflite calibrate fit --target stm32h743 --firmware bench --trace ppk.csv --voltage 3.3 --out my.toml
      rct-tflite calibrate fit --target stm32h743 --table measured.csv --clock 480 --out my.toml --plot fit.png
    """
    if (trace_path is None) == (table_path is None):
        raise click.UsageError("Give either --trace or --table.")
    base = read_target_file(target_path(target))
    path = trace_path or table_path
    assert path is not None
    measured = read_measurement(path, voltage, form, _units(columns))
    schedule = None if firmware_folder is None else read_schedule(firmware_folder / SCHEDULE_FILE)
    if isinstance(measured, Trace):
        if schedule is None:
            raise click.UsageError("A trace needs --firmware, the folder of 'rct-tflite calibrate firmware'.")
        result = calibrate_trace(base.target, schedule, measured, TraceOptions(input_bit, not no_marks, zero_s))
    else:
        clock = clock_mhz or (schedule.clock_mhz if schedule else base.target.clock_mhz.value)
        result = calibrate_table(base.target, schedule, measured, clock, path.name)
    left = write_target(base, result, out)
    if plot is not None:
        draw_calibration(result, plot)
    if as_json:
        print_json(_as_json(result, left))
    else:
        _print(result, left, out)


def _units(columns: Sequence[str]) -> dict[str, str]:
    units = {}
    for column in columns:
        name, equals, unit = column.rpartition("=")
        if not equals or not name or not unit:
            raise click.UsageError(f"--column wants NAME=UNIT, such as 'Ch 1=mA'. Received: {column!r}.")
        units[name] = unit
    return units


_TIME = ("seconds", "seconds_predicted", "seconds_left_out")
_POWER = ("power_w", "power_predicted", "power_left_out")


def _errors(points: Sequence[Point], names: tuple[str, str, str]) -> tuple[list[float], list[float]]:
    """Returns relative errors of the fit, and of fits without the point."""
    measured, predicted, left_out = ([getattr(point, name) for point in points] for name in names)
    known = [i for i, value in enumerate(predicted) if not math.isnan(value)]
    return [predicted[i] / measured[i] - 1 for i in known], [left_out[i] / measured[i] - 1 for i in known]


def _summary(errors: list[float]) -> dict[str, float]:
    sizes = sorted(map(abs, errors))
    return {"median": sizes[len(sizes) // 2], "worst": sizes[-1]} if sizes else {}


def _as_json(result: Calibration, left: tuple[str, ...]) -> dict[str, object]:
    report: dict[str, object] = {"source": result.source, "clock_mhz": result.clock_mhz}
    report["coefficients"] = {c.name: _coefficient(c) for c in result.coefficients}
    report["sleep_mw"] = _number(result.sleep_mw)
    for what, names in (("time", _TIME), ("power", _POWER)):
        fitted, left_out = _errors(result.points, names)
        report[f"{what}_error"] = {"fit": _summary(fitted), "left_out": _summary(left_out)}
    report["points"] = [{name: _number(value) for name, value in vars(point).items()} for point in result.points]
    return {**report, "stayed_at_default": list(result.stayed), "without_place": list(left), "notes": result.notes}


def _coefficient(coefficient: Coefficient) -> dict[str, object]:
    quantity = coefficient.quantity
    values = {"value": quantity.value, "low": quantity.low, "high": quantity.high}
    return {**values, "resolution": coefficient.resolution, "fitted": coefficient.is_fitted}


def _number(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _print(result: Calibration, left: tuple[str, ...], out: Path) -> None:
    click.echo(result.source)
    for note in result.notes:
        click.echo(f"  note: {note}")
    click.echo(f"\n  {'number':<26} {'value':>9}  {'interval':<18} told by the data")
    for coefficient in result.coefficients:
        quantity = coefficient.quantity
        interval = f"{quantity.low:.4g} to {quantity.high:.4g}"
        told = f"{coefficient.resolution:.0%}" + ("" if coefficient.is_fitted else ", stays at its default")
        click.echo(f"  {coefficient.name:<26} {quantity.value:>9.4g}  {interval:<18} {told}")
    if not math.isnan(result.sleep_mw):
        click.echo(f"  {'power between phases, mW':<26} {result.sleep_mw:>9.4g}")
    _print_points(result.points)
    if left:
        click.echo(f"  A target file has no place for: {', '.join(left)}")
    click.echo(f"Wrote {out}. Next: rct-tflite targets {typed(out)}")


def _print_points(points: Sequence[Point]) -> None:
    scales: tuple[tuple[str, tuple[str, str, str], Callable[[float], str]], ...] = (
        ("time", _TIME, lambda value: f"{value * 1e6:.5g} us"),
        ("power", _POWER, lambda value: f"{value * 1e3:.4g} mW"),
    )
    for what, names, text in scales:
        known = [point for point in points if not math.isnan(getattr(point, names[1]))]
        if not known:
            continue
        fitted, left_out = _errors(known, names)
        click.echo(f"\n  {what:<16} {'measured':>12} {'fit':>8} {'left out':>9}")
        for point, off, off_alone in zip(known, fitted, left_out, strict=True):
            click.echo(f"  {point.name:<16} {text(getattr(point, names[0])):>12} {off:>+8.2%} {off_alone:>+9.2%}")
        for name, errors in (("fit", _summary(fitted)), ("leave one out", _summary(left_out))):
            click.echo(f"  error, {name}: median {errors['median']:.2%}, worst {errors['worst']:.2%}")
