"""`rct-tflite report`: what a training's log tells, as a picture and a table."""

from dataclasses import asdict
from pathlib import Path

import click

from rct_tflite.cli.output import json_option, print_json
from rct_tflite.export.run_picture import SUFFIXES, draw_run
from rct_tflite.export.run_summary import RunSummary, WeightSummary, summarize
from rct_tflite.spec.run_log import Value, find_run_log, read_run_log


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Picture to write, {' or '.join(SUFFIXES)}.  [default: beside the log, .png]",
)
@json_option
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Draw RUN, the log of a training, and print how it ended.

    RUN is the .jsonl or .csv file that rct.RCTCallback(log=...) writes, or a folder that holds one. The picture shows
    loss, accuracy, and for each layer bits, Gavg between its thresholds, underflow and saturation; then parameter
    bytes and the paper's energy models, and the accuracy for the energy spent so far, at which average bits.

    \b
    Examples:
      rct-tflite report run.jsonl
      rct-tflite report runs/kws --out kws.svg --json
    """
    path = find_run_log(run)
    log = read_run_log(path)
    picture = out or path.with_suffix(".png")
    draw_run(log, picture)
    summary = summarize(log)
    if as_json:
        print_json({"log": str(path), "picture": str(picture), **asdict(summary)})
        return
    steps = "" if summary.steps is None else f", {summary.steps:,} training steps"
    click.echo(f"{path}: {summary.epochs} epochs{steps}")
    _print_results(summary)
    _print_weights(summary.weights)
    _print_costs(summary)
    click.echo(f"  picture     {picture}")


def _print_results(summary: RunSummary) -> None:
    values = [f"{name} {value:.4f}" for name, value in summary.logs.items() if value is not None]
    if values:
        click.echo(f"  result      {', '.join(values)}")


def _print_weights(weights: tuple[WeightSummary, ...]) -> None:
    if not weights:
        return
    width = max(10, *(len(weight.name) for weight in weights))
    click.echo(f"  {'weight':<{width}}  {'bits':>8}  {'Gavg':>8}  {'its band':>16}  {'underflow':>9}  {'saturated':>9}")
    for weight in weights:
        bits = f"{weight.first_bits} -> {weight.bits}" if weight.first_bits != weight.bits else f"{weight.bits}"
        band = f"{_short(weight.t_min)} to {_short(weight.t_max)}"
        click.echo(
            f"  {weight.name:<{width}}  {bits:>8}  {_short(weight.gavg):>8}  {band:>16}  "
            f"{_percent(weight.underflow):>9}  {_percent(weight.saturated):>9}"
        )


def _print_costs(summary: RunSummary) -> None:
    size = summary.parameter_bytes
    if summary.bits is not None:
        click.echo(f"  bits        {summary.bits:.2f} on average")
    if size is not None and summary.float32_bytes and summary.qat_bytes:
        of_float32, of_qat = _percent(size / summary.float32_bytes), _percent(size / summary.qat_bytes)
        click.echo(f"  parameters  {size:,} B: {of_float32} of float32, {of_qat} of QAT (8 + 32 bits)")
    if summary.optimizer_bytes:
        click.echo(f"  momentum    {summary.optimizer_bytes:,} B")
    if summary.gemm_energy or summary.moved_bits:
        click.echo("  the paper's models of the whole training (no energy of a microcontroller):")
    for model, share in summary.gemm_energy.items():
        click.echo(f"    GEMM energy, {model:<13} {_percent(share):>7} of float32")
    for accesses, share in summary.moved_bits.items():
        click.echo(f"    moved bits, {accesses} accesses    {_percent(share):>7} of QAT")


def _short(value: Value) -> str:
    return "?" if value is None else f"{value:.3g}"


def _percent(share: Value) -> str:
    return "?" if share is None else f"{share:.1%}"
