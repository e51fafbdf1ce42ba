"""Rounding of weight updates to integers, with random numbers that do not depend on how TensorFlow runs.

TensorFlow's own generators give other numbers under XLA than in a graph. Ours is a hash of a counter in
32-bit integer arithmetic: the same numbers eagerly, in a graph, in several steps per execution and under XLA.
"""

from typing import Any

import tensorflow as tf

from rct_tflite.spec.quantization import Rounding

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)  # those of the 32-bit MurmurHash3 finaliser


def mix(value: Any) -> Any:
    """Hashes 32-bit integers one to one (the finaliser of MurmurHash3).

    Args:
        value: uint32 tensor of any shape.

    Returns:
        uint32 tensor of the same shape.
    """
    value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, tf.constant(16, tf.uint32)))
    value = value * tf.constant(_MULTIPLIERS[0], tf.uint32)
    value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, tf.constant(13, tf.uint32)))
    value = value * tf.constant(_MULTIPLIERS[1], tf.uint32)
    return tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, tf.constant(16, tf.uint32)))


def stream_of(seed: int, layer: int) -> int:
    """Returns the random stream of one layer: a uint32 that depends on the seed and the layer's position."""
    return int(mix(mix(tf.constant(seed & _MASK, tf.uint32)) + tf.constant(layer & _MASK, tf.uint32)))


def uniform(stream: int, counter: Any, shape: tuple[int, ...]) -> Any:
    """Returns float32 numbers in [0, 1) with 24 random bits, a function of the arguments only.

    Args:
        stream: From `stream_of()`.
        counter: int32 scalar tensor, another one for each draw.
        shape: Shape of the result.
    """
    count = 1
    for size in shape:
        count *= size
    key = mix(tf.cast(counter, tf.uint32) + tf.constant(stream, tf.uint32))
    # Hashed before the key comes in: two draws then never hold the same run of numbers, shifted.
    elements = mix(tf.cast(tf.range(1, count + 1), tf.uint32))
    bits = tf.bitwise.right_shift(mix(tf.bitwise.bitwise_xor(elements, key)), tf.constant(8, tf.uint32))
    return tf.reshape(tf.cast(tf.cast(bits, tf.int32), tf.float32) * 2.0**-24, shape)


def to_integers(values: Any, rounding: Rounding, noise: Any) -> Any:
    """Rounds float32 values to int32.

    Args:
        values: float32 tensor, each below 2**24 in magnitude.
        rounding: Toward zero, or stochastic: up with the probability of the fraction.
        noise: Numbers in [0, 1) of the same shape; read only by stochastic rounding.

    Returns:
        int32 tensor of the same shape.
    """
    if rounding == Rounding.TRUNCATE:
        return tf.cast(values, tf.int32)
    below = tf.floor(values)
    # Comparing with the exact fraction, and not floor(values + noise): that sum would be rounded.
    return tf.cast(below, tf.int32) + tf.cast(noise < values - below, tf.int32)
