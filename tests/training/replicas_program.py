"""A training on one or several replicas, run as a process of its own by test_replicas.py.

Arguments: the kind of strategy, the file to write the integers to, and for several workers the number of this one
and the ports of all.
"""

import json
import os
import sys

import numpy as np

import rct_tflite as rct
from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.errors import QuantizationError

import keras  # isort: skip
import tensorflow as tf  # isort: skip

BITS, CHANGED_BITS = 8, 7


def build(rounding, momentum, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(synchronized=True, epsilon=0.25)(keras.layers.Conv2D(4, 1, name="point")(x))
    model = rct.quantize(
        keras.Model(inputs, keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(x))),
        rct.Recipe(bits=BITS, rounding=rounding),
    )
    model.compile(rct.optimizers.SGD(0.0625, momentum=momentum), "mse", metrics=["mae"])
    return model


def samples():
    # Multiples of 1/8: sums are exact enough to be the same in any order.
    random = np.random.default_rng(0)
    x = (random.integers(0, 8, (64, 6, 6, 2)) / 8).astype(np.float32)
    return x, random.integers(0, 2, (64, 3)).astype(np.float32)


def dataset(*arrays):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(arrays or samples()).batch(16).with_options(options)


def strategy_of(kind, workers):
    if kind == "workers":
        cluster = {"worker": [f"localhost:{port}" for port in workers[1:]]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(workers[0])}})
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "mirrored":
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return tf.distribute.get_strategy()


class Steps(keras.callbacks.Callback):
    """Keeps the integers of each replica of this process after every step."""

    def __init__(self, strategy):
        super().__init__()
        self.strategy, self.copies = strategy, []

    def on_train_batch_end(self, batch, logs=None):
        weights = self.model.integer_weights
        copies = [self.strategy.experimental_local_results(weight.integers.value) for weight in weights]
        self.copies.append([[copy.numpy() for copy in each] for each in copies])

    def arrays(self):
        """Returns the integers of each weight, of shape (steps, replicas, ...)."""
        return [np.stack([step[index] for step in self.copies]) for index in range(len(self.copies[0]))]


def stops_at_infinity(model, steps):
    """Trains on a last batch that is infinite on the last replica only; returns whether nothing changed."""
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    x, y = samples()
    x[-1, 0, 0, 0] = np.inf
    try:
        model.fit(dataset(x[48:], y[48:]), verbose=0, callbacks=[steps])
    except QuantizationError as error:
        after = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
        return "input of the model" in str(error) and all(map(np.array_equal, before, after))
    return False


def main(kind, result, *workers):
    strategy, results = strategy_of(kind, workers), {}
    for rounding, momentum in (("truncate", 0.0), ("stochastic", 0.5))[: 1 if kind == "alone" else 2]:
        with strategy.scope():
            model = build(rounding, momentum, seed=int(workers[0]) if workers else 0)  # the first worker's count
        steps = Steps(strategy)
        first = model.fit(dataset(), epochs=1, verbose=0, callbacks=[steps]).history["loss"]
        model.integer_weights[0].set_bits(CHANGED_BITS)
        second = model.fit(dataset(), epochs=1, verbose=0, callbacks=[steps]).history["loss"]
        results |= {f"{rounding}/{index}": array for index, array in enumerate(steps.arrays())}
        results[f"{rounding}/loss"] = np.array([*first, *second])
        results[f"{rounding}/stops"] = np.array(stops_at_infinity(model, steps))
        if momentum:
            continue  # compared between replicas only: a sum that differs in its last bit may round otherwise
        results[f"{rounding}/evaluated"] = np.array(model.evaluate(dataset(), verbose=0, return_dict=True)["loss"])
        results[f"{rounding}/predicted"] = model.predict(dataset(), verbose=0)
    np.savez(result, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
