"""`rct-tflite export`: a trained model becomes an artifact folder."""

import dataclasses
from pathlib import Path

import click

from rct_tflite.cli.adapt_options import adaptation_options
from rct_tflite.cli.output import json_option, print_json, typed
from rct_tflite.cli.step_options import step_request_options
from rct_tflite.cli.update_options import UpdateRequest, print_search, show_progress, update_request_options
from rct_tflite.export.model_export import Export, ExportOptions, export_model
from rct_tflite.export.update_choice import search_record
from rct_tflite.planning.adaptation import AdaptationOptions
from rct_tflite.planning.error_width import told as errors_told
from rct_tflite.planning.options import StepRequest
from rct_tflite.planning.recomputation import AUTO
from rct_tflite.planning.recomputation import told as again_told
from rct_tflite.planning.selection import told
from rct_tflite.spec.training_plan import Loss


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", required=True, help="Target of 'rct-tflite targets', or a .toml file of your own.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@update_request_options
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
@click.option(
    "--error-bits",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Bit-width of the errors of the backward pass; 16 take twice their RAM. The export says which to take.",
)
@click.option(
    "--recompute",
    default=AUTO,
    show_default=True,
    metavar="WHICH",
    help="Activations that are computed again in the backward pass in place of being kept: none; auto: where the plan "
    "would not fit otherwise; N%: for the smallest RAM within N % more instructions of a training step.",
)
@click.option("--labels", help="Names of the classes, with commas; they travel in the .tflite.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
@step_request_options
@adaptation_options
def command(
    model: Path,
    target: str,
    out: Path,
    update: UpdateRequest,
    learning_rate: float | None,
    loss: str | None,
    data: Path | None,
    error_bits: str,
    recompute: str,
    labels: str | None,
    force: bool,
    as_json: bool,
    step: StepRequest,
    adaptation: AdaptationOptions | None,
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
      rct-tflite export kws.keras --target cortex-m4 --out build/kws --adapt-bits 4:8 --budget 12000
      rct-tflite export kws.tflite --target cortex-m4 --out build/kws --train last:2 --weight-bits 12
    """
    names = tuple(name.strip() for name in labels.split(",")) if labels else ()
    options = ExportOptions(
        update.train,
        learning_rate,
        data,
        names,
        force,
        loss,
        step,
        update.samples,
        update.limits,
        int(error_bits),
        adaptation,
        update.weight_bits,
        recompute,
    )
    result = export_model(model, target, out, options, show_progress)
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)


def _as_json(result: Export) -> dict[str, object]:
    need, again = result.need, result.recomputation
    return {
        "folder": str(result.folder),
        "target": result.target.name,
        "trained": list(result.plan.trained),
        "partial": {part.op: list(part.channels) for part in result.plan.partial},
        "search": None if result.search is None else search_record(result.search),
        "learning_rate": result.plan.learning_rate,
        "loss": str(result.plan.loss),
        "adaptation": None if result.plan.adaptation is None else dataclasses.asdict(result.plan.adaptation),
        "errors": None if result.errors is None else dataclasses.asdict(result.errors),
        "recomputation": None
        if again is None
        else {
            "ops": list(again.plan.recomputed),
            "arena_bytes_if_kept": again.kept_bytes,
            "instructions_estimate": again.instructions,
            "share_of_step": again.share,
        },
        "bits": {op.name: result.graph.bits_of(op) for op in result.graph.ops if op.has_weights},
        "ram_bytes": {
            "arena": need.arena,
            "parameters": need.parameters,
            "state": need.state,
            **{extra.name: extra.size for extra in need.extras},
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
    extras = "".join(f"{extra.name} {extra.size}, " for extra in need.extras)
    click.echo(f"Exported '{graph.name}' for {result.target.name} to {result.folder}")
    click.echo(f"  bits      {bits}")
    if result.search is not None:
        print_search(result.search)
    what = f"{told(plan)} (learning rate {plan.learning_rate:g}, {plan.loss})" if plan.trained else "nothing"
    click.echo(f"  learns    {what}")
    if plan.adaptation is not None:
        a = plan.adaptation
        click.echo(
            f"  adapts    {', '.join(a.layers)}: {a.min_bits} to {a.max_bits} bits in {a.budget_bytes} B, every "
            f"{a.interval} steps, Gavg {a.t_min:g} to {a.t_max:g}"
        )
    if result.errors is not None:
        click.echo(f"  errors    {errors_told(result.errors)}")
    if result.recomputation is not None:
        click.echo(f"  again     {again_told(result.recomputation)}")
    click.echo(
        f"  RAM       {need.ram} of {result.target.ram.size} B: arena {need.arena}, parameters {need.parameters}, "
        f"state {need.state}, {extras}stack {need.stack}, application {need.application}"
    )
    if plan.trained:
        alone = result.inference
        click.echo(f"  inference {alone.ram} B of RAM if nothing learnt: arena {alone.arena}")
    click.echo(
        f"  flash     {need.flash_weights} B of weights, about {need.flash_code} B of code, tables and self-test "
        "vectors"
    )
    click.echo(f"  arena     {result.micro.arena.smallest_bytes} B in TFLite-Micro (inference only, 64-bit host)")
    click.echo(f"Next: rct-tflite build {typed(result.folder)} && rct-tflite run {typed(result.folder)}")
