"""Two small text classifiers, a convolution and an LSTM over word embeddings, and how they are trained."""

from typing import Any

import numpy as np

from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.training.contenders import Samples, Schedule

import keras  # isort: skip

CONV_SCHEDULE = Schedule(epochs=12, batch_size=32, learning_rate=0.5)
LSTM_SCHEDULE = Schedule(epochs=12, batch_size=32, learning_rate=1.0)
EMBEDDING = 32


def build_conv(seed: int, words: int, length: int, classes: int) -> Any:
    """Builds Embedding, Conv1D, maximum over time, Dense.

    Args:
        seed: Of the initial weights.
        words: Size of the vocabulary.
        length: Words of a text; shorter ones are padded with 0.
        classes: Number of logits.
    """
    return _model(
        seed,
        "text_conv",
        words,
        length,
        classes,
        [
            keras.layers.Conv1D(64, 3, padding="same", activation="relu", name="conv"),
            keras.layers.GlobalMaxPooling1D(name="pool"),
        ],
    )


def build_lstm(seed: int, words: int, length: int, classes: int) -> Any:
    """Builds Embedding, LSTM, maximum over time, Dense; the arguments are those of `build_conv()`."""
    return _model(
        seed,
        "text_lstm",
        words,
        length,
        classes,
        [keras.layers.LSTM(32, return_sequences=True, name="lstm"), keras.layers.GlobalMaxPooling1D(name="pool")],
    )


def _model(seed: int, name: str, words: int, length: int, classes: int, middle: list[Any]) -> Any:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((length,), dtype="int32", name="words"),
            keras.layers.Embedding(words, EMBEDDING, name="embedding"),
            *middle,
            keras.layers.Dense(classes, name="dense"),
        ],
        name=name,
    )


def samples(arrays: dict[str, Any], count: int | None = None) -> Samples:
    """Takes token ids as they are, the first `count` to train on.

    Args:
        arrays: `x_train`, `y_train`, `x_test`, `y_test`.
        count: None for all of them.
    """
    return Samples(*(arrays[name][:count] for name in ("x_train", "y_train")), arrays["x_test"], arrays["y_test"])


def vocabulary(data: Samples) -> int:
    """Returns the number of token ids, from 0 on."""
    return 1 + int(max(np.max(data.x_train), np.max(data.x_test)))
