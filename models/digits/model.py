"""A small convolutional network for the 8x8 handwritten digits of scikit-learn, and the recipe that trains it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import rct_tflite as rct
from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)

import keras  # isort: skip

EPOCHS = 30
BATCH_SIZE = 32
LEARNING_RATE = 0.1
CLASSES = 10


@dataclass(frozen=True)
class Samples:
    """Images (count, 8, 8, 1), float32 from 0 to 1, and their digits (count,), int32."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Digits:
    """The data set in three parts."""

    train: Samples
    validation: Samples
    test: Samples


def load(seed: int = 0) -> Digits:
    """Splits the 1797 digits: 1200 to train on, 200 to choose by, 397 to test on.

    Args:
        seed: Of the split.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.images[order, :, :, None] / 16.0).astype(np.float32)
    labels = data.target[order].astype(np.int32)
    parts = [Samples(images[part], labels[part]) for part in (slice(1200), slice(1200, 1400), slice(1400, None))]
    return Digits(*parts)


def build(seed: int = 0) -> Any:
    """Builds the float network: 84 thousand multiply-accumulates, 6032 weights, 10 logits.

    Args:
        seed: Of the initial weights.
    """
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv1"),
            keras.layers.BatchNormalization(momentum=0.9, name="norm1"),
            keras.layers.ReLU(name="relu1"),
            keras.layers.MaxPooling2D(name="pool1"),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv2"),
            keras.layers.BatchNormalization(momentum=0.9, name="norm2"),
            keras.layers.ReLU(name="relu2"),
            keras.layers.MaxPooling2D(name="pool2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(CLASSES, name="dense"),
        ],
        name="digits",
    )


def train(
    seed: int = 0,
    recipe: rct.Recipe | None = None,
    epochs: int = EPOCHS,
    callback: rct.RCTCallback | None = None,
) -> Any:
    """Trains the network on integers only and returns it.

    Args:
        seed: Of the initial weights, the order of the samples and the stochastic rounding.
        recipe: Bit-widths and rounding; the default starts at 6 bits, stochastic.
        epochs: Passes over the training set.
        callback: Adapts the bit-widths; None keeps them.
    """
    model = rct.quantize(build(seed), recipe or rct.Recipe(bits=6), seed=seed)
    return fit(model, rct.optimizers.SGD(schedule(epochs)), epochs, [callback] if callback else [])


def train_float(seed: int = 0, epochs: int = EPOCHS) -> Any:
    """Trains the same network in float32: same initial weights, samples, schedule and epochs."""
    return fit(build(seed), keras.optimizers.SGD(schedule(epochs)), epochs, [])


def schedule(epochs: int) -> Any:
    """Returns the learning rate: half a cosine down to 0."""
    steps = epochs * -(-1200 // BATCH_SIZE)
    return keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)


def fit(model: Any, optimizer: Any, epochs: int, callbacks: list[Any]) -> Any:
    """Compiles and trains a float or a quantised network alike."""
    digits = load()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    model.fit(
        digits.train.images,
        digits.train.labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(digits.validation.images, digits.validation.labels),
        callbacks=callbacks,
        verbose=0,
    )
    return model


if __name__ == "__main__":
    trained = train(callback=rct.RCTCallback(verbose=1))
    test = load().test
    print(f"test accuracy {trained.evaluate(test.images, test.labels, verbose=0)[1]:.4f}")
    trained.save("digits.keras")
    print("saved digits.keras")
