"""A small convolutional network for Fashion-MNIST, and how it is trained."""

from typing import Any

import numpy as np

from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.training.contenders import Samples, Schedule

import keras  # isort: skip

CLASSES = 10
SCHEDULE = Schedule(epochs=8, batch_size=128, learning_rate=0.1)


def build(seed: int = 0, shape: tuple[int, int, int] = (28, 28, 1)) -> Any:
    """Builds the float network: three convolutions with batch normalisation, 13 thousand weights, 10 logits.

    Args:
        seed: Of the initial weights.
        shape: Of an image.
    """
    keras.utils.set_random_seed(seed)
    layers: list[Any] = [keras.Input(shape, name="image")]
    for number, filters in enumerate((12, 24, 32), start=1):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}"),
            keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}"),
            keras.layers.ReLU(name=f"relu{number}"),
            keras.layers.MaxPooling2D(name=f"pool{number}"),
        ]
    layers += [keras.layers.Flatten(name="flatten"), keras.layers.Dense(CLASSES, name="dense")]
    return keras.Sequential(layers, name="fashion_mnist")


def samples(arrays: dict[str, Any], count: int | None = None) -> Samples:
    """Scales images to 0..1 and takes the first `count` to train on.

    Args:
        arrays: `x_train`, `y_train`, `x_test`, `y_test` as uint8, images without channel axis.
        count: None for all of them.
    """
    images = {name: (arrays[name][..., None] / np.float32(255.0)) for name in ("x_train", "x_test")}
    labels = {name: arrays[name].astype(np.int32).ravel() for name in ("y_train", "y_test")}
    return Samples(images["x_train"][:count], labels["y_train"][:count], images["x_test"], labels["y_test"])
