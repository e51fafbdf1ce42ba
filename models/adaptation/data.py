"""Five data sets, cut into what a network is made with and what it meets on the device.

Each has a source, all that is known before shipping, and targets: another speaker, person, patient, load or scanner.
Of a target, few labelled samples are learnt from, a part of them chooses learning rates, and the rest is the test.
What turns signals into a network's input is plain NumPy and the same for every way to train.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FOLDS = 4
"""A learning rate is chosen on each of so many parts of the samples to learn from, by learning from the others."""

Arrays = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs (count, height, width, channels), float32, and their classes (count,), int32."""

    x: Floats
    y: npt.NDArray[np.int32]

    def take(self, rows: npt.NDArray[Any]) -> "Part":
        """Returns some of the samples, by index or by mask."""
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True, eq=False)
class Target:
    """What one device meets.

    Attributes:
        name: Of the person, the speaker, the record, the load.
        learn: Labelled samples in the order in which they are learnt from.
        test: Samples that are never learnt from, of classes that can be learnt from.
    """

    name: str
    learn: Part
    test: Part

    def folds(self) -> list[tuple[Part, Part]]:
        """Splits what is learnt from in several ways: to learn from, and to choose a learning rate by."""
        fold = np.arange(len(self.learn.y)) % FOLDS
        return [(self.learn.take(fold != held), self.learn.take(fold == held)) for held in range(FOLDS)]


@dataclass(frozen=True, eq=False)
class Domain:
    """A source, and the targets that a network of that source is adapted to."""

    source: Part
    targets: tuple[Target, ...]


def load(name: str, seed: int, folder: Path = SHARED) -> tuple[Domain, ...]:
    """Reads one data set.

    Args:
        name: One of `DATA_SETS`.
        seed: Of the order of the samples, and of those of USPS that are learnt from.
        folder: Where the files are.

    Raises:
        DataError: If the file is missing, or is not that data set.
    """
    files, cut = DATA_SETS[name]
    arrays = [_read(folder / file, name) for file in files]
    try:
        return cut(seed, *arrays)
    except (KeyError, ValueError, IndexError) as error:
        raise _refusal(folder / files[0], name, f"other content: {error!r}") from error


def _read(path: Path, name: str) -> Arrays:
    if not path.is_file():
        raise _refusal(path, name, "no such file")
    try:
        with np.load(path) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # whatever a damaged file makes NumPy, zipfile and their decompressors raise
        raise _refusal(path, name, str(error)) from error


def _refusal(path: Path, name: str, received: str) -> DataError:
    return DataError(
        f"Cannot read the data set {name!r}. Expected the file {path}, with the arrays that the README.md of that "
        f"folder lists. Received: {received}. Put it there, name another folder with --data, or choose other sets "
        "with --only."
    )


def evenly(labels: npt.NDArray[Any], per_class: int) -> Integers:
    """Returns the indices of samples of each class, spread over its samples from the first to the last.

    Windows of a signal overlap with their neighbours: taken far apart, they are different samples.

    Example:
        >>> evenly(np.array([0, 0, 0, 0, 0, 1, 1, 1]), 3).tolist()
        [0, 2, 4, 5, 6, 7]
    """
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate(
        [place[np.linspace(0, len(place) - 1, min(per_class, len(place))).round().astype(int)] for place in places]
    )


def target(name: str, learn: Part, test: Part, seed: int) -> Target:
    """Puts the samples to learn from in a random order, and leaves classes without any out of the test."""
    order = np.random.default_rng(seed).permutation(len(learn.y))
    return Target(name, learn.take(order), test.take(np.isin(test.y, learn.y)))


def _part(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Part:
    return Part(np.ascontiguousarray(x, np.float32), y.astype(np.int32))


# --- spoken digits ---------------------------------------------------------------------------------------------

FRAME, HOP, BANDS = 256, 200, 24
FLOOR_DB = 60.0
SPEAKERS = ("jackson", "nicolas", "theo")
FIRST_TAKES = 5


def spectrogram(signals: npt.NDArray[np.int16]) -> Floats:
    """Returns log spectrograms (count, frames, bands, 1) from 0 to 1 of 8 kHz signals (count, samples).

    Hann windows of 32 ms every 25 ms; the power of their spectrum, averaged in bands that are equally wide on the mel
    scale; decibels below the loudest band of the recording, 60 of them, so that loudness does not matter.
    """
    frames = 1 + (signals.shape[1] - FRAME) // HOP
    window = np.hanning(FRAME).astype(np.float32)
    filters = _mel_filters()
    result = np.empty((len(signals), frames, BANDS, 1), np.float32)
    for row, signal in zip(result, signals, strict=True):
        cut = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float32), FRAME)[::HOP]
        power = np.abs(np.fft.rfft(cut * window)) ** 2 @ filters
        decibels = 10.0 * np.log10(np.maximum(power / max(float(power.max()), 1.0), 1e-12))
        row[:, :, 0] = np.clip(1.0 + decibels / FLOOR_DB, 0.0, 1.0)
    return result


def _mel_filters() -> Floats:
    """Returns (bins, bands): which share of each bin of the spectrum a triangular band takes."""
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + 4000.0 / 700.0), BANDS + 2)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / 4000.0 * (FRAME // 2)
    bins = np.arange(FRAME // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    # The lowest bands are narrower than a bin: they take the nearest one.
    filters[np.rint(edges[1:-1]).astype(int), np.arange(BANDS)] += 1e-3
    return (filters / filters.sum(axis=0)).astype(np.float32)


def spoken_digits(seed: int, arrays: Arrays) -> tuple[Domain, ...]:
    """A new speaker: the five others are the source; five takes of each digit to learn from, the other 45 to test."""
    y, speaker, take = (
        np.concatenate([arrays[f"{key}_train"], arrays[f"{key}_test"]]) for key in ("y", "speaker", "take")
    )
    signals = np.concatenate([arrays["x_train"], arrays["x_test"]])
    everything = _part(spectrogram(signals), y)
    domains = []
    for name in SPEAKERS:
        own = speaker == list(arrays["speaker_names"]).index(name)
        first = take < FIRST_TAKES
        new = target(name, everything.take(own & first), everything.take(own & ~first), seed)
        domains.append(Domain(everything.take(~own), (new,)))
    return tuple(domains)


# --- people who move -------------------------------------------------------------------------------------------

WINDOWS_PER_ACTIVITY = 4


def activities(seed: int, arrays: Arrays) -> tuple[Domain, ...]:
    """A new person: the source are the 16 training people; learns four windows of each activity in each session.

    Each person recorded two sessions and wore the phone differently in the second. Windows before and after one that
    is learnt from share samples with it and are left out of the test. The six channels are in g and rad/s, less their
    mean and divided by their deviation over the source.
    """
    mean, deviation = (getattr(arrays["x_train"], of)(axis=(0, 1)) for of in ("mean", "std"))
    train, test = (
        _part(((arrays[f"x_{part}"] - mean) / deviation)[:, None], arrays[f"y_{part}"]) for part in ("train", "test")
    )
    people = arrays["subject_test"]
    targets = []
    for person in np.unique(people):
        own = np.flatnonzero(people == person)
        learn, rest = _apart(np.stack([arrays["experiment_test"][own], test.y[own]]))
        targets.append(target(f"person {person}", test.take(own[learn]), test.take(own[rest]), seed))
    return (Domain(train, tuple(targets)),)


def _apart(groups: npt.NDArray[Any]) -> tuple[Integers, Integers]:
    """Returns indices of windows to learn from, a few of each group (a column), and of those that do not touch them."""
    learn, rest = [], []
    for group in np.unique(groups, axis=1).T:
        rows = np.flatnonzero((groups == group[:, None]).all(axis=0))
        chosen = evenly(np.zeros(len(rows)), WINDOWS_PER_ACTIVITY)
        learn.append(rows[chosen])
        rest.append(np.delete(rows, np.unique(np.clip([chosen - 1, chosen, chosen + 1], 0, len(rows) - 1))))
    return np.concatenate(learn), np.concatenate(rest)


# --- bearings --------------------------------------------------------------------------------------------------

WINDOWS_PER_FAULT = 10
WIDEST = 6.0


def bearings(seed: int, arrays: Arrays) -> tuple[Domain, ...]:
    """Another load: the source is load 0; learns from the first half of each recording, is tested on the second.

    Each window has mean 0 and deviation 1, and what lies beyond six deviations is cut off.
    """
    parts = {part: _part(_normalised(arrays[f"x_{part}"]), arrays[f"y_{part}"]) for part in ("train", "drift")}
    load_of, half = arrays["load_drift"], arrays["part_drift"]
    targets = []
    for horsepower in np.unique(load_of):
        first, second = (parts["drift"].take((load_of == horsepower) & (half == number)) for number in (0, 1))
        learn = first.take(evenly(first.y, WINDOWS_PER_FAULT))
        targets.append(target(f"load {horsepower}", learn, second, seed))
    return (Domain(parts["train"], tuple(targets)),)


def _normalised(signals: npt.NDArray[np.int16]) -> Floats:
    x = signals.astype(np.float32)
    x -= x.mean(axis=1, keepdims=True)
    x /= np.maximum(x.std(axis=1, keepdims=True), 1.0)
    return np.clip(x, -WIDEST, WIDEST)[:, None, :, None]


# --- scanned digits ---------------------------------------------------------------------------------------------

MNIST_IMAGES = 8_000
IMAGES_PER_DIGIT = 10
DRAWS = 3


def scanned_digits(seed: int, usps: Arrays, mnist: Arrays) -> tuple[Domain, ...]:
    """Another scanner: the source is MNIST, the target USPS, with images of its training part to learn from.

    There is one target only: each draw takes other images to learn from. Pixels are from 0 to 1.
    """
    source = _part(mnist["x_train"][:MNIST_IMAGES, ..., None] / 255.0, mnist["y_train"][:MNIST_IMAGES])
    pool, test = (_part(usps[f"x_{part}"][..., None] / 255.0, usps[f"y_{part}"]) for part in ("train", "test"))
    targets = []
    for draw in range(DRAWS):
        order = np.random.default_rng((seed, draw)).permutation(len(pool.y))
        learn = pool.take(order[evenly(pool.y[order], IMAGES_PER_DIGIT)])
        targets.append(target(f"draw {draw + 1}", learn, test, seed))
    return (Domain(source, tuple(targets)),)


# --- heartbeats ------------------------------------------------------------------------------------------------

BEATS_PER_CLASS = 20
FEWEST_ABNORMAL = 200
UNITS_PER_MV = 200.0
RR_PER_S = 360.0
RR_MEAN_S = 0.8


def heartbeats(seed: int, arrays: Arrays) -> tuple[Domain, ...]:
    """A new patient: the source is DS1; learns from the first third of a record, is tested on the rest.

    Targets are the records of DS2 with 200 beats or more of a second class. The channels are millivolts less the
    window's median, and the seconds to the beat before and to the beat after, less 0.8: a premature beat of normal
    shape is known by these alone.
    """
    parts = {part: _beats(arrays, part) for part in ("train", "test")}
    records = arrays["record_test"]
    targets = []
    for record in np.unique(records):
        own = parts["test"].take(records == record)
        counts = np.bincount(own.y)
        if len(counts) < 2 or np.sort(counts)[-2] < FEWEST_ABNORMAL:
            continue
        third = len(own.y) // 3
        early = own.take(np.arange(third))
        learn = early.take(evenly(early.y, BEATS_PER_CLASS))
        frequent = np.flatnonzero(np.bincount(learn.y) >= BEATS_PER_CLASS // 2)
        learn = learn.take(np.isin(learn.y, frequent))
        targets.append(target(f"record {record}", learn, own.take(np.arange(third, len(own.y))), seed))
    return (Domain(parts["train"], tuple(targets)),)


def _beats(arrays: Arrays, part: str) -> Part:
    signals, intervals = arrays[f"x_{part}"], arrays[f"rr_{part}"]
    channels = np.empty((len(signals), 1, signals.shape[1], 3), np.float32)
    channels[:, 0, :, 0] = (signals - np.median(signals, axis=1, keepdims=True)) / UNITS_PER_MV
    channels[:, 0, :, 1:] = np.clip(intervals / RR_PER_S - RR_MEAN_S, -1.0, 1.0)[:, None]
    return _part(channels, arrays[f"y_{part}"])


DATA_SETS: dict[str, tuple[tuple[str, ...], Callable[..., tuple[Domain, ...]]]] = {
    "spoken-digits": (("fsdd_digits_8k.npz",), spoken_digits),
    "activities": (("har_hapt.npz",), activities),
    "scanned-digits": (("usps_as_mnist_drift.npz", "mnist.npz"), scanned_digits),
    "bearings": (("vibration_cwru.npz",), bearings),
    "heartbeats": (("ecg_mitbih.npz",), heartbeats),
}
"""Name to files, and how they are cut."""
