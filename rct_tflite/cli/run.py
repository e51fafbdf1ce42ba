"""`rct-tflite run`: runs an exported folder on an emulated core."""

import collections
from pathlib import Path

import click

from rct_tflite.cli.output import format_cost, interval_json, json_option, print_json
from rct_tflite.energy.estimate import Estimate
from rct_tflite.firmware.aided_session import AidReport, AidWishes
from rct_tflite.firmware.run import RunOptions, RunReport, run_project

_SAMPLES = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--test", type=_SAMPLES, help="Labelled samples (.npz with x, y) to score before and after learning.")
@click.option("--learn", type=_SAMPLES, help="Labelled samples (.npz with x, y) to learn from, in their order.")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Passes over --learn.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the tuned .tflite here.")
@click.option("--replay", type=click.IntRange(0), default=0, help="Samples of the buffer to replay after each new one.")
@click.option(
    "--patience", type=click.IntRange(1, 65535), help="Stop when as many evaluations of held samples are no better."
)
@click.option("--toolchain", type=click.Choice(["auto", "gcc", "zig"]), default="auto", show_default=True)
@click.option("--emulator", type=click.Choice(["auto", "qemu", "unicorn"]), default="auto", show_default=True)
@json_option
def command(
    folder: Path,
    test: Path | None,
    learn: Path | None,
    epochs: int,
    save: Path | None,
    replay: int,
    patience: int | None,
    toolchain: str,
    emulator: str,
    as_json: bool,
) -> None:
    """Build FOLDER, run it on an emulated core, and tell what it costs.

    The firmware checks itself with golden vectors, scores --test, learns from --learn, scores again. Instructions
    and stack are counted, not guessed; time and energy are estimates of the target, with their intervals.
    --replay and --patience need an export with --replay or --keep-best: every fifth sample of a class is held.

    \b
    Examples:
      rct-tflite run build/kws
      rct-tflite run build/kws --test test.npz --learn mine.npz --epochs 3 --save tuned.tflite
      rct-tflite run build/kws --learn mine.npz --epochs 20 --replay 1 --patience 3
    """
    report = run_project(
        folder, RunOptions(test, learn, epochs, save, toolchain, emulator, AidWishes(replay, patience))
    )
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)


def _as_json(report: RunReport) -> dict[str, object]:
    memory = report.memory
    return {
        "target": report.target,
        "toolchain": report.build.toolchain,
        "emulator": report.cost.emulator,
        "accuracy_before": report.accuracy_before,
        "accuracy_after": report.accuracy_after,
        "error_before": report.error_before,
        "error_after": report.error_after,
        "training_steps": report.lessons,
        "instructions_per_inference": report.cost.inference,
        "instructions_per_training_step": report.cost.step,
        "ram_bytes": {
            "arena": memory.arena,
            "parameters": memory.parameters,
            "state": memory.state,
            **{extra.name: extra.size for extra in memory.extras},
            "application": memory.application,
            "stack_used": memory.stack_used,
            "stack_bound": memory.stack_bound,
            "stack_reserved": memory.stack_reserved,
        },
        "flash_bytes": {"code_and_tables": memory.code, "weights": memory.weights_flash},
        "inference": _cost_json(report.inference),
        "training_step": _cost_json(report.step),
        "functions": dict(report.cost.functions),
        **({} if report.aids is None else {"aids": _aids_json(report.aids)}),
    }


def _aids_json(aids: AidReport) -> dict[str, object]:
    return {
        "held_samples": aids.held,
        "held_scores": list(aids.scores),
        "stopped_early": aids.stopped,
        "best_evaluation": aids.best,
        "confusion": None if aids.confusion is None else aids.confusion.tolist(),
        "replay_labels": list(aids.stored),
    }


def _print_aids(aids: AidReport) -> None:
    if aids.best is not None:
        scores = ", ".join(map(str, aids.scores))
        click.echo(f"  held samples         {aids.held}, right in each epoch (or differences): {scores}")
        ending = "stopped early" if aids.stopped else "all epochs"
        click.echo(f"  best weights         of epoch {aids.best + 1}, gone back to; {ending}")
    if aids.stored:
        counts = collections.Counter(aids.stored)
        told = ", ".join(f"{label}: {counts[label]}" for label in sorted(counts))
        click.echo(f"  replay buffer        {len(aids.stored)} samples, by class {told}")


def _cost_json(cost: Estimate) -> dict[str, object]:
    return {"time_s": interval_json(cost.time_s), "energy_j": interval_json(cost.energy_j)}


def _print(report: RunReport) -> None:
    memory = report.memory
    click.echo(f"{report.target}, built with {report.build.toolchain}, run on {report.cost.emulator}")
    click.echo("  self-test            golden vectors equal")
    if report.accuracy_before is not None and report.accuracy_after is not None:
        click.echo(
            f"  accuracy             {report.accuracy_before:.1%} before, {report.accuracy_after:.1%} after "
            f"{report.lessons} training steps"
        )
    if report.error_before is not None and report.error_after is not None:
        click.echo(
            f"  mean error           {report.error_before:.4g} before, {report.error_after:.4g} after "
            f"{report.lessons} training steps"
        )
    if report.aids is not None:
        _print_aids(report.aids)
    costs = [("inference", report.cost.inference, report.inference)]
    if report.tuning.info.parameter_bytes:
        costs.append(("training step", report.cost.step, report.step))
    for name, count, cost in costs:
        click.echo(f"  {name:<20} {count:,} instructions, {format_cost(cost)}")
    extras = "".join(f"{extra.name} {extra.size}, " for extra in memory.extras)
    click.echo(
        f"  RAM                  arena {memory.arena}, parameters {memory.parameters}, state {memory.state}, "
        f"{extras}application {memory.application}, "
        f"stack {memory.stack_used}, at most {memory.stack_bound} of {memory.stack_reserved} B"
    )
    click.echo(f"  flash                weights {memory.weights_flash}, code and tables {memory.code} B")
