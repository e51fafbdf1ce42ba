"""A small regression network for scikit-learn's diabetes study, and how it is trained."""

from typing import Any

from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.training.contenders import Schedule

import keras  # isort: skip

SCHEDULE = Schedule(epochs=60, batch_size=32, learning_rate=0.02)


def build(seed: int = 0) -> Any:
    """Builds the float network: 10 measurements in, 32 and 16 hidden units, the progression of the disease out.

    Args:
        seed: Of the initial weights.
    """
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((10,), name="measurements"),
            keras.layers.Dense(32, activation="relu", name="dense1"),
            keras.layers.Dense(16, activation="relu", name="dense2"),
            keras.layers.Dense(1, name="progression"),
        ],
        name="diabetes",
    )
