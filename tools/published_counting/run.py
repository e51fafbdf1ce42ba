"""Counts the instructions of published inference stacks on emulated cores; writes one table.

The generated C of the four models lies in the results of MLPerf Tiny v1.0 (OctoML) and v1.1 (Skymizer), the models of
the reference in those of v0.5, all sources of Renesas' in those of v0.7; they tell which CMSIS-NN was linked. They are
compiled as the submissions say, run once on numbers that are always the same, and counted from the call of the model
to its return. Nothing of the sources is kept but the counts.

./tools/count_published FOLDER    which holds git clones of tiny_results_v0.5, v0.7, v1.0 and v1.1,
                                  tensorflow_mbed_test and CMSIS_5
"""

import argparse
import csv
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is no part of the installed package

from rct_tflite.emulator import find_emulator  # noqa: E402
from rct_tflite.emulator.image import load_image  # noqa: E402
from rct_tflite.errors import EmulatorError, RCTError  # noqa: E402
from rct_tflite.spec.emulation import Mark  # noqa: E402
from tools.energy_evaluation.counted import COUNTS  # noqa: E402
from tools.published_counting.building import END, Builder, Built  # noqa: E402
from tools.published_counting.stacks import MODELS, STACKS, Stack, find_clones, repositories  # noqa: E402


@dataclass(frozen=True)
class Count:
    """Instructions of a layer, or of the whole model where `layer` is empty; that tells what was compiled, and how."""

    stack: str
    core: str
    model: str
    layer: str
    instructions: int
    sources: str = ""
    compiler: str = ""


def counts(stack: Stack, clones: Mapping[str, Path]) -> Iterator[Count]:
    """Builds and runs the models of a stack."""
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(stack, clones, Path(folder))
        sources = ", ".join(map(str, stack.pins))
        compiler = " ".join((builder.compiler, *stack.flags))
        for model in MODELS:
            built = builder.build(model)
            marks = _run(built, stack.core)
            yield Count(stack.name, stack.core, model, "", _between(marks[0], marks[-1]), sources, compiler)
            for layer, instructions in enumerate(_layers(marks, built)):
                yield Count(stack.name, stack.core, model, str(layer), instructions)


def _run(built: Built, core: str) -> list[Mark]:
    """Runs an image; returns the entries of its start, its steps, their kernels, and its end."""
    kept = {function.name for function in load_image(built.image).functions}
    marked = [name for name in (*built.steps, *built.kernels) if name in kept]
    profile = find_emulator(core, image=built.image).profile(built.image, b"", marks=[built.start, *marked, END])
    marks = list(profile.marks)
    if profile.run.exit_code != 0 or [marks[0].name, marks[-1].name] != [built.start, END]:
        raise EmulatorError(
            f"{built.image.name} did not run through. Expected exit status 0, and marks from {built.start} to {END}. "
            f"Received: {profile.run.exit_code}, {[mark.name for mark in marks]}."
        )
    return marks


def _layers(marks: list[Mark], built: Built) -> Iterator[int]:
    """Yields the instructions of each step that is a layer; a step lasts until the next one."""
    steps = [mark for mark in marks if mark.name in (*built.steps, END)]
    entered = [mark.instructions for mark in marks if mark.name in built.kernels]
    for step, following in itertools.pairwise(steps):
        if not built.kernels or any(step.instructions < inside < following.instructions for inside in entered):
            yield _between(step, following)


def _between(first: Mark, last: Mark) -> int:
    return last.instructions - first.instructions


def main(arguments: list[str] | None = None) -> int:
    """Counts and writes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools/count_published", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clones", type=Path, metavar="FOLDER", help="of the git clones")
    parser.add_argument("--table", type=Path, default=COUNTS, metavar="CSV", help="where to write")
    options = parser.parse_args(arguments)
    try:
        clones = find_clones(options.clones, repositories())
        rows = [count for stack in STACKS for count in counts(stack, clones)]
    except RCTError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    with options.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Count))
        writer.writerows(astuple(row) for row in rows)
    print(f"{options.table}: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
