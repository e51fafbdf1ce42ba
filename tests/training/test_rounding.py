import numpy as np
import pytest

from rct_tflite.spec.quantization import Rounding
from rct_tflite.training import rounding

import tensorflow as tf  # isort: skip


def mix(value):
    value = np.asarray(value, np.uint32)
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        value = (value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return value ^ (value >> np.uint32(16))


def uniform(stream, counter, shape):
    """The oracle of `rounding.uniform`, in NumPy."""
    key = mix(np.uint32((counter + stream) & 0xFFFFFFFF))
    numbers = mix(mix(np.arange(1, np.prod(shape) + 1)) ^ key) >> np.uint32(8)
    return (numbers.astype(np.float32) * np.float32(2.0**-24)).reshape(shape)


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, None], ids=["graph", "xla", "eager"])
def test_numbers_do_not_depend_on_how_tensorflow_runs(options):
    stream = rounding.stream_of(7, 2)

    def draw(counter):
        return rounding.uniform(stream, counter, (3, 5, 4))

    run = draw if options is None else tf.function(draw, **options)
    for counter in (0, 1, 2**31 - 1):
        assert np.array_equal(run(tf.constant(counter)).numpy(), uniform(stream, counter, (3, 5, 4)))


def test_numbers_are_uniform_and_independent():
    draws = [rounding.uniform(rounding.stream_of(*key), 5, (20000,)).numpy() for key in ((0, 0), (0, 1), (1, 0))]
    draws.append(rounding.uniform(rounding.stream_of(0, 0), 6, (20000,)).numpy())
    correlation = np.corrcoef([*draws, np.roll(draws[0], 1)])
    assert np.abs(correlation - np.eye(5)).max() < 0.03  # 4 standard deviations
    for draw in draws:
        assert draw.min() >= 0.0
        assert draw.max() < 1.0
        counts, _ = np.histogram(draw, bins=10, range=(0, 1))
        assert np.abs(counts - 2000).max() < 200


@pytest.mark.parametrize(
    ("value", "noise", "truncated", "stochastic"),
    [
        (0.0, 1.0 - 2**-24, 0, 0),
        (0.75, 0.7, 0, 1),
        (0.75, 0.75, 0, 0),
        (-0.25, 0.7, 0, 0),
        (-0.25, 0.8, 0, -1),
        (5.0, 1.0 - 2**-24, 5, 5),  # a sum in float32 would round to 6
        (-5.0, 0.0, -5, -5),
        (-2.5, 0.2, -2, -2),
        (-1e-20, 0.99, 0, 0),
    ],
)
def test_rounding(value, noise, truncated, stochastic):
    values, draws = tf.constant([value]), tf.constant([noise])
    assert rounding.to_integers(values, Rounding.TRUNCATE, draws).numpy().tolist() == [truncated]
    assert rounding.to_integers(values, Rounding.STOCHASTIC, draws).numpy().tolist() == [stochastic]


def test_stochastic_rounding_is_unbiased():
    values = tf.fill([40000], -1.3)
    moves = rounding.to_integers(values, Rounding.STOCHASTIC, rounding.uniform(3, 0, (40000,)))
    assert set(np.unique(moves)) == {-2, -1}
    assert np.mean(moves) == pytest.approx(-1.3, abs=0.01)
