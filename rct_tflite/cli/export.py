"""`rct-tflite export`: a trained model becomes an artifact folder."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from rct_tflite.cli.output import json_option, print_json, typed
from rct_tflite.errors import RecipeError
from rct_tflite.export.model_export import Export, ExportOptions, export_model
from rct_tflite.planning.adaptation import DEFAULT_INTERVAL, AdaptationOptions
from rct_tflite.spec.training_plan import Loss


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", required=True, help="Target of 'rct-tflite targets', or a .toml file of your own.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--train", default="all", show_default=True, help="What learns on the device: all, or last:N layers.")
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
@click.option("--adapt-bits", help="Let bit-widths follow the training on the device, within MIN:MAX.")
@click.option("--adapt-layers", help="Layers whose width may change, with commas.  [default: all that learn]")
@click.option("--budget", type=int, help="Most bytes of the weights that learn, packed.  [default: room for MAX bits]")
@click.option("--interval", type=int, help=f"Training steps between two decisions.  [default: {DEFAULT_INTERVAL}]")
@click.option(
    "--t-min", type=float, help="Gavg below which a layer gets a bit.  [default: 0.3 (truncation: 4) / learning rate]"
)
@click.option("--t-max", type=float, help="Gavg above which a layer gives one back.  [default: 4 times --t-min]")
@click.option("--labels", help="Names of the classes, with commas; they travel in the .tflite.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def command(
    model: Path,
    target: str,
    out: Path,
    train: str,
    learning_rate: float | None,
    loss: str | None,
    data: Path | None,
    labels: str | None,
    force: bool,
    as_json: bool,
    **adaptation: str | int | float | None,
) -> None:
    """Write MODEL as .tflite, TFLite-Micro artifacts and a C project that learns.

    MODEL is a .keras file that was trained with rct.quantize(), or any int8 .tflite of the supported ops. The
    folder gets model.tflite, tflite-micro/ (for inference in a TFLite-Micro project) and firmware/ (C99 that runs
    and trains the same integers).

    \b
    Examples:
      rct-tflite export kws.keras --target cortex-m7 --out build/kws
      rct-tflite export kws.tflite --target stm32h743 --out build/kws --train last:2 --learning-rate 0.02
      rct-tflite export kws.keras --target cortex-m4 --out build/kws --adapt-bits 4:8 --budget 12000
    """
    names = tuple(name.strip() for name in labels.split(",")) if labels else ()
    adapt = _adaptation(adaptation)
    result = export_model(model, target, out, ExportOptions(train, learning_rate, data, names, force, loss, adapt))
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)


def _adaptation(chosen: Mapping[str, Any]) -> AdaptationOptions | None:
    """Reads the options of --adapt-bits.

    Raises:
        RecipeError: If there are some without it.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    if not given:
        return None
    if "adapt_bits" not in given:
        raise RecipeError(
            "These options say how bit-widths follow the training, but none may change. Expected --adapt-bits MIN:MAX "
            f"beside them. Received: {', '.join(f'--{name}'.replace('_', '-') for name in given)}. Try 4:8."
        )
    names = given.pop("adapt_layers", "").split(",")
    layers = tuple(name.strip() for name in names if name.strip())
    return AdaptationOptions(given.pop("adapt_bits"), layers, given.pop("budget", None), **given)


def _as_json(result: Export) -> dict[str, object]:
    need = result.need
    return {
        "folder": str(result.folder),
        "target": result.target.name,
        "trained": list(result.plan.trained),
        "learning_rate": result.plan.learning_rate,
        "loss": str(result.plan.loss),
        "adaptation": None if result.plan.adaptation is None else asdict(result.plan.adaptation),
        "bits": {op.name: result.graph.bits_of(op) for op in result.graph.ops if op.has_weights},
        "ram_bytes": {
            "arena": need.arena,
            "parameters": need.parameters,
            "state": need.state,
            "stack": need.stack,
            "application": need.application,
            "total": need.ram,
            "available": result.target.ram.size,
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
    click.echo(f"  learns    {', '.join(plan.trained)} (learning rate {plan.learning_rate:g}, {plan.loss})")
    if plan.adaptation is not None:
        a = plan.adaptation
        click.echo(
            f"  adapts    {', '.join(a.layers)}: {a.min_bits} to {a.max_bits} bits in {a.budget_bytes} B, every "
            f"{a.interval} steps, Gavg {a.t_min:g} to {a.t_max:g}"
        )
    click.echo(
        f"  RAM       {need.ram} of {result.target.ram.size} B: arena {need.arena}, parameters {need.parameters}, "
        f"state {need.state}, stack {need.stack}, application {need.application}"
    )
    click.echo(f"  flash     {need.flash_weights} B of weights, about {need.flash_code} B of code and tables")
    click.echo(f"  arena     {result.micro.arena.smallest_bytes} B in TFLite-Micro (inference only, 64-bit host)")
    click.echo(f"Next: rct-tflite build {typed(result.folder)} && rct-tflite run {typed(result.folder)}")
