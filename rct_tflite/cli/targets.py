"""`rct-tflite targets`: the known microcontrollers, and where each number comes from."""

import dataclasses
import textwrap

import click

from rct_tflite.cli.output import json_option, print_json
from rct_tflite.spec.target import Quantity
from rct_tflite.spec.target_file import TargetFile, list_targets, read_target_file, target_path

KIB = 1024
TEXT_WIDTH = 96
UNITS = {
    "flash.origin": "",
    "flash.size": "bytes",
    "ram.origin": "",
    "ram.size": "bytes",
    "stack_bytes": "bytes",
    "clock_mhz": "MHz",
    "cycles_per_instruction": "cycles per instruction",
    "active_mw_per_mhz": "mW/MHz",
}


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
            name: {**dataclasses.asdict(quantity), "unit": UNITS[name]} for name, quantity in file.quantities
        },
    }


def _print_table(files: list[TargetFile]) -> None:
    click.echo(f"{'target':<11} {'flash':>8} {'RAM':>8} {'clock':>8}  {'mW/MHz (interval)':<20}  description")
    for file in files:
        target, power = file.target, file.target.active_mw_per_mhz
        interval = f"{power.value:.2f} ({power.low:.2f} to {power.high:.2f})"
        click.echo(
            f"{target.name:<11} {target.flash.size // KIB:>4} KiB {target.ram.size // KIB:>4} KiB "
            f"{target.clock_mhz.value:>4g} MHz  {interval:<20}  {target.description}"
        )
    click.echo("\nExplain one target's numbers: rct-tflite targets NAME")


def _print_explanation(file: TargetFile) -> None:
    click.echo(f"{file.target.name}: {file.target.description}\ncore: {file.target.core}\nfile: {file.path}")
    for name, quantity in file.quantities:
        click.echo(f"\n{name} = {_value(name, quantity)} ({quantity.confidence})")
        click.echo(_indented(quantity.source))


def _indented(text: str) -> str:
    margin = "    "
    return textwrap.fill(text, TEXT_WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _value(name: str, quantity: Quantity) -> str:
    if name.endswith("origin"):
        return f"0x{int(quantity.value):08x}"
    text = f"{quantity.value:.12g} {UNITS[name]}"
    if quantity.low == quantity.high:
        return text
    return f"{text}, between {quantity.low:g} and {quantity.high:g}"
