"""The command `rct-tflite`: a group that imports a command's module only when that command is asked for."""

import difflib
import importlib
import signal
import sys
from types import FrameType

import click

from rct_tflite.errors import RCTError

COMMANDS = {
    "report": "Draw the log of a training: bits, Gavg, underflow, bytes, energy.",
    "compare": "Train one architecture in float32, with QAT and on integers only, side by side.",
    "export": "Write a trained .keras model as .tflite and C project for a target.",
    "build": "Compile an exported project for its target.",
    "run": "Run a built project on an emulated core: results, instructions, energy.",
    "estimate": "Estimate time, energy, battery life and memory of an exported folder.",
    "inspect": "Show what a .tflite file holds.",
    "calibrate": "Measure your own board: benchmark firmware, power trace, target file.",
    "targets": "List the microcontrollers, or explain one target's numbers.",
}
"""The commands in the order of work, each a module of its name in this folder that exposes `command`. The texts
stand here, so that listing them imports none of the modules."""

EXTRA_OF = {
    "keras": "train",
    "tensorflow": "train",
    "tensorflow_model_optimization": "qat",
    "tf_keras": "qat",
    "unicorn": "emulate",
    "ziglang": "emulate",
    "matplotlib": "report",
    "sklearn": "demo",
}
"""The optional part of the installation that brings a package."""


class LazyGroup(click.Group):
    """A click group over `COMMANDS` that turns our errors into one line on stderr and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"rct_tflite.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or names the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"Unknown command. Expected one of {', '.join(COMMANDS)}. Received: {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except RCTError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = EXTRA_OF.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"This command needs the Python package {error.name!r}, which is not installed. "
                f'Install it with: pip install "rct-tflite[{extra}]"'
            ) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rct-tflite", prog_name="rct-tflite")
def cli() -> None:
    """Train quantised-only in Keras, ship to a microcontroller, keep training there.

    \b
    From Keras to the board:
      1. in Python         model = rct.quantize(keras_model); model.fit(...); model.save("kws.keras")
      2. choose a target   rct-tflite targets
      3. export            rct-tflite export kws.keras --target cortex-m7 --out build/kws
      4. compile           rct-tflite build build/kws
      5. try, emulated     rct-tflite run build/kws

    Build for your own board with the C project that step 3 writes. Every command explains itself with --help,
    and prints one JSON object with --json.
    """


def _stop(number: int, _frame: FrameType | None) -> None:
    """Ends the program as an error does, so that half-written folders and child processes go too."""
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the installed command."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _stop)
    cli(prog_name="rct-tflite")


if __name__ == "__main__":
    main()
