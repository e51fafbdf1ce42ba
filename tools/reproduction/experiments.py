"""The experiments: data, network and schedule of each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from models.cifar10_resnet import model as resnet
from models.diabetes import model as diabetes
from models.fashion_mnist import model as fashion
from models.text import model as text
from rct_tflite.training.contenders import Samples, Schedule
from tools.reproduction import data


@dataclass(frozen=True)
class Experiment:
    """One data set with one network.

    Attributes:
        data: What was read.
        samples: To train on and to test with.
        build: Makes the float network of a seed.
        schedule: Of every training.
    """

    data: str
    samples: Samples
    build: Callable[[int], Any]
    schedule: Schedule


def _fashion(quick: bool) -> Experiment:
    if quick:
        build = partial(fashion.build, shape=(8, 8, 1))
        return Experiment(
            "scikit-learn digits", fashion.samples(data.digits(), 512), build, _short(fashion.SCHEDULE, 4)
        )
    source, arrays = data.arrays_of("fashion_mnist", "fashion_mnist")
    return Experiment(f"{source}, first 20000", fashion.samples(arrays, 20000), fashion.build, fashion.SCHEDULE)


def _resnet(quick: bool, blocks: int) -> Experiment:
    if quick:
        arrays = data.digits()
        arrays |= {part: arrays[part][..., None] for part in ("x_train", "x_test")}
        # Tracing takes most of the time: one network has a stride and a shortcut, the other has the more blocks.
        tiny: dict[str, Any] = {"filters": (8, 16)} if blocks == 1 else {"filters": (8,), "blocks": 2}
        build = partial(resnet.build, shape=(8, 8, 1), **tiny)
        return Experiment("scikit-learn digits", resnet.samples(arrays, 512), build, _short(resnet.SCHEDULE, 6))
    source, arrays = data.arrays_of("cifar10_jpegq75", "cifar10")
    build = partial(resnet.build, blocks=blocks)
    return Experiment(f"{source}, first 10000", resnet.samples(arrays, 10000), build, resnet.SCHEDULE)


def _text(quick: bool, name: str, network: str) -> Experiment:
    source, arrays = (
        ("scikit-learn descriptions", data.described_data_sets()) if quick else data.arrays_of(name, "imdb")
    )
    samples = text.samples(arrays)
    build = partial(
        text.build_lstm if network == "lstm" else text.build_conv,
        words=text.vocabulary(samples),
        length=samples.x_train.shape[1],
        classes=1 + int(samples.y_train.max()),
    )
    schedule = text.LSTM_SCHEDULE if network == "lstm" else text.CONV_SCHEDULE
    if quick:
        schedule = replace(_short(schedule, 8 if network == "lstm" else 6), batch_size=16)
    return Experiment(source, samples, build, schedule)


def _diabetes(quick: bool) -> Experiment:
    schedule = _short(diabetes.SCHEDULE, 8) if quick else diabetes.SCHEDULE
    return Experiment("scikit-learn diabetes", Samples(**data.diabetes()), diabetes.build, schedule)


def _short(schedule: Schedule, epochs: int) -> Schedule:
    return replace(schedule, epochs=epochs, batch_size=32, interval=10)


EXPERIMENTS: dict[str, Callable[[bool], Experiment]] = {
    "fashion-mnist": _fashion,
    "trec6-conv": partial(_text, name="text_trec6", network="conv"),
    "resnet8-cifar10": partial(_resnet, blocks=1),
    "diabetes": _diabetes,
    "trec6-lstm": partial(_text, name="text_trec6", network="lstm"),
    "agnews-conv": partial(_text, name="text_agnews_small", network="conv"),
    "sst2-conv": partial(_text, name="text_sst2", network="conv"),
    "resnet20-cifar10": partial(_resnet, blocks=3),
}
"""Name to what makes it; the argument is whether it must be tiny. In the order in which they run."""
