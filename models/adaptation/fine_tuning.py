"""Two ways to fine-tune one exported network, batch 1, sample by sample: the firmware's integers, float32 in Keras."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.adaptation.data import Part
from rct_tflite import training  # noqa: F401 (before Keras: it quiets TensorFlow's log)
from rct_tflite.firmware.build import build_project
from rct_tflite.firmware.project import write_firmware
from rct_tflite.firmware.samples import Samples, quantize_inputs
from rct_tflite.firmware.session import Runner, fine_tune, host_runner
from rct_tflite.planning.memory import plan_memory
from rct_tflite.planning.selection import ChannelGains, select
from rct_tflite.spec.graph import Activation, Graph, Op, OpKind, Padding, Tensor
from rct_tflite.spec.target_file import find_target
from rct_tflite.spec.training_plan import TrainingPlan

import keras  # isort: skip

TARGET = "cortex-m7"
Classes = npt.NDArray[np.int64]


class FineTuner(Protocol):
    """One way to go on training an exported network."""

    def tune(self, learn: Part, test: Part, learning_rate: float, epochs: int) -> tuple[Classes, Classes]:
        """Learns, always from the weights as exported.

        Args:
            learn: Samples, learnt from in their order in each epoch.
            test: Samples to predict.
            learning_rate: Of plain SGD.
            epochs: Passes over `learn`.

        Returns:
            The predicted classes of `test` before and after.
        """


class IntegerTuner:
    """The C of the firmware, compiled for this computer: the bytes that a device would learn.

    Args:
        graph: The exported network.
        train: What learns: "all", "last:N", names, or parts of layers.
        folder: An empty folder for the C projects, one for each learning rate.
        gains: Which channels, or rows of a table, learn where not all do; without it the first.
    """

    def __init__(self, graph: Graph, train: str, folder: Path, gains: ChannelGains | None = None) -> None:
        self._graph, self._train, self._folder, self._gains = graph, train, folder, gains
        self._runners: dict[float, Runner] = {}

    def tune(self, learn: Part, test: Part, learning_rate: float, epochs: int) -> tuple[Classes, Classes]:
        """See `FineTuner`."""
        samples = [Samples(quantize_inputs(part.x, self._graph), part.y.astype(np.int64)) for part in (learn, test)]
        tuning = fine_tune(self._runner(learning_rate, samples[0]), *samples, epochs)
        return tuning.before.argmax(axis=1), tuning.after.argmax(axis=1)

    def _runner(self, learning_rate: float, learn: Samples) -> Runner:
        """Returns the firmware for a learning rate: the rate is in its tables."""
        if learning_rate not in self._runners:
            plan = select(self._graph, self._train, learning_rate, gains=self._gains)
            folder = self._folder / f"rate-{learning_rate:g}"
            folder.mkdir()
            memory = plan_memory(self._graph, plan)
            write_firmware(folder, self._graph, plan, memory, find_target(TARGET), learn.inputs[:1])
            self._runners[learning_rate] = host_runner(build_project(folder, "host").image)
        return self._runners[learning_rate]


class FloatTuner:
    """float32 in Keras: the layers of the exported network, from the weights that its integers stand for.

    Args:
        graph: The exported network.
        plan: Which layers learn.
    """

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        self.model = float_network(graph, plan.trained)
        self._start = self.model.get_weights()
        self._steps = 0

    def tune(self, learn: Part, test: Part, learning_rate: float, epochs: int) -> tuple[Classes, Classes]:
        """See `FineTuner`."""
        self.model.set_weights(self._start)
        before = self._predict(test)
        self._compile(len(learn.y))
        self.model.optimizer.learning_rate = learning_rate
        self.model.fit(learn.x, learn.y, batch_size=1, epochs=epochs, shuffle=False, verbose=0)
        return before, self._predict(test)

    def _compile(self, steps: int) -> None:
        """Compiles all steps of an epoch into one execution: the same steps, several times faster than one by one."""
        if self._steps != steps:
            self._steps = steps
            self.model.compile(
                optimizer=keras.optimizers.SGD(),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                steps_per_execution=steps,
            )

    def _predict(self, part: Part) -> Classes:
        logits = keras.ops.convert_to_numpy(self.model(part.x, training=False))
        return np.asarray(logits.argmax(axis=1), np.int64)


def float_network(graph: Graph, trained: Sequence[str]) -> Any:
    """Returns the Keras model that computes in float32 what a graph computes in integers.

    Args:
        graph: The exported network; batch normalisation is in its weights.
        trained: Names of the ops that learn.
    """
    source = graph.tensors[graph.input]
    model = keras.Sequential([keras.Input(source.shape[1:], dtype="int32" if graph.takes_ids else "float32")])
    for op in graph.ops:
        layer = _layer(graph, op)
        model.add(layer)
        if op.has_weights:
            weights, *bias = (_real(graph.tensors[index]) for index in op.inputs[1:])
            layer.set_weights([np.moveaxis(weights, 0, -1) if bias else weights, *bias])
            layer.trainable = op.name in trained
    return model


def _layer(graph: Graph, op: Op) -> Any:
    shape = graph.tensors[op.output].shape[1:]
    options: Any = op.options
    if op.kind is OpKind.RESHAPE:
        return keras.layers.Reshape(shape)
    if op.kind is OpKind.GATHER:
        return keras.layers.Embedding(*graph.row_shape(op))
    activation = {Activation.NONE: None, Activation.RELU: "relu", Activation.RELU6: "relu6"}[options.activation]
    if op.kind is OpKind.FULLY_CONNECTED:
        return keras.layers.Dense(shape[-1], activation)
    padding = "same" if options.padding is Padding.SAME else "valid"
    strides = (options.stride_h, options.stride_w)
    if op.kind is OpKind.CONV_2D:
        kernel = graph.tensors[op.inputs[1]].shape[1:3]
        return keras.layers.Conv2D(shape[-1], kernel, strides, padding, activation=activation)
    pooling = keras.layers.MaxPooling2D if op.kind is OpKind.MAX_POOL_2D else keras.layers.AveragePooling2D
    return pooling((options.filter_h, options.filter_w), strides, padding)


def _real(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Returns the numbers that the integers of weights or of a bias stand for; their zero point is 0."""
    assert tensor.data is not None
    assert tensor.quantization is not None
    scales = tensor.quantization.scales
    shape = (-1,) + (1,) * (tensor.data.ndim - 1) if scales.size > 1 else ()
    return np.asarray(tensor.data * scales.reshape(shape), np.float32)
