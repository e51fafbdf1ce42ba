"""ResNet-8 and ResNet-20 for CIFAR-10, and how they are trained."""

from typing import Any

import numpy as np

from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.training.contenders import Samples, Schedule

import keras  # isort: skip

CLASSES = 10
SCHEDULE = Schedule(epochs=12, batch_size=128, learning_rate=1.0)


def build(
    seed: int = 0, blocks: int = 1, shape: tuple[int, int, int] = (32, 32, 3), filters: tuple[int, ...] = (16, 32, 64)
) -> Any:
    """Builds the float network of `6 * blocks + 2` layers: 1 block a stage is ResNet-8, 3 are ResNet-20.

    Args:
        seed: Of the initial weights.
        blocks: Residual blocks in each stage; a block is two convolutions beside a shortcut.
        shape: Of an image.
        filters: Channels of the stages; all but the first stage halve height and width.
    """
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape, name="image")
    x = _conv(inputs, filters[0], "stem")
    for stage, width in enumerate(filters, start=1):
        for block in range(1, blocks + 1):
            x = _block(x, width, 2 if stage > 1 and block == 1 else 1, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(CLASSES, name="dense")(x)
    return keras.Model(inputs, outputs, name=f"resnet{6 * blocks + 2}")


def _block(x: Any, filters: int, stride: int, name: str) -> Any:
    inner = _conv(x, filters, f"{name}_conv1", stride=stride)
    inner = _conv(inner, filters, f"{name}_conv2", relu=False)
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _conv(x, filters, f"{name}_shortcut", kernel=1, stride=stride, relu=False)
    joined = keras.layers.Add(name=f"{name}_add")([inner, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(joined)


def _conv(x: Any, filters: int, name: str, *, kernel: int = 3, stride: int = 1, relu: bool = True) -> Any:
    x = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name)(
        x
    )
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def samples(arrays: dict[str, Any], count: int | None = None) -> Samples:
    """Centres images on 0, -1 to 1, and takes the first `count` to train on.

    Args:
        arrays: `x_train`, `y_train`, `x_test`, `y_test` as uint8.
        count: None for all of them.
    """
    images = {name: arrays[name] / np.float32(127.5) - np.float32(1.0) for name in ("x_train", "x_test")}
    labels = {name: arrays[name].astype(np.int32).ravel() for name in ("y_train", "y_test")}
    return Samples(images["x_train"][:count], labels["y_train"][:count], images["x_test"], labels["y_test"])
