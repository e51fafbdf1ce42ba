"""`rct-tflite estimate`: what an exported folder costs on its target, before it is flashed."""

import dataclasses
from pathlib import Path

import click

from rct_tflite.cli.output import Number, format_cost, format_interval, interval_json, json_option, print_json, typed
from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.jobs import FineTuning
from rct_tflite.errors import DataError
from rct_tflite.firmware.estimation import EstimateOptions, ProjectEstimate, estimate_project
from rct_tflite.firmware.instructions import AUTO, SOURCES
from rct_tflite.planning.memory_map import MemoryUse
from rct_tflite.spec.run_log import find_run_log, read_run_log

KIB = 1024
POSITIVE = Number(0, min_open=True)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--target", help="Cost it on this target instead of the exported one; of the same core.")
@click.option("--clock", type=POSITIVE, metavar="MHZ", help="Core clock.  [default: the target's]")
@click.option("--voltage", type=POSITIVE, metavar="V", help="Supply.  [default: the target's]")
@click.option("--samples", type=click.IntRange(1), help="Cost a job of learning from so many samples.")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Passes over --samples.")
@click.option("--checkpoints", type=click.IntRange(0), default=0, show_default=True, help="Writes to flash in a job.")
@click.option("--per-day", type=POSITIVE, metavar="N", help="Inferences a day.")
@click.option("--duty", type=Number(0, 1), help="Part of the time spent with inferences, 0 to 1.")
@click.option("--tunings-per-day", type=Number(0), default=0.0, help="Jobs of learning a day.")
@click.option(
    "--sleep-uw",
    type=POSITIVE,
    metavar="UW",
    help="Power of the waiting board.  [default: the part alone, if known]",
)
@click.option("--battery", type=POSITIVE, metavar="MAH", help="Printed capacity: how long does it last?")
@click.option("--battery-voltage", type=POSITIVE, default=3.0, show_default=True, metavar="V")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with pictures.")
@click.option(
    "--run",
    "log",
    type=click.Path(exists=True, path_type=Path),
    help="Log of the training, as rct.RCTCallback(log=...) writes it: the page draws its bits, energy and accuracy.",
)
@click.option("--toolchain", type=click.Choice(["auto", "gcc", "zig"]), default="auto", show_default=True)
@click.option("--emulator", type=click.Choice(["auto", "qemu", "unicorn"]), default="auto", show_default=True)
@click.option(
    "--counts",
    type=click.Choice(SOURCES),
    default=AUTO,
    show_default=True,
    help="Count instructions on the emulated core, or estimate them from a model of the kernels. auto estimates where "
    "there is no compiler or no emulator.",
)
@json_option
def command(
    folder: Path,
    target: str | None,
    clock: float | None,
    voltage: float | None,
    samples: int | None,
    epochs: int,
    checkpoints: int,
    per_day: float | None,
    duty: float | None,
    tunings_per_day: float,
    sleep_uw: float | None,
    battery: float | None,
    battery_voltage: float,
    html: Path | None,
    log: Path | None,
    toolchain: str,
    emulator: str,
    counts: str,
    as_json: bool,
) -> None:
    """Estimate time, energy, battery life and memory of FOLDER.

    Instructions are counted on the emulated core, or estimated where that cannot be done; cycles, time and energy
    follow from the target's numbers, each with its interval. 'rct-tflite targets NAME' tells where those come from.

    \b
    Examples:
      rct-tflite estimate build/kws
      rct-tflite estimate build/kws --clock 80 --voltage 1.8 --samples 200 --epochs 5 --checkpoints 1
      rct-tflite estimate build/kws --per-day 8640 --sleep-uw 12 --battery 230 --html estimate.html
    """
    if log is not None and html is None:
        raise DataError(
            "--run is for the page. Expected --html beside it. Received: --run alone. Add --html PAGE.html."
        )
    training = None if log is None else read_run_log(find_run_log(log))
    options = EstimateOptions(
        target=target,
        clock_mhz=clock,
        voltage_v=voltage,
        tuning=None if samples is None else FineTuning(samples, epochs, checkpoints),
        per_day=per_day,
        duty=duty,
        tunings_per_day=tunings_per_day,
        sleep_uw=sleep_uw,
        battery_mah=battery,
        battery_v=battery_voltage,
        toolchain=toolchain,
        emulator=emulator,
        counts=counts,
    )
    result = estimate_project(folder, options)
    if html is not None:
        from rct_tflite.export.estimate_page import write_estimate_page

        write_estimate_page(result, html, _rows(result), training)
    if as_json:
        print_json(_as_json(result))
        return
    click.echo(
        f"{result.target.name}, {result.target.clock_mhz.value:g} MHz, instructions {result.instructions.source}"
    )
    for name, text in _rows(result):
        click.echo(f"  {name:<20} {text}")
    if html is not None:
        click.echo(f"  pictures             {typed(html)}")


def _rows(result: ProjectEstimate) -> list[tuple[str, str]]:
    rows = [
        ("inference", f"{_instructions(result.instructions_inference)}, {format_cost(result.inference)}"),
        ("training step", f"{_instructions(result.instructions_step)}, {format_cost(result.step)}"),
    ]
    if result.instructions.guessed:
        rows.append(("  guessed", ", ".join(result.instructions.guessed)))
    for phase in result.phases:
        total = max(sum(count for _, count in phase.classes), 1)
        shares = ", ".join(f"{name} {count / total:.0%}" for name, count in phase.classes)
        rows.append((f"  {phase.name}", shares))
    if result.tuning is not None:
        tuning = result.tuning
        energy = format_interval(tuning.energy_j, 1e3, "mJ")
        rows.append(("fine-tuning", f"{format_interval(tuning.time_s, 1.0, 's')}, {energy}"))
    if result.day is not None:
        day = result.day
        alone = " (the part alone; give --sleep-uw for your board)" if result.sleeps_alone else ""
        asleep = f"of which asleep {day.sleep_j.value:.2g} J{alone}"
        rows.append(("day", f"{format_interval(day.energy_j, 1.0, 'J')}, {asleep}"))
        duty = f"duty {day.duty.value:.2%}" + (", more than there is time for" if day.duty.value > 1 else "")
        rows.append(("mean power", f"{format_interval(day.average_mw, 1e3, 'uW')}, {duty}"))
    if result.battery_days is not None:
        rows.append(("battery", format_interval(result.battery_days, 1.0, "days")))
    rows += [_memory_row(use) for use in (result.memory.ram, result.memory.flash)]
    for region in result.memory.unused:
        rows.append(("  unused", f"{region.name}, {region.memory.size // KIB} KiB"))
    return rows + [("to make it fit", cut) for cut in result.memory.cuts]


def _instructions(count: Interval) -> str:
    """Writes what was counted in full, and what is estimated with its interval."""
    if count.low == count.high:
        return f"{count.value:,.0f} instructions"
    return format_interval(count, 1.0, "instructions")


def _memory_row(use: MemoryUse) -> tuple[str, str]:
    pieces = ", ".join(f"{piece.name} {piece.size}" for piece in use.pieces)
    left = f"{use.free} free" if use.free >= 0 else f"{-use.free} TOO LITTLE"
    where = f" ({' + '.join(use.regions)})" if use.regions else ""
    return use.name.upper() if use.name == "ram" else use.name, f"{pieces}; {left} of {use.size} B{where}"


def _as_json(result: ProjectEstimate) -> dict[str, object]:
    day = result.day
    return {
        "target": result.target.name,
        "clock_mhz": result.target.clock_mhz.value,
        "emulator": result.instructions.emulator,
        "instructions_per_inference": round(result.instructions_inference.value),
        "instructions_per_training_step": round(result.instructions_step.value),
        "instructions": {
            "source": result.instructions.source,
            "guessed": list(result.instructions.guessed),
            "inference": interval_json(result.instructions_inference),
            "training_step": interval_json(result.instructions_step),
        },
        "inference": dataclasses.asdict(result.inference),
        "training_step": dataclasses.asdict(result.step),
        "phases": [
            {"name": phase.name, "instructions": dict(phase.classes), **dataclasses.asdict(phase.cost)}
            for phase in result.phases
        ],
        "fine_tuning": None if result.tuning is None else dataclasses.asdict(result.tuning),
        "day": None if day is None else {**dataclasses.asdict(day), "sleep_of_part_alone": result.sleeps_alone},
        "battery_days": interval_json(result.battery_days),
        "memory": {
            "fits": result.memory.fits,
            "cuts": list(result.memory.cuts),
            **{use.name: _use(use) for use in (result.memory.flash, result.memory.ram)},
        },
    }


def _use(use: MemoryUse) -> dict[str, object]:
    return {
        "origin": use.origin,
        "bytes": use.size,
        "used": use.used,
        "free": use.free,
        "regions": list(use.regions),
        "pieces": {piece.name: piece.size for piece in use.pieces},
    }
