"""Keras models with random weights through TFLiteConverter: int8 files of others, as users bring them."""

import functools

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


def activated(x, layer):
    """A layer, batch normalisation and RELU, which the converter fuses."""
    return layers.ReLU()(layers.BatchNormalization()(layer(x)))


def conv(channels, kernel, strides=1):
    return layers.Conv2D(channels, kernel, strides, padding="same", kernel_initializer="he_normal")


def depthwise(strides=1, kernel=3, multiplier=1):
    # Keras takes all channels for the fan-in: signals would die out.
    start = keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5)
    return layers.DepthwiseConv2D(kernel, strides, "same", depth_multiplier=multiplier, depthwise_initializer=start)


def dense(units, activation=None):
    return layers.Dense(units, activation, kernel_initializer="he_normal")


def autoencoder():
    """MLPerf Tiny's anomaly detection: 640-128x4-8-128x4-640."""
    x = source = layers.Input(batch_shape=(1, 640))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = activated(x, dense(units))
    return keras.Model(source, dense(640)(x))


def ds_cnn():
    """MLPerf Tiny's keyword spotting."""
    x = source = layers.Input(batch_shape=(1, 49, 10, 1))
    x = activated(x, conv(64, (10, 4), 2))
    for _ in range(4):
        x = activated(activated(x, depthwise()), conv(64, 1))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return keras.Model(source, dense(12, "softmax")(x))


def resnet():
    """MLPerf Tiny's image classification: ResNet-8."""
    x = source = layers.Input(batch_shape=(1, 32, 32, 3))
    x = activated(x, conv(16, 3))
    for channels, strides in ((16, 1), (32, 2), (64, 2)):
        y = activated(x, conv(channels, 3, strides))
        y = layers.BatchNormalization()(conv(channels, 3)(y))
        if strides > 1:
            x = conv(channels, 1, strides)(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(source, dense(10, "softmax")(x))


def mobilenet():
    """MLPerf Tiny's visual wake words: MobileNetV1 0.25, 96x96x3, with a mean over the image."""
    x = source = layers.Input(batch_shape=(1, 96, 96, 3))
    x = activated(x, conv(8, 3, 2))
    rows = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
    for channels, strides in rows:
        x = activated(activated(x, depthwise(strides)), conv(channels, 1))
    return keras.Model(source, dense(2, "softmax")(layers.GlobalAveragePooling2D()(x)))


def residual():
    """Two blocks with a linear end: what runs around them and what runs through them are added."""
    x = source = layers.Input(batch_shape=(1, 8, 8, 3))
    x = activated(x, conv(8, 3))
    for _ in range(2):
        y = conv(8, 1)(activated(activated(x, conv(12, 1)), depthwise()))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(source, dense(5, "softmax")(x))


def squeeze_and_excite():
    """As in MobileNetV3: hard swish, and channels that are weighed by what the whole image says."""
    x = source = layers.Input(batch_shape=(1, 8, 8, 3))
    x = layers.Activation("hard_silu")(conv(8, 3)(x))
    x = layers.Activation("hard_silu")(depthwise(multiplier=2)(x))
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Activation("sigmoid")(conv(16, 1)(layers.ReLU()(conv(4, 1)(y))))
    x = conv(6, 1)(layers.Multiply()([x, y]))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return keras.Model(source, dense(5)(x))


def dense_block():
    """Tensors with three readers, joined again."""
    x = source = layers.Input(batch_shape=(1, 7, 6, 2))
    x = activated(x, conv(4, 3))
    for _ in range(2):
        x = layers.Concatenate()([x, activated(x, conv(3, 3)), layers.Activation("tanh")(depthwise()(x))])
    x = layers.Multiply()([x, layers.LeakyReLU(0.2)(conv(x.shape[-1], 1)(x))])
    x = layers.Concatenate(axis=1)([layers.AveragePooling2D(2)(x), layers.MaxPooling2D()(x)])
    return keras.Model(source, dense(4)(layers.Flatten()(x)))


def decoder():
    """Down and up again, with a difference and padding."""
    x = source = layers.Input(batch_shape=(1, 8, 8, 2))
    first = activated(x, conv(4, 3))
    y = layers.ZeroPadding2D(((1, 0), (1, 0)))(first)
    y = activated(y, layers.Conv2D(6, 3, 2, padding="valid"))
    y = layers.Conv2DTranspose(4, 3, 2, padding="same", kernel_initializer="he_normal")(y)
    y = layers.Subtract()([first, layers.LeakyReLU(0.1)(y)])
    y = layers.Conv2DTranspose(2, 2, 1, padding="valid", activation="relu")(y)
    return keras.Model(source, dense(3)(layers.Flatten()(y)))


def multi_label():
    """Ends in a sigmoid."""
    x = source = layers.Input(batch_shape=(1, 12))
    return keras.Model(source, dense(5, "sigmoid")(activated(x, dense(10))))


BRANCHES = {"residual": residual, "squeeze": squeeze_and_excite, "dense block": dense_block, "decoder": decoder}


def tflite(model, seed=0, samples=8):
    """Quantises a model to int8 with random calibration samples."""
    random = np.random.default_rng(seed)
    shape = model.input_shape
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([random.normal(size=shape).astype(np.float32)] for _ in range(samples))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


MLPERF_TINY = {"AD": autoencoder, "KWS": ds_cnn, "IC": resnet, "VWW": mobilenet}


@functools.cache
def converted(make):
    """The `.tflite` of a function that makes a model, converted once a session."""
    keras.utils.set_random_seed(7)
    return tflite(make())
