"""Batch normalisation in one pass gives what Keras's own gives."""

import numpy as np
import pytest
import tensorflow as tf

import rct_tflite as rct
from rct_tflite.training.batch_norm import BatchNormalization

import keras  # isort: skip


def one_step(layer, x, training):
    """Returns output, gradients and moving statistics of a call."""
    layer.build(x.shape)
    for position, variable in enumerate(layer.trainable_variables):
        variable.assign(np.linspace(0.5, 1.5, x.shape[-1]) + position)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(y * tf.reshape(tf.range(tf.size(y), dtype=tf.float32), y.shape))
    gradients = tape.gradient(loss, [x, *(variable.value for variable in layer.trainable_variables)])
    return [y, *gradients, *(variable.numpy() for variable in layer.non_trainable_variables)]


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False, "momentum": 0.8}, {"renorm": True}])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (1, 1, 1, 6), (7, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_all_numbers_are_those_of_keras(settings, shape, training):
    x = tf.constant(np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32))
    ours, theirs = (
        one_step(kind(**settings), x, training) for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_a_layer_that_does_not_train_keeps_its_statistics():
    layer = BatchNormalization(trainable=False)
    x = tf.ones((2, 3, 3, 4))
    assert np.allclose(layer(x, training=True), 1.0 / np.sqrt(1.001))
    assert np.array_equal(layer.moving_mean.numpy(), np.zeros(4))


def test_quantized_models_have_it():
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.BatchNormalization(momentum=0.5, name="norm")(keras.layers.Conv2D(2, 3)(inputs))
    layer = rct.quantize(keras.Model(inputs, outputs)).get_layer("norm")
    assert type(layer) is BatchNormalization
    assert layer.momentum == 0.5
