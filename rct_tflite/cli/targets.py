"""`rct-tflite targets`: the known microcontrollers, and where each number comes from."""

import dataclasses
import textwrap

import click

from rct_tflite.cli.output import json_option, print_json
from rct_tflite.spec.target import Quantity
from rct_tflite.spec.target_file import TargetFile, list_targets, read_target_file, target_path

KIB = 1024
TEXT_WIDTH = 96
UNITS = (
    ("_mw_per_mhz", "mW/MHz"),
    ("_ua_per_mhz", "uA/MHz"),
    ("ua_per_mhz", "uA/MHz"),
    ("_mhz", "MHz"),
    ("_uj_per_byte", "uJ/B"),
    ("_nj_per_byte", "nJ/B"),
    ("_us_per_byte", "us/B"),
    ("voltage_v", "V"),
    ("sleep_uw", "uW"),
    ("size", "bytes"),
    ("bytes", "bytes"),
    ("wait_states", "clocks"),
    ("cycles_per_instruction", "cycles per instruction"),
)
"""End of a name, and its unit; the first that fits counts."""
TABLE_UNITS = {"cpi": "cycles per instruction", "power": "times the mean power"}


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the known targets, or explain one: each number with its interval and source.

    NAME is a target of the list, or the path of your own .toml file. To describe your own board, copy the file
    that `rct-tflite targets NAME` names, change it, and give its path wherever a target is asked for.

    \b
    Examples:
      rct-tflite targets
      rct-tflite targets stm32h743
      rct-tflite targets my_board.toml --json
    """
    if name is None:
        files = [read_target_file(target_path(known)) for known in list_targets()]
        if as_json:
            print_json({"targets": [_as_json(file) for file in files]})
        else:
            _print_table(files)
        return
    file = read_target_file(target_path(name))
    if as_json:
        print_json(_as_json(file))
    else:
        _print_explanation(file)


def _as_json(file: TargetFile) -> dict[str, object]:
    return {
        "name": file.target.name,
        "description": file.target.description,
        "core": file.target.core,
        "file": str(file.path),
        "quantities": {
            name: {**dataclasses.asdict(quantity), "unit": _unit(name), "inherited": name in file.inherited}
            for name, quantity in file.quantities
        },
        "regulator": "linear" if file.target.linear_regulator else "switched",
        "regions": [
            {"name": region.name, "kind": region.kind, **dataclasses.asdict(region.memory)}
            for region in file.target.regions
        ],
    }


def _print_table(files: list[TargetFile]) -> None:
    click.echo(f"{'target':<13} {'flash':>8} {'RAM':>8} {'clock':>8}  {'mW/MHz (interval)':<20}  description")
    for file in files:
        target, power = file.target, file.target.active_mw_per_mhz
        interval = f"{power.value:.2g} ({power.low:.2g} to {power.high:.2g})"
        click.echo(
            f"{target.name:<13} {target.flash.size // KIB:>4} KiB {target.ram.size // KIB:>4} KiB "
            f"{target.clock_mhz.value:>4g} MHz  {interval:<20}  {target.description}"
        )
    click.echo("\nExplain one target's numbers: rct-tflite targets NAME")


def _print_explanation(file: TargetFile) -> None:
    click.echo(f"{file.target.name}: {file.target.description}\ncore: {file.target.core}\nfile: {file.path}")
    for region in file.target.regions:
        memory = region.memory
        click.echo(f"{region.kind}: {region.name}, 0x{memory.origin:08x}, {memory.size // KIB} KiB")
    for name, quantity in file.quantities:
        origin = f", of {file.target.core}" if name in file.inherited else ""
        click.echo(f"\n{name} = {_value(name, quantity)} ({quantity.confidence}{origin})")
        click.echo(_indented(quantity.source))


def _indented(text: str) -> str:
    margin = "    "
    return textwrap.fill(text, TEXT_WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _value(name: str, quantity: Quantity) -> str:
    if name.endswith("origin"):
        return f"0x{int(quantity.value):08x}"
    text = f"{quantity.value:.12g} {_unit(name)}"
    if quantity.low == quantity.high:
        return text
    return f"{text}, between {quantity.low:g} and {quantity.high:g}"


def _unit(name: str) -> str:
    table = name.partition(".")[0]
    if table in TABLE_UNITS:
        return TABLE_UNITS[table]
    return next((unit for end, unit in UNITS if name.endswith(end)), "")
