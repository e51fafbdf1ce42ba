"""The ways to train that are compared: float32, quantisation-aware training, and integers only."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from rct_tflite.energy.paper_model import ACCESSES, FLOAT_BITS, QAT_BITS, QAT_MOVED_BITS, GemmModel, moved_bits
from rct_tflite.errors import DataError, RecipeError
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS, Rounding
from rct_tflite.spec.recipe import Recipe
from rct_tflite.spec.run_log import GEMM_ENERGY, MOVED_BITS
from rct_tflite.training.callback import RCTCallback
from rct_tflite.training.optimizers import SGD
from rct_tflite.training.quantize import quantize
from rct_tflite.training.tf_keras_models import tf_keras
from rct_tflite.training.tfmot_bridge import quantization_aware


class Kind(StrEnum):
    """What trains."""

    FLOAT32 = "float32"
    QAT = "qat"
    RCT = "rct"


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: As the user names it.
        kind: What trains.
        recipe: Of the quantised-only kinds.
        adaptive: Whether bit-widths adapt, at the callback's default thresholds.
    """

    name: str
    kind: Kind
    recipe: Recipe | None = None
    adaptive: bool = True


_METHODS = (
    Method("float32", Kind.FLOAT32),
    Method("qat", Kind.QAT),
    Method("rct-stochastic", Kind.RCT, Recipe(bits=6)),
    Method("rct-truncate", Kind.RCT, Recipe(bits=6, max_bits=16, rounding=Rounding.TRUNCATE)),
)
DEFAULT_METHODS = (*(method.name for method in _METHODS), "fixed-4", "fixed-6", "fixed-8")
"""Names of the methods that are compared unless others are asked for."""


def method_of(name: str) -> Method:
    """Returns the method of a name: "float32", "qat", "rct-stochastic", "rct-truncate", "fixed-2" to "fixed-16".

    Raises:
        RecipeError: If there is no such method.

    Example:
        >>> method_of("fixed-4").recipe.bits
        4
    """
    for method in _METHODS:
        if method.name == name:
            return method
    fixed = re.fullmatch(r"fixed-(\d{1,2})", name)
    if fixed and MIN_BITS <= int(fixed[1]) <= MAX_BITS:
        bits = int(fixed[1])
        return Method(name, Kind.RCT, Recipe(bits=bits, max_bits=max(8, bits)), adaptive=False)
    raise RecipeError(
        f"Unknown method. Expected some of: {', '.join(method.name for method in _METHODS)}, fixed-{MIN_BITS} to "
        f"fixed-{MAX_BITS}. Received: {name!r}."
    )


@dataclass(frozen=True)
class Samples:
    """Data to train on and to test with.

    Attributes:
        x_train: (count, ...), as the model takes it.
        y_train: (count,) integers for classes, else (count, ...) floats to be predicted.
        x_test: As `x_train`.
        y_test: As `y_train`.
    """

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in ("x_train", "y_train", "x_test", "y_test")}
        for part in ("train", "test"):
            x, y = shapes[f"x_{part}"], shapes[f"y_{part}"]
            if not x or not y or x[0] != y[0] or x[0] == 0:
                raise DataError(
                    f"Samples and labels do not fit together. Expected x_{part} and y_{part} of the same length, "
                    f"at least 1. Received: shapes {x} and {y}."
                )
        if shapes["x_train"][1:] != shapes["x_test"][1:] or shapes["y_train"][1:] != shapes["y_test"][1:]:
            raise DataError(f"Training and test samples must have the same shape. Received: {shapes}.")
        for name in shapes:
            array = getattr(self, name)
            if array.dtype.kind not in "iufb" or not np.isfinite(array).all():
                raise DataError(f"Expected finite numbers in {name}. Received: dtype {array.dtype}, or NaN in it.")

    @property
    def is_classification(self) -> bool:
        """Whether the labels are classes."""
        return self.y_train.dtype.kind in "iub"


@dataclass(frozen=True)
class Schedule:
    """How every method trains: plain gradient descent, the rate falling to 0 on half a cosine.

    Args:
        epochs: Passes over the training samples.
        batch_size: Samples in a step; an incomplete last batch is left out.
        learning_rate: At the start.
        interval: Batches between two decisions on the bit-widths.

    Raises:
        RecipeError: If a value is out of range.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.1
    interval: int = 25

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.interval) < 1 or not 0.0 < self.learning_rate < math.inf:
            raise RecipeError(
                f"Expected epochs, batch_size and interval of at least 1 and a learning_rate above 0. Received: {self}."
            )

    def steps(self, data: Samples) -> int:
        """Returns the steps of a whole training."""
        return self.epochs * (len(data.x_train) // self.batch_size)


@dataclass(frozen=True)
class Measured:
    """What a training tells about bits and, by the papers' models, about energy.

    Attributes:
        mean_bits: Of each quantised weight, mean over epochs; empty in float32 and QAT.
        final_bits: Of each quantised weight at the end; empty in float32 and QAT.
        average_bits: Stored bits of a weight, mean over weights and epochs; 32 in float32, 8 + 32 in QAT.
        last_bits: The same at the end.
        gemm: Model of `energy/paper_model.py` to the energy of the matrix products, as a share of float32's; None
            for QAT.
        moving: Bits moved for the weights in 4 accesses a step, as a share of QAT's.
    """

    mean_bits: Mapping[str, float]
    final_bits: Mapping[str, int]
    average_bits: float
    last_bits: float
    gemm: Mapping[str, float | None]
    moving: float | None


class Contender:
    """A model that is ready to train, and how it is watched.

    Attributes:
        model: Compiled; of Keras 3, or of tf_keras.
        api: The module that `model` is of.
        callbacks: For `fit()`.
        note: What the reader of the results must know.
    """

    def __init__(self, floating: Any, method: Method, data: Samples, schedule: Schedule, seed: int):
        self.method, self.note = method, ""
        self.api: Any = keras
        self.callbacks: list[Any] = []
        if method.kind is Kind.QAT:
            aware = quantization_aware(floating)
            self.api, self.model = tf_keras(), aware.model
            if aware.unquantized:
                self.note = f"tfmot leaves in float32: {', '.join(aware.unquantized)}"
        elif method.kind is Kind.RCT:
            self.model = quantize(floating, method.recipe, seed)
            freeze_after = None if method.adaptive else 0  # the callback then measures, and widens ranges
            self.callbacks.append(RCTCallback(interval=schedule.interval, freeze_after=freeze_after))
        else:
            self.model = floating
        decay = self.api.optimizers.schedules.CosineDecay(schedule.learning_rate, schedule.steps(data))
        optimizer = SGD(decay) if method.kind is Kind.RCT else self.api.optimizers.SGD(decay)
        self.model.compile(optimizer=optimizer, loss=_loss(self.api, data, floating))

    def measured(self) -> Measured:
        """Reads what the training noted down."""
        if self.method.kind is not Kind.RCT:
            qat = self.method.kind is Kind.QAT
            bits = QAT_BITS if qat else FLOAT_BITS
            moved = QAT_MOVED_BITS if qat else moved_bits(FLOAT_BITS)
            # How QAT computes on a device is not defined: its training is simulated in float32.
            gemm: dict[str, float | None] = dict.fromkeys(map(str, GemmModel), None if qat else 1.0)
            return Measured({}, {}, bits, bits, gemm, moved / QAT_MOVED_BITS)
        history = self.model.history.history
        weights = self.model.integer_weights
        epochs = {weight.label: history.get(f"bits/{weight.label}", [int(weight.bits)]) for weight in weights}
        mean = {label: float(np.mean(bits)) for label, bits in epochs.items()}
        last = {label: int(bits[-1]) for label, bits in epochs.items()}
        counts = {weight.label: weight.weight_count for weight in weights}
        gemm = {model.value: _last(history, f"{GEMM_ENERGY}/{model}") for model in GemmModel}
        return Measured(
            mean_bits=mean,
            final_bits=last,
            average_bits=_weighted(mean, counts),
            last_bits=_weighted(last, counts),
            gemm=gemm,
            moving=_last(history, f"{MOVED_BITS}/{max(ACCESSES)}"),
        )


def _last(history: Mapping[str, list[float]], name: str) -> float | None:
    return history[name][-1] if name in history else None


def _weighted(bits: Mapping[str, float], counts: Mapping[str, int]) -> float:
    return sum(bits[label] * count for label, count in counts.items()) / sum(counts.values())


def _loss(api: Any, data: Samples, floating: Any) -> Any:
    if not data.is_classification:
        return api.losses.MeanSquaredError()
    if floating.output_shape[-1] == 1:
        return api.losses.BinaryCrossentropy(from_logits=True)
    return api.losses.SparseCategoricalCrossentropy(from_logits=True)
