"""A training on one or several replicas, run as a process of its own by test_replicas.py.

Arguments: the kind of strategy, the file to write the integers to, and for several workers the number of this one
and the ports of all.
"""

import json
import os
import sys

KIND, RESULT, *WORKERS = sys.argv[1:]
if WORKERS:
    cluster = {"worker": [f"localhost:{port}" for port in WORKERS[1:]]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(WORKERS[0])}})

import numpy as np  # noqa: E402

import rct_tflite as rct  # noqa: E402
from rct_tflite import training  # noqa: E402, F401

import keras  # noqa: E402  # isort: skip
import tensorflow as tf  # noqa: E402  # isort: skip

BITS, CHANGED_BITS = 8, 7


def build(rounding, momentum):
    keras.utils.set_random_seed(int(WORKERS[0]) if WORKERS else 0)  # the first worker's numbers count
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(synchronized=True, epsilon=0.25)(keras.layers.Conv2D(4, 1, name="point")(x))
    model = rct.quantize(
        keras.Model(inputs, keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(x))),
        rct.Recipe(bits=BITS, rounding=rounding),
    )
    model.compile(rct.optimizers.SGD(0.0625, momentum=momentum), "mse", metrics=["mae"])
    return model


def dataset():
    # Multiples of 1/8: sums are exact enough to be the same in any order.
    random = np.random.default_rng(0)
    x = (random.integers(0, 8, (64, 6, 6, 2)) / 8).astype(np.float32)
    y = random.integers(0, 2, (64, 3)).astype(np.float32)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16).with_options(options)


def strategy_of():
    if KIND == "workers":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if KIND == "mirrored":
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return tf.distribute.get_strategy()


def copies_of(strategy, model):
    """Returns the integers of each replica of this process."""
    copies = [strategy.experimental_local_results(weight.integers.value) for weight in model.integer_weights]
    return [[copy.numpy() for copy in each] for each in zip(*copies, strict=True)]


def main():
    if KIND == "mirrored":
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy, results = strategy_of(), {}
    for rounding, momentum in (("truncate", 0.0), ("stochastic", 0.5)):
        with strategy.scope():
            model = build(rounding, momentum)
        first = model.fit(dataset(), epochs=1, verbose=0).history["loss"]
        model.integer_weights[0].set_bits(CHANGED_BITS)
        second = model.fit(dataset(), epochs=1, verbose=0).history["loss"]
        for replica, copies in enumerate(copies_of(strategy, model)):
            results |= {f"{rounding}/{replica}/{index}": copy for index, copy in enumerate(copies)}
        results[f"{rounding}/loss"] = np.array([*first, *second])
        results[f"{rounding}/evaluated"] = np.array(model.evaluate(dataset(), verbose=0, return_dict=True)["loss"])
    np.savez(RESULT, **results)


main()
