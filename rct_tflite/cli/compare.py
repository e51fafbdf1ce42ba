"""`rct-tflite compare`: one architecture, trained in every way, on the user's data."""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from rct_tflite.errors import DataError, ModelFileError

if TYPE_CHECKING:
    from rct_tflite.training.contenders import Samples

TRAIN_SHARE = 0.8
"""Of `x` and `y`, where a file holds no test samples."""


@click.command()
@click.option("--model", "function", required=True, metavar="FILE.py:FUNCTION", help="Builds the float Keras model.")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An .npz of x_train, y_train, x_test, y_test; or of x and y, of which a fifth is set apart for the test.",
)
@click.option("--methods", help="With commas.  [default: float32,qat,rct-stochastic,rct-truncate,fixed-4,...6,...8]")
@click.option("--epochs", default=10, show_default=True, help="Of each training.")
@click.option("--batch-size", default=32, show_default=True, help="Samples in a step.")
@click.option("--learning-rate", default=0.1, show_default=True, help="At the start; it falls to 0 on half a cosine.")
@click.option("--seeds", default=1, show_default=True, help="Trainings of each method.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, allow_dash=True), help="Write the rows; - prints.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the comparison, .png or .svg.")
def command(
    function: str,
    data: Path,
    methods: str | None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seeds: int,
    json_file: str | None,
    picture: Path | None,
) -> None:
    """Train one architecture in float32, with QAT and on integers only, and compare.

    FUNCTION returns a fresh Keras 3 model that ends in logits (or in the predicted values, where the labels are
    floats). All methods see the same batches with the same schedule. QAT is tensorflow-model-optimization's.

    \b
    Example:
      rct-tflite compare --model model.py:build --data data.npz --epochs 5 --seeds 3 --picture compare.png
    """
    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise DataError(f"Expected a picture file that ends in .png or .svg. Received: {str(picture)!r}.")
    build, samples = load_function(function), load_samples(data)
    # Imported only now: --help and mistakes in the options need no TensorFlow.
    from rct_tflite.training.comparison import compare
    from rct_tflite.training.comparison_report import draw, table
    from rct_tflite.training.contenders import DEFAULT_METHODS, Schedule

    names = [name.strip() for name in methods.split(",")] if methods else list(DEFAULT_METHODS)
    schedule = Schedule(epochs, batch_size, learning_rate)
    rows = compare(build, samples, methods=names, schedule=schedule, seeds=seeds, progress=_progress(epochs))
    result = {"model": function, "data": str(data), "schedule": asdict(schedule), "rows": [asdict(row) for row in rows]}
    if json_file == "-":
        click.echo(json.dumps(result, indent=2, allow_nan=False))
    else:
        click.echo(table(rows))
        if json_file:
            Path(json_file).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    if picture is not None:
        draw(rows, picture)


def _progress(epochs: int) -> Callable[[str, int], None]:
    """Shows on stderr how far a training is: a line that is written anew, or one line a training into a file."""
    interactive = sys.stderr.isatty()

    def show(method: str, done: int) -> None:
        last = done == epochs
        if interactive or last:
            start = "\r" if interactive else ""
            click.echo(f"{start}{method}: epoch {done} of {epochs} ", nl=last, err=True)

    return show


def load_function(reference: str) -> Callable[..., Any]:
    """Imports a function of a Python file.

    Args:
        reference: "file.py:function".

    Raises:
        ModelFileError: If the file or the function is not there, or the file fails.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not file or not name or path.suffix != ".py":
        raise ModelFileError(f"Expected --model FILE.py:FUNCTION. Received: {reference!r}.")
    if not path.is_file():
        raise ModelFileError(f"The file of --model is not there. Expected a Python file. Received: {file!r}.")
    import rct_tflite.training  # noqa: F401 (before the file imports Keras: its settings are read only once)

    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise ModelFileError(
            f"The file of --model cannot be imported. Received: {type(error).__name__}: {error} in {file!r}."
        ) from error
    function: object = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(sorted(key for key, value in vars(module).items() if callable(value) and key[0] != "_"))
        raise ModelFileError(
            f"Expected a function of {file!r}: {known or 'it has none'}. Received: {name!r}, "
            f"{'not there' if function is None else 'a ' + type(function).__name__}."
        )
    return function


def load_samples(path: Path) -> "Samples":
    """Reads training and test samples.

    Raises:
        DataError: If the file cannot be read, or lacks an array.
    """
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"Cannot read {str(path)!r}. Expected an .npz file of arrays. Received: {error}.") from error
    names = ("x_train", "y_train", "x_test", "y_test")
    if not all(name in arrays for name in names):
        if not {"x", "y"} <= set(arrays) or len(arrays["x"]) != len(arrays["y"]):
            raise DataError(
                f"Expected arrays {', '.join(names)} in {str(path)!r}, or x and y of the same length. "
                f"Received: { {name: array.shape for name, array in arrays.items()} }."
            )
        order = np.random.default_rng(0).permutation(len(arrays["x"]))
        train, test = np.split(order, [round(TRAIN_SHARE * len(order))])
        x, y = arrays["x"], arrays["y"]
        arrays = dict(zip(names, (x[train], y[train], x[test], y[test]), strict=True))
    from rct_tflite.training.contenders import Samples

    return Samples(*(arrays[name] for name in names))
