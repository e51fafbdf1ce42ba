"""Small models and data that the tests of training share."""

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)

import keras  # isort: skip


def chain(*layers, shape=(6, 6, 2)):
    return keras.Sequential([keras.Input(shape), *layers], name="chain")


def small_model(seed=0):
    """Two convolutions, one without bias and with batch normalisation, and a dense layer."""
    keras.utils.set_random_seed(seed)
    return chain(
        keras.layers.Conv2D(5, 3, padding="same", use_bias=False, name="conv1"),
        keras.layers.BatchNormalization(momentum=0.8, name="norm"),
        keras.layers.ReLU(name="relu"),
        keras.layers.MaxPooling2D(name="pool"),
        keras.layers.Conv2D(4, 2, activation="relu", name="conv2"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(3, name="dense"),
    )


def compiled(model, learning_rate=0.1, **options):
    model.compile(
        rct.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def integers(model):
    return [layer.integers.numpy().copy() for layer in model.integer_weights]


def same(left, right):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="session")
def samples():
    """96 random images whose class is where the light is."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 96)
    x = random.uniform(0.0, 0.3, (96, 6, 6, 2))
    for image, label in zip(x, y, strict=True):
        image[2 * label : 2 * label + 2] += 0.6
    return x.astype(np.float32), y.astype(np.int32)
