"""`rct-tflite export`: a trained model becomes an artifact folder."""

from pathlib import Path

import click

from rct_tflite.cli.output import Size, json_option, print_json, typed
from rct_tflite.export.model_export import Export, ExportOptions, export_model
from rct_tflite.export.update_choice import search_record
from rct_tflite.planning.search import CRITERION, Limits, Search
from rct_tflite.planning.selection import told
from rct_tflite.spec.training_plan import Loss


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", required=True, help="Target of 'rct-tflite targets', or a .toml file of your own.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--train",
    default="all",
    show_default=True,
    help="What learns on the device: all, last:N layers, bias, none, auto, or names of layers with commas between. "
    "NAME:bias are a layer's biases, NAME:K or NAME:0.25 also the weights of some of its output channels.",
)
@click.option(
    "--samples",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Labelled samples, .npz (x, y), that tell which layers and channels are worth learning.",
)
@click.option("--ram", type=Size(), help="With --train auto: bytes of RAM, stack included; 96K are 98,304.")
@click.option("--flash", type=Size(), help="With --train auto: bytes of flash.")
@click.option(
    "--time-per-step", type=click.FloatRange(0, min_open=True), metavar="MS", help="With --train auto: estimated."
)
@click.option(
    "--energy-per-step", type=click.FloatRange(0, min_open=True), metavar="UJ", help="With --train auto: estimated."
)
@click.option(
    "--learning-rate", type=float, help="Learning rate on the device.  [default: that in the .tflite, else 0.01]"
)
@click.option(
    "--loss",
    type=click.Choice([str(loss) for loss in Loss]),
    help="What a training step makes smaller.  [default: that in the .tflite, else softmax_cross_entropy]",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Representative samples, .npz (x, y) or .npy, for the golden vectors.  [default: random]",
)
@click.option("--labels", help="Names of the classes, with commas; they travel in the .tflite.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def command(
    model: Path,
    target: str,
    out: Path,
    train: str,
    samples: Path | None,
    ram: int | None,
    flash: int | None,
    time_per_step: float | None,
    energy_per_step: float | None,
    learning_rate: float | None,
    loss: str | None,
    data: Path | None,
    labels: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write MODEL as .tflite, TFLite-Micro artifacts and a C project that learns.

    MODEL is a .keras file that was trained with rct.quantize(), or any int8 .tflite of the supported ops. The
    folder gets model.tflite, tflite-micro/ (for inference in a TFLite-Micro project) and firmware/ (C99 that runs
    and trains the same integers).

    \b
    Examples:
      rct-tflite export kws.keras --target cortex-m7 --out build/kws
      rct-tflite export kws.tflite --target stm32h743 --out build/kws --train last:2 --learning-rate 0.02
      rct-tflite export kws.tflite --target stm32h743 --out build/kws --train conv3:0.25,dense
      rct-tflite export kws.tflite --target stm32h743 --out build/kws --train auto --ram 64K --samples mine.npz
    """
    names = tuple(name.strip() for name in labels.split(",")) if labels else ()
    time_s = None if time_per_step is None else 1e-3 * time_per_step
    energy_j = None if energy_per_step is None else 1e-6 * energy_per_step
    limits = Limits(ram, flash, time_s, energy_j)
    options = ExportOptions(train, learning_rate, data, names, force, loss, samples, limits)
    result = export_model(model, target, out, options)
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)


def _as_json(result: Export) -> dict[str, object]:
    need = result.need
    return {
        "folder": str(result.folder),
        "target": result.target.name,
        "trained": list(result.plan.trained),
        "partial": {part.op: list(part.channels) for part in result.plan.partial},
        "search": None if result.search is None else search_record(result.search),
        "learning_rate": result.plan.learning_rate,
        "loss": str(result.plan.loss),
        "bits": {op.name: result.graph.bits_of(op) for op in result.graph.ops if op.has_weights},
        "ram_bytes": {
            "arena": need.arena,
            "parameters": need.parameters,
            "state": need.state,
            "stack": need.stack,
            "application": need.application,
            "total": need.ram,
            "available": result.target.ram.size,
            "inference_alone": result.inference.ram,
        },
        "flash_bytes": {
            "weights": need.flash_weights,
            "code_estimate": need.flash_code,
            "available": result.target.flash.size,
        },
        "tflite_micro_arena_bytes": result.micro.arena.smallest_bytes,
    }


def _print(result: Export) -> None:
    need, graph = result.need, result.graph
    plan = result.plan
    bits = ", ".join(f"{op.name} {graph.bits_of(op)}" for op in graph.ops if op.has_weights)
    click.echo(f"Exported '{graph.name}' for {result.target.name} to {result.folder}")
    click.echo(f"  bits      {bits}")
    if result.search is not None:
        _print_search(result.search)
    what = f"{told(plan)} (learning rate {plan.learning_rate:g}, {plan.loss})" if plan.trained else "nothing"
    click.echo(f"  learns    {what}")
    click.echo(
        f"  RAM       {need.ram} of {result.target.ram.size} B: arena {need.arena}, parameters {need.parameters}, "
        f"state {need.state}, stack {need.stack}, application {need.application}"
    )
    if plan.trained:
        alone = result.inference
        click.echo(f"  inference {alone.ram} B of RAM if nothing learnt: arena {alone.arena}")
    click.echo(f"  flash     {need.flash_weights} B of weights, about {need.flash_code} B of code and tables")
    click.echo(f"  arena     {result.micro.arena.smallest_bytes} B in TFLite-Micro (inference only, 64-bit host)")
    click.echo(f"Next: rct-tflite build {typed(result.folder)} && rct-tflite run {typed(result.folder)}")


def _print_search(search: Search) -> None:
    click.echo(f"  searched  for the largest {CRITERION}")
    click.echo(f"    {'':<24} {'gain':>9} {'RAM, B':>8} {'ms':>8} {'uJ':>8}  learns")
    for candidate in search.candidates:
        mark = "*" if candidate is search.best else " " if candidate.fits else "-"
        cost = candidate.cost
        click.echo(
            f"  {mark} {candidate.name:<24.24} {candidate.gain:9.3g} {cost.ram:8} {1e3 * cost.time_s:8.3g} "
            f"{1e6 * cost.energy_j:8.3g}  {told(candidate.plan)}"
        )
    click.echo("    * is taken, - does not fit; time and energy are estimated from the multiplications")
