"""Keras models with branches that train quantised and are exported: small, observed on noise, not trained."""

import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

import rct_tflite as rct
from rct_tflite.export.tflite_export import export_tflite
from rct_tflite.spec.graph import Graph, TrainingMetadata
from rct_tflite.spec.network import TrainedNetwork
from rct_tflite.tflite.reader import read_graph
from rct_tflite.training.freeze import freeze
from tests.keras_networks import activated, conv, dense, depthwise

L = keras.layers


def resnet():
    """Blocks with and without a convolution in the shortcut."""
    x = source = keras.Input((10, 10, 3))
    x = activated(x, conv(6, 3))
    for channels, strides in ((6, 1), (8, 2)):
        y = activated(x, conv(channels, 3, strides))
        y = L.BatchNormalization()(conv(channels, 3)(y))
        if strides > 1:
            x = L.BatchNormalization()(conv(channels, 1, strides)(x))
        x = L.ReLU()(L.Add()([x, y]))
    return keras.Model(source, dense(4)(L.GlobalAveragePooling2D()(x)))


def mobilenet():
    """Depthwise and pointwise with ReLU6 and linear ends that are added; more than nine layers with weights."""
    x = source = keras.Input((12, 12, 3))
    x = L.ReLU(6.0)(L.BatchNormalization()(conv(6, 3, 2)(x)))
    for channels, strides in ((8, 1), (8, 2), (8, 1), (8, 1)):
        y = L.ReLU(6.0)(L.BatchNormalization()(depthwise(strides)(x)))
        y = L.BatchNormalization()(conv(channels, 1)(y))
        x = L.Add()([x, y]) if x.shape == y.shape else y
    x = L.DepthwiseConv2D(2, depth_multiplier=2, activation="relu6")(x)
    x = activated(x, L.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2, use_bias=False))
    return keras.Model(source, dense(3)(L.Flatten()(x)))


def sequence():
    """1-D: causal and strided convolutions, pooling, a dense layer at every step."""
    source = keras.Input((21, 3))
    x = L.Rescaling(2.0, offset=-0.5)(source)
    x = L.MaxPooling1D(2)(activated(x, L.Conv1D(6, 3, padding="causal")))
    x = L.Conv1D(5, 3, strides=2, padding="same", activation="relu")(L.ZeroPadding1D((1, 0))(x))
    y = L.Dense(5, activation="tanh")(L.SpatialDropout1D(0.2)(x))
    x = L.AveragePooling1D(2)(L.SeparableConv1D(4, 3, activation="tanh")(L.Subtract()([x, y])))
    return keras.Model(source, dense(3)(L.Concatenate()([L.GlobalAveragePooling1D()(x), L.GlobalMaxPooling1D()(x)])))


def squeeze():
    """Squeeze and excite with hard swish, within the layers and as layers."""
    x = source = keras.Input((8, 8, 3))
    x = L.Activation("hard_silu")(conv(8, 3)(x))
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(4, 1, activation="relu")(y))
    x = L.Conv2D(6, 3, activation="hard_silu")(L.Multiply()([x, y]))
    return keras.Model(source, dense(5)(L.GlobalMaxPooling2D()(x)))


def dense_block():
    """Tensors with three readers, joined along channels and rows; batch normalisation that folds into nothing."""
    x = source = keras.Input((7, 6, 2))
    x = activated(x, conv(4, 3))
    y = conv(3, 3)(L.ReLU()(L.BatchNormalization()(x)))
    x = L.Concatenate()([x, y, L.Activation("tanh")(depthwise()(x))])
    x = L.Concatenate(axis=1)([L.AveragePooling2D(2)(x), L.MaxPooling2D()(x)])
    return keras.Model(source, dense(4)(L.Dropout(0.2)(L.Flatten()(L.BatchNormalization()(x)))))


def decoder():
    """Down and up again, three operands, nested models."""
    x = source = keras.Input((8, 8, 2))
    first = activated(x, conv(4, 3))
    down = keras.Sequential(
        [L.ZeroPadding2D(((1, 0), (1, 0))), L.Conv2D(6, 3, 2, activation="relu", name="conv")], name="down"
    )
    y = L.Conv2DTranspose(4, 3, 2, padding="same")(down(first))
    y = L.Subtract()([first, L.LeakyReLU(0.1)(y)])
    y = L.ReLU()(L.Add()([first, y, L.Conv2D(4, 1, activation="leaky_relu")(first)]))
    y = L.Conv2DTranspose(2, 2, activation="relu")(y)
    return keras.Model(source, dense(3)(L.Flatten()(y)))


def words():
    """Two tables of the same words; what stands behind one of them as a rule folds into weights, or joins."""
    source = keras.Input((9,), dtype="int32")
    x = L.SpatialDropout1D(0.2)(L.Embedding(30, 6, name="first")(source))
    y = L.Activation("tanh")(L.Embedding(20, 4, "he_normal", name="second")(source))
    x = L.Concatenate()([activated(x, L.Conv1D(6, 3, padding="same")), L.BatchNormalization()(x), y])
    return keras.Model(source, dense(3)(L.Flatten()(x)))


GRAPHS = {
    "resnet": (resnet, rct.Recipe(bits=6)),
    "mobilenet": (mobilenet, rct.Recipe(bits=7, per_channel=True)),
    "sequence": (sequence, rct.Recipe(bits=8, rules=(rct.Rule("conv1d*", bits=4, per_channel=True),))),
    "squeeze": (squeeze, rct.Recipe(bits=8)),
    "dense block": (dense_block, rct.Recipe(bits=5, rules=(rct.Rule("dense*", bits=2),))),
    "words": (words, rct.Recipe(bits=6, rules=(rct.Rule("first", bits=8),))),
    "decoder": (decoder, rct.Recipe(bits=8, per_channel=True, rounding="truncate")),
}


@dataclass(frozen=True, eq=False)
class Exported:
    """A model with what became of it, and samples: float32 or ids, and as the network reads them."""

    model: Any
    network: TrainedNetwork
    tflite: bytes
    graph: Graph
    samples: npt.NDArray[np.float32] | npt.NDArray[np.int32]

    @property
    def inputs(self) -> npt.NDArray[np.int8] | npt.NDArray[np.int32]:
        if self.network.takes_ids:
            return self.samples.astype(np.int32)
        grid = self.network.input
        scaled = self.samples * self.graph.training.input_scale + self.graph.training.input_offset
        return np.clip(np.rint(scaled / grid.scale) + grid.zero_point, -128, 127).astype(np.int8)


def observed(model, recipe=None, steps=4):
    """A quantised model that has seen noise: ranges and batch normalisation are any, weights as they started."""
    random, quantised = np.random.default_rng(2), rct.quantize(model, recipe)
    for layer in quantised._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.5
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape) * random.choice([-1, 1], layer.gamma.shape))
            layer.beta.assign(random.normal(0.0, 0.3, layer.beta.shape))
    shape = (32, *model.input_shape[1:])
    samples = random.normal(size=shape).astype(np.float32)
    if model.inputs[0].dtype == "int32":
        samples = random.integers(0, 20, shape).astype(np.int32)
    for _ in range(steps):
        quantised(samples, training=True)
    return quantised, samples


@functools.cache
def exported(name):
    """One of `GRAPHS`, made once a session."""
    make, recipe = GRAPHS[name]
    keras.utils.clear_session()
    keras.utils.set_random_seed(4)
    model, samples = observed(make(), recipe)
    network = freeze(model)
    tflite = export_tflite(network, TrainingMetadata(rounding=network.rounding))
    return Exported(model, network, tflite, read_graph(tflite), samples)
