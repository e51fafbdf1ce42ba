"""`rct-tflite build`: compiles an exported folder."""

from pathlib import Path

import click

from rct_tflite.cli.output import json_option, print_json, typed
from rct_tflite.firmware.build import build_project
from rct_tflite.firmware.manifest import read_project
from rct_tflite.firmware.toolchain import HOST


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--toolchain",
    type=click.Choice(["auto", "gcc", "zig"]),
    default="auto",
    show_default=True,
    help="auto takes arm-none-eabi-gcc where it is on the PATH, else the ziglang package.",
)
@click.option("--host", is_flag=True, help="Build for this computer instead: it answers on stdin and stdout.")
@json_option
def command(folder: Path, toolchain: str, host: bool, as_json: bool) -> None:
    """Compile FOLDER, which 'rct-tflite export' wrote, for its target.

    \b
    Example:
      rct-tflite build build/kws
    """
    project = read_project(folder)
    core = HOST if host else project.target.core
    report = build_project(folder, core, toolchain)
    sizes, stack = report.sizes, report.stack
    if as_json:
        memory = None
        if sizes is not None and stack is not None:
            memory = {"flash_bytes": sizes.flash_bytes, "ram_bytes": sizes.ram_bytes, "stack_bound": stack.stack_bytes}
        print_json({"image": str(report.image), "core": core, "toolchain": report.toolchain, "sizes": memory})
        return
    click.echo(f"Built {report.image} for {core} with {report.toolchain}")
    if sizes is not None and stack is not None:
        click.echo(f"  flash  {sizes.flash_bytes} B: code {sizes.text}, constants {sizes.rodata}")
        click.echo(f"  RAM    {sizes.ram_bytes} B: variables {sizes.data + sizes.bss}, stack {sizes.stack}")
        click.echo(f"  stack  at most {stack.stack_bytes} of {sizes.stack} B, by {' > '.join(stack.chain)}")
        click.echo(f"Next: rct-tflite run {typed(folder)}")
