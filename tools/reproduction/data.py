"""Where the data of the experiments come from: the shared folder, else Keras's downloads, else scikit-learn."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.errors import DataError

import keras  # isort: skip

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
Arrays = dict[str, npt.NDArray[Any]]
PARTS = ("x_train", "y_train", "x_test", "y_test")


def arrays_of(name: str, substitute: str) -> tuple[str, Arrays]:
    """Reads a data set.

    Args:
        name: File in the shared folder, without suffix.
        substitute: Data set of `keras.datasets` to download where that file is missing.

    Returns:
        What was read, and the arrays `x_train`, `y_train`, `x_test`, `y_test`.

    Raises:
        DataError: If neither can be had.
    """
    file = SHARED / f"{name}.npz"
    if file.is_file():
        with np.load(file) as archive:
            return name, {part: archive[part] for part in PARTS}
    sys.stderr.write(f"{file} is not there: taking keras.datasets.{substitute} (downloaded once, by Keras)\n")
    try:
        (x_train, y_train), (x_test, y_test) = _download(substitute)
    except Exception as error:  # whatever the network raises
        raise DataError(
            f"The data set {name!r} cannot be had. Expected the file {file}, or a download of "
            f"keras.datasets.{substitute}. Received: {error}. Use --quick, which needs no download."
        ) from error
    return f"keras.datasets.{substitute}", dict(zip(PARTS, (x_train, y_train, x_test, y_test), strict=True))


def _download(substitute: str) -> Any:
    if substitute != "imdb":
        return getattr(keras.datasets, substitute).load_data()
    parts = keras.datasets.imdb.load_data(num_words=5000)
    return [(keras.utils.pad_sequences(x, 64, "int32", "post", "post"), y) for x, y in parts]


def digits() -> Arrays:
    """Returns scikit-learn's handwritten digits as uint8 images of 8 x 8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = (bunch.images[order] * (255 / 16)).astype(np.uint8)
    labels = bunch.target[order].astype(np.int32)
    return dict(zip(PARTS, (images[:1400], labels[:1400], images[1400:], labels[1400:]), strict=True))


def diabetes() -> Arrays:
    """Returns scikit-learn's diabetes study, inputs and target with mean 0 and deviation 1 over the training part."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:342], order[342:]
    x, y = ((a - a[train].mean(0)) / a[train].std(0) for a in (x, y))
    return {
        part: a[rows].astype(np.float32)
        for part, a, rows in zip(PARTS, (x, y) * 2, (train, train, test, test), strict=True)
    }


def described_data_sets(length: int = 8) -> Arrays:
    """Returns runs of words from the descriptions of scikit-learn's data sets, and which one they are from."""
    from sklearn import datasets

    loaders = (datasets.load_breast_cancer, datasets.load_diabetes, datasets.load_digits, datasets.load_wine)
    texts = [re.findall(r"[a-z]+", loader().DESCR.lower()) for loader in loaders]
    numbers = {word: number for number, word in enumerate(sorted({word for text in texts for word in text}), start=1)}
    rows = [
        ([numbers[word] for word in text[start : start + length]], label)
        for label, text in enumerate(texts)
        for start in range(0, len(text) - length, 2)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    x = np.array([rows[i][0] for i in order], np.int32)
    y = np.array([rows[i][1] for i in order], np.int32)
    cut = len(rows) * 4 // 5
    return dict(zip(PARTS, (x[:cut], y[:cut], x[cut:], y[cut:]), strict=True))
