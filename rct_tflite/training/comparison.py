"""The same architecture trained in float32, with quantisation-aware training, and on integers only, side by side."""

import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from rct_tflite.errors import DataError, QuantizationError, RecipeError
from rct_tflite.training.contenders import (
    DEFAULT_METHODS,
    Contender,
    Kind,
    Measured,
    Method,
    Samples,
    Schedule,
    method_of,
)
from rct_tflite.training.losses import gives_probabilities
from rct_tflite.training.memory import parameter_bytes
from rct_tflite.training.quantize import quantize


@dataclass(frozen=True)
class Row:
    """What one training gave.

    Attributes:
        method: Name of the method.
        seed: Of initial weights, order of the samples and rounding.
        score: Accuracy in percent, or R2 in percent for a regression; None if the training diverged.
        measured: Bits and energies.
        parameter_bytes: Of this method at the end.
        float32_bytes: Of the same parameters in float32.
        qat_bytes: Of the same parameters in QAT, 8 + 32 bits a weight.
        step_ms: Time of a training step: the fastest epoch after the first one.
        note: What the reader must know, such as layers that QAT leaves in float32.
    """

    method: str
    seed: int
    score: float | None
    measured: Measured
    parameter_bytes: int
    float32_bytes: int
    qat_bytes: int
    step_ms: float
    note: str = ""


Progress = Callable[[str, int], None]
"""Called after each epoch with the method and the number of epochs that it has done."""


def compare(
    build: Callable[..., Any],
    data: Samples,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    schedule: Schedule | None = None,
    seeds: int = 3,
    progress: Progress | None = None,
) -> list[Row]:
    """Trains one architecture with every method and every seed.

    Args:
        build: Makes a fresh float Keras model that ends in logits; called with the seed if it takes an argument.
        data: Samples to train on and to test with.
        methods: Names, see `method_of()`.
        schedule: Of every training; the default is 10 epochs.
        seeds: Number of trainings of each method, with the seeds 0, 1...
        progress: Told after each epoch.

    Returns:
        A row for each training, methods in the given order.

    Raises:
        RecipeError: If a method is unknown, or a setting out of range.
        DataError: If the samples do not fit the model.
        UnsupportedLayerError: If the model cannot be quantised.
    """
    chosen = [method_of(name) for name in methods]
    if seeds < 1 or not chosen:
        raise RecipeError(f"Expected at least one method and one seed. Received: methods={methods}, seeds={seeds}.")
    schedule = schedule or Schedule()
    check_fit(built(build, 0), data, schedule)
    return [train(build, data, method, schedule, seed, progress) for method in chosen for seed in range(seeds)]


def train(
    build: Callable[..., Any],
    data: Samples,
    method: Method,
    schedule: Schedule,
    seed: int,
    progress: Progress | None = None,
) -> Row:
    """Trains one method once and tests it; the arguments are those of `compare()`."""
    floating = built(build, seed)
    size = parameter_bytes(quantize(floating))  # of the fresh weights: a training may diverge
    contender = Contender(floating, method, data, schedule, seed)
    clock = _Clock(lambda done: progress(method.name, done) if progress else None)
    batches, note = batches_of(data, schedule, seed), contender.note
    keras.utils.set_random_seed(seed)
    callbacks = [*contender.callbacks, clock.callback(contender.api)]
    try:
        with _without_warnings():
            contender.model.fit(batches, epochs=schedule.epochs, shuffle=False, verbose=0, callbacks=callbacks)
            score = score_of(contender.model.predict(data.x_test, batch_size=256, verbose=0), data)
    except QuantizationError as error:
        score, note = None, str(error)
    if method.kind is Kind.RCT:
        size = parameter_bytes(contender.model)
    held = {Kind.FLOAT32: size.float32, Kind.QAT: size.qat, Kind.RCT: size.rct}
    return Row(
        method=method.name,
        seed=seed,
        score=score,
        measured=contender.measured(),
        parameter_bytes=held[method.kind],
        float32_bytes=size.float32,
        qat_bytes=size.qat,
        step_ms=clock.step_ms(len(batches)),
        note=note,
    )


def built(build: Callable[..., Any], seed: int) -> Any:
    """Makes the float model with seeded initial weights.

    Raises:
        DataError: If `build` returns something else than a Keras 3 model.
    """
    keras.utils.set_random_seed(seed)
    model = build(seed) if inspect.signature(build).parameters else build()
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise DataError(
            "The function that builds the model must return a Keras 3 model that begins with keras.Input. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    return model


def check_fit(model: Any, data: Samples, schedule: Schedule) -> None:
    """Checks that the samples fit the model, before hours of training.

    Raises:
        DataError: If they do not.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise DataError(
            f"Models are compared on one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}."
        )
    if data.is_classification and gives_probabilities(model.outputs[0]):
        raise DataError(
            "Classifiers are compared on logits. Expected a model that ends without activation. "
            "Received: a softmax or sigmoid in output "
            f"{model.outputs[0]._keras_history.operation.name!r}. Leave it out."
        )
    wanted, received = tuple(model.inputs[0].shape[1:]), data.x_train.shape[1:]
    if len(wanted) != len(received) or any(w not in (None, r) for w, r in zip(wanted, received, strict=True)):
        raise DataError(f"The samples do not fit the model. Expected shape {wanted}. Received: {received}.")
    if len(data.x_train) < schedule.batch_size:
        raise DataError(
            f"Expected at least one batch of {schedule.batch_size} training samples. Received: {len(data.x_train)}."
        )
    outputs = model.outputs[0].shape[-1]
    classes = max(outputs, 2)
    labels = (data.y_train, data.y_test)
    if data.is_classification and (
        data.y_train.ndim != 1 or min(y.min() for y in labels) < 0 or max(y.max() for y in labels) >= classes
    ):
        raise DataError(
            f"Expected labels (count,) of 0 to {classes - 1}, as the model has {outputs} outputs. Received: shape "
            f"{data.y_train.shape}, {min(y.min() for y in labels)} to {max(y.max() for y in labels)}."
        )
    if not data.is_classification and np.ptp(data.y_test, axis=0).max() == 0.0:
        raise DataError(f"Expected test values that differ. Received: all alike, {data.y_test[0]}.")
    if not data.is_classification and data.y_train[0].size != outputs:
        raise DataError(f"Expected {outputs} values to predict. Received: labels of shape {data.y_train.shape}.")


def batches_of(data: Samples, schedule: Schedule, seed: int) -> Any:
    """Returns a `tf.data.Dataset` that gives every contender the same batches in the same order."""
    y = data.y_train if data.is_classification else data.y_train.reshape(len(data.y_train), -1)
    x, y = tf.constant(data.x_train), tf.constant(y)
    order = tf.data.Dataset.range(len(data.x_train)).shuffle(len(data.x_train), seed=seed)
    batches = order.batch(schedule.batch_size, drop_remainder=True)
    return batches.map(lambda chosen: (tf.gather(x, chosen), tf.gather(y, chosen))).prefetch(2)


def score_of(outputs: npt.NDArray[np.float32], data: Samples) -> float | None:
    """Returns accuracy in percent, or R2 in percent for a regression; None if an output is not a number."""
    if not np.isfinite(outputs).all():
        return None
    if not data.is_classification:
        wanted = data.y_test.reshape(outputs.shape).astype(np.float64)
        return float(100.0 * (1.0 - np.square(wanted - outputs).sum() / np.square(wanted - wanted.mean(0)).sum()))
    classes = outputs[:, 0] > 0.0 if outputs.shape[-1] == 1 else outputs.argmax(axis=-1)
    return float(100.0 * np.mean(classes == data.y_test))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Holds back TensorFlow's advice against tracing often: every contender is another model."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Clock:
    """Times epochs. The fastest one tells a step's time: others share the machine, the first one traces."""

    def __init__(self, done: Callable[[int], None]):
        self._done = done
        self._seconds: list[float] = []
        self._started = 0.0

    def callback(self, api: Any) -> Any:
        """Returns a callback of Keras 3 or tf_keras."""
        return api.callbacks.LambdaCallback(on_epoch_begin=self._begin, on_epoch_end=self._end)

    def _begin(self, epoch: int, logs: Any) -> None:
        self._started = time.perf_counter()

    def _end(self, epoch: int, logs: Any) -> None:
        self._seconds.append(time.perf_counter() - self._started)
        self._done(epoch + 1)

    def step_ms(self, steps: int) -> float:
        """Returns the milliseconds of a step in an epoch of `steps`; NaN if no epoch was finished."""
        return 1000.0 * min(self._seconds[1:] or self._seconds, default=float("nan")) / steps
