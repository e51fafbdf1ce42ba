"""Deep networks: the errors of 8 and of 16 bits that reach the lowest layer still say where to go."""

import numpy as np
import pytest

from rct_tflite.spec.graph import Activation
from rct_tflite.spec.training_plan import Loss
from rct_tflite.tflite.reader import read_graph
from tests.gradient_cosines import gradient_cosines
from tests.graphs import GraphBuilder
from tests.keras_networks import autoencoder, converted, dense_block, residual, resnet, squeeze_and_excite
from tests.tflite.one_op import words

DEEP = 10


def dense(layers):
    builder = GraphBuilder((64,), 3)
    for _ in range(layers - 1):
        builder.dense(32)
    return builder.dense(10, Activation.NONE).graph()


def convolutions(layers):
    builder = GraphBuilder((8, 8, 3), 3)
    for _ in range(layers - 1):
        builder.conv(8, per_channel=True)
    return builder.reshape(512).dense(10, Activation.NONE).graph()


def check(cosines):
    for bits, layers in cosines.items():
        for depth, (name, values) in enumerate(layers.items(), start=1):
            bound = 0.999 if bits == 16 else 0.99 if depth <= DEEP else 0.95
            assert values
            assert np.mean(values) >= bound, (bits, depth, name, values)


@pytest.mark.parametrize("layers", [DEEP, 2 * DEEP])
@pytest.mark.parametrize("make", [dense, convolutions])
def test_deep_networks(make, layers):
    check(gradient_cosines(make(layers)))


@pytest.mark.parametrize("make", [residual, squeeze_and_excite, dense_block])
def test_networks_with_branches(make):
    check(gradient_cosines(read_graph(converted(make)), normal=True))


def test_a_table():
    check(gradient_cosines(words(rows=40, length=24), counts=(8, 40)))


def test_resnet():
    """Where two errors meet in an image of 1,024 positions, a rounding with a side shows."""
    check(gradient_cosines(read_graph(converted(resnet)), normal=True, counts=(0, 2)))


def test_autoencoder():
    check(gradient_cosines(read_graph(converted(autoencoder)), Loss.MEAN_SQUARED_ERROR, True, (2, 3)))
