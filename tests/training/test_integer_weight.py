import itertools

import numpy as np
import pytest

import rct_tflite as rct
from rct_tflite.errors import QuantizationError
from rct_tflite.spec.quantization import top
from rct_tflite.training.integer_weight import IntegerWeight, WeightShape
from tests.training.test_rounding import uniform

import tensorflow as tf  # isort: skip


def dense(weights, **recipe):
    weight = IntegerWeight(WeightShape(weights.shape), rct.Recipe(**recipe), name="fc")
    weight.assign(weights)
    return weight


def weights_of(shape=(7, 9), seed=0):
    return np.random.default_rng(seed).normal(0.0, 0.3, shape).astype(np.float32)


def scale_array(layer):
    return layer.scale.numpy()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("bits", "max_bits", "dtype"), [(2, 8, "int8"), (6, 8, "int8"), (12, 16, "int16")])
def test_weights_become_integers(per_channel, bits, max_bits, dtype):
    weights = weights_of()
    layer = dense(weights, bits=bits, max_bits=max_bits, per_channel=per_channel, headroom=1.5)
    largest = np.abs(weights).max(axis=0 if per_channel else None)
    scale = (np.float32(1.5) * largest / np.float32(2 ** (bits - 1))).astype(np.float32)
    assert np.array_equal(scale_array(layer), scale)
    assert layer.integers.dtype == dtype
    assert np.array_equal(layer.integers.numpy(), np.clip(np.rint(weights / scale), -top(bits), top(bits)))
    assert np.array_equal(layer.dequantised().numpy(), layer.integers.numpy().astype(np.float32) * scale)


def test_a_layer_that_starts_with_zeros_can_learn():
    layer = dense(np.zeros((4, 2), np.float32), per_channel=True)
    assert np.allclose(scale_array(layer), 1.0 / 32)  # headroom * sqrt(6 / (4 + 2)), at 6 bits
    layer.apply_gradient(tf.ones((4, 2)), 0.5)
    assert (layer.integers.numpy() == -16).all()


def test_weights_that_are_not_finite_are_refused():
    weights = weights_of()
    weights[0, 0] = np.nan
    with pytest.raises(QuantizationError, match="1 of 63 are NaN or infinite"):
        dense(weights)


@pytest.mark.parametrize("run", [lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)])
@pytest.mark.parametrize(
    ("rounding", "per_channel", "bits"),
    [("truncate", False, 6), ("stochastic", False, 6), ("stochastic", True, 4), ("truncate", True, 8)],
)
def test_update_is_that_of_numpy(run, rounding, per_channel, bits):
    layer = dense(weights_of(), bits=bits, rounding=rounding, per_channel=per_channel)
    layer.stream = 12345
    scale, q = scale_array(layer), layer.integers.numpy().astype(np.int64)
    update = run(layer.apply_gradient)
    for step in range(4):
        # A power of two as learning rate and gradients that are multiples of the scale: exact in any order.
        gradient = (np.random.default_rng(step).integers(-90, 90, (7, 9)) / 16).astype(np.float32) * scale
        if step == 3:
            gradient[0, 0] = 1e30  # clamped before it becomes an integer
        update(tf.constant(gradient), tf.constant(0.5))
        with np.errstate(over="ignore"):
            steps = np.clip(np.float32(0.5) * gradient / scale, -2.0 * top(bits), 2.0 * top(bits))
        below = np.floor(steps)
        up = uniform(12345, step, (7, 9)) < steps - below
        moves = np.trunc(steps) if rounding == "truncate" else below + up
        q = np.clip(q - moves.astype(np.int64), -top(bits), top(bits))
        assert np.array_equal(layer.integers.numpy(), q)
        asked = gradient != 0
        if step == 0:
            assert float(layer.gavg) == pytest.approx(np.mean(np.abs(gradient) / scale), rel=1e-6)
            assert float(layer.underflow) == pytest.approx(np.mean(moves[asked] == 0), rel=1e-6)
        assert float(layer.saturated) == pytest.approx(np.mean(np.abs(q) == top(bits)), rel=1e-6)
    assert int(layer.updates) == 4


def test_gavg_is_a_running_mean():
    layer = dense(weights_of(), bits=8)
    for value in (1.0, 3.0):
        layer.apply_gradient(tf.fill((7, 9), value) * layer.scale.value, 0.0)
    assert float(layer.gavg) == pytest.approx(0.9 * 1.0 + 0.1 * 3.0)
    assert float(layer.underflow) == 1.0


@pytest.mark.parametrize("rounding", ["truncate", "stochastic"])
def test_widening_loses_nothing(rounding):
    layer = dense(weights_of(), bits=2, max_bits=16, rounding=rounding)
    layer.gavg.assign(0.75)
    before, integers = layer.dequantised().numpy(), layer.integers.numpy()
    for bits in range(3, 17):
        layer.set_bits(bits)
        assert int(layer.bits) == bits
        assert np.array_equal(layer.integers.numpy(), integers * 2 ** (bits - 2))
        assert np.array_equal(layer.dequantised().numpy(), before)
        assert float(layer.gavg) == 0.75 * 2 ** (bits - 2)
    layer.set_bits(2)  # and back: every integer is a multiple, so no rounding is left to chance
    assert np.array_equal(layer.integers.numpy(), integers)
    assert np.array_equal(layer.dequantised().numpy(), before)


@pytest.mark.parametrize(("fewer", "rounding"), list(itertools.product([1, 3], ["truncate", "stochastic"])))
def test_narrowing_rounds_and_clamps(fewer, rounding):
    layer = dense(weights_of((16, 17), seed=1), bits=8, rounding=rounding, headroom=1.0)
    q = np.arange(-127, 128).tolist() + [127, -127] * 8 + [0]
    layer.integers.assign(np.reshape(q, (16, 17)))
    layer.set_bits(8 - fewer)
    exact = np.reshape(q, (16, 17)) / 2**fewer
    got, limit = layer.integers.numpy(), top(8 - fewer)
    assert np.abs(got).max() == limit
    if rounding == "truncate":
        assert np.array_equal(got, np.clip(np.rint(exact), -limit, limit))
    else:
        assert (np.abs(np.clip(exact, -limit, limit) - got) < 1).all()
        assert np.mean(got - exact) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(("max_bits", "bits"), [(8, 1), (8, 9), (16, 17)])
def test_impossible_bits_are_refused(max_bits, bits):
    with pytest.raises(QuantizationError, match=f"Received: bits={bits}"):
        dense(weights_of(), max_bits=max_bits).set_bits(bits)


@pytest.mark.parametrize(
    ("axes", "shape", "scale_shape"),
    [
        ((-1,), (3, 2, 5), (5,)),
        ((-2, -1), (3, 3, 4, 2), (4, 2)),
        ((-2,), (3, 3, 4, 2), (4, 1)),
        ((-2,), (6, 3), (6, 1)),
    ],
)
def test_scales_of_other_channel_axes(axes, shape, scale_shape):
    weights = weights_of(shape)
    weight = IntegerWeight(WeightShape(shape, axes), rct.Recipe(bits=8, per_channel=True, headroom=1.0))
    weight.assign(weights)
    assert tuple(weight.scale.shape) == scale_shape
    moved = np.moveaxis(weights, [axis % len(shape) for axis in axes], range(len(axes)))
    largest = np.abs(moved).reshape(*moved.shape[: len(axes)], -1).max(axis=-1)
    assert np.array_equal(scale_array(weight).ravel(), (largest / np.float32(128)).ravel())
    assert np.abs(weight.dequantised().numpy() - weights).max() <= 0.51 * scale_array(weight).max() * 2


def test_gavg_of_rows_ignores_those_that_were_not_read():
    weight = IntegerWeight(WeightShape((50, 4), (-2,), by_rows=True), rct.Recipe(bits=8))
    weight.assign(weights_of((50, 4)))
    gradient = np.zeros((50, 4), np.float32)
    gradient[7] = 0.25 * weight.scale.numpy()
    weight.apply_gradient(tf.constant(gradient), 1.0)
    assert float(weight.gavg) == 0.25
    assert 0.0 < float(weight.underflow) <= 1.0
    weight.apply_gradient(tf.zeros((50, 4)), 1.0)  # no row at all: nothing is learned about the layer
    assert float(weight.gavg) == 0.25


def test_weight_decay_is_part_of_the_update():
    weight = dense(weights_of(), bits=12, max_bits=16, rounding="truncate")
    q = weight.integers.numpy().astype(np.int64)
    weight.apply_gradient(tf.zeros((7, 9)), 0.5, decay=0.125)
    assert np.array_equal(weight.integers.numpy(), q - np.trunc(q / 16))


def test_a_frozen_recipe_stays_frozen():
    layer = rct.layers.Dense(2, recipe=rct.Recipe(frozen=True))
    layer.build((None, 3))
    layer.trainable = True
    assert not layer.integer_weights[0].trainable


def test_activation_range_follows_and_clamps():
    layer = rct.layers.ActivationRange(momentum=0.5)
    x = np.array([[0.1, 0.33333, 3.0]], np.float32)
    assert np.array_equal(layer(x), x)  # nothing observed yet
    layer(x * 2, training=True)
    layer(x, training=True)
    assert (float(layer.minimum), float(layer.maximum)) == (0.0, 4.5)
    scale = 4.5 / 255
    assert np.allclose(layer(x * 3), np.clip(np.rint(x * 3 / scale), 0, 255) * scale, atol=1e-6)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x * 3)
        tape.watch(inputs)
        outputs = tf.reduce_sum(layer(inputs))
    assert tape.gradient(outputs, inputs).numpy().tolist() == [[1.0, 1.0, 0.0]]
    layer(x * 4, training=True)
    assert float(layer.maximum) == 12.0  # widens at once
