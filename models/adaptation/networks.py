"""The five networks: chains of layers that are exported to a device, and how they are trained and adapted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rct_tflite as rct
from models.adaptation.data import Part
from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)

import keras  # isort: skip

Size = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """A convolution with batch normalisation and ReLU, and the pooling behind it."""

    filters: int
    kernel: Size
    pool: Size
    strides: Size = (1, 1)


@dataclass(frozen=True)
class Network:
    """A network, and how it is made and adapted.

    Attributes:
        blocks: Its convolutions; a dense layer follows.
        epochs: Passes over the source.
        learning_rate: On the source: half a cosine down to 0.
        train: What learns on the device: "all" or "last:N".
    """

    blocks: tuple[Block, ...]
    epochs: int
    learning_rate: float = 0.1
    train: str = "all"


NETWORKS = {
    "spoken-digits": Network(
        (Block(8, (3, 3), (2, 2), (2, 1)), Block(16, (3, 3), (2, 2)), Block(24, (3, 3), (2, 2))), 12
    ),
    "activities": Network((Block(12, (1, 7), (1, 4), (1, 2)), Block(24, (1, 5), (1, 2))), 8),
    "scanned-digits": Network((Block(8, (3, 3), (2, 2)), Block(16, (3, 3), (2, 2)), Block(24, (3, 3), (2, 2))), 3),
    "bearings": Network((Block(12, (1, 16), (1, 4), (1, 4)), Block(24, (1, 5), (1, 2)), Block(24, (1, 3), (1, 2))), 12),
    "heartbeats": Network((Block(12, (1, 9), (1, 4), (1, 2)), Block(24, (1, 5), (1, 2))), 3),
}
BATCH_SIZE = 64
RECIPE = rct.Recipe(bits=8, min_bits=8)


def build(blocks: Sequence[Block], shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """Builds a float network.

    Args:
        blocks: Its convolutions.
        shape: Of a sample: (height, width, channels).
        classes: Number of logits.
        seed: Of the initial weights.
    """
    keras.utils.set_random_seed(seed)
    layers: list[Any] = [keras.Input(shape, name="input")]
    for number, block in enumerate(blocks, start=1):
        layers += [
            keras.layers.Conv2D(
                block.filters, block.kernel, block.strides, padding="same", use_bias=False, name=f"conv{number}"
            ),
            keras.layers.BatchNormalization(momentum=0.9, name=f"norm{number}"),
            keras.layers.ReLU(name=f"relu{number}"),
            keras.layers.MaxPooling2D(block.pool, name=f"pool{number}"),
        ]
    layers += [keras.layers.Flatten(name="flatten"), keras.layers.Dense(classes, name="dense")]
    return keras.Sequential(layers, name="network")


def trained(network: Network, source: Part, seed: int, recipe: rct.Recipe = RECIPE) -> Any:
    """Trains a network on its source, integers only.

    Args:
        network: Which one.
        source: All that is known before shipping.
        seed: Of the initial weights, the order of the samples, the stochastic rounding.
        recipe: Bit-widths and ranges of the weights.
    """
    floating = build(network.blocks, source.x.shape[1:], int(source.y.max()) + 1, seed)
    model = rct.quantize(floating, recipe, seed=seed)
    steps = network.epochs * -(-len(source.y) // BATCH_SIZE)
    model.compile(
        optimizer=rct.optimizers.SGD(keras.optimizers.schedules.CosineDecay(network.learning_rate, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        source.x, source.y, batch_size=BATCH_SIZE, epochs=network.epochs, callbacks=[rct.RCTCallback()], verbose=0
    )
    return model
