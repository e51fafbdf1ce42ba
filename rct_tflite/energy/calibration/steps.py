"""Finds where the power steps up and down: stretches of work between stretches of sleep."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rct_tflite.energy.calibration.trace import Trace

MINIMUM_CONTRAST = 6.0
"""Steps are seen where they are so many standard deviations of a bin high."""
_THRESHOLDS = (0.5, 0.35, 0.25, 0.15, 0.65)
"""Shares of the way from the lowest to the highest power."""
_BINS_PER_SLEEP = 20
_LOCAL_BINS = 3


@dataclass(frozen=True)
class Window:
    """A stretch of a trace, in seconds."""

    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_s - self.begin_s


def power_windows(trace: Trace, sleep_s: float, shortest_s: float) -> Iterator[tuple[Window, ...]]:
    """Yields the stretches of high power, for one threshold between sleep and work after the other.

    The trace is averaged in bins, cut at the threshold, and each step is then placed between two samples where two
    means explain the samples around it best.

    Args:
        trace: The recording.
        sleep_s: Length of the stretches of sleep: a bin is a twentieth of it.
        shortest_s: Shorter stretches, such as a line that is printed, are left out.

    Yields:
        The stretches in their order; nothing where the power has no steps.
    """
    width = max(int(sleep_s / trace.interval_s / _BINS_PER_SLEEP), 1)
    bins = _binned(trace.power_w, width)
    if len(bins) < 4:
        return
    low, high = (float(level) for level in np.quantile(bins, (0.02, 0.95)))
    # Half of the differences from bin to bin are smaller than this share of their standard deviation.
    noise = float(np.median(np.abs(np.diff(bins)))) / 0.95
    for share in _THRESHOLDS:
        if share * (high - low) > MINIMUM_CONTRAST / 2 * noise:
            yield _above(trace, bins, low + share * (high - low), width, shortest_s)


def _above(
    trace: Trace, bins: npt.NDArray[np.float64], threshold: float, width: int, shortest_s: float
) -> tuple[Window, ...]:
    high = np.concatenate(([False], bins > threshold, [False]))
    begins, ends = (np.flatnonzero(np.diff(high.astype(np.int8)) == step) for step in (1, -1))
    windows = []
    for begin, end in zip(begins, ends, strict=True):
        if begin == 0 or end == len(bins):
            continue  # cut off by the end of the recording
        if (end - begin + 2) * width * trace.interval_s < shortest_s:
            continue
        window = Window(*(_place(trace, int(at) * width, _LOCAL_BINS * width) for at in (begin, end)))
        if window.seconds >= shortest_s:
            windows.append(window)
    return tuple(windows)


def mark_windows(trace: Trace, bit: int, inverted: bool, shortest_s: float) -> tuple[Window, ...]:
    """Returns the stretches in which a digital input is high, or low where it is `inverted`, but for short ones."""
    assert trace.digital is not None
    high = (trace.digital >> np.uint8(bit) & np.uint8(1)).astype(bool) ^ inverted
    edges = np.flatnonzero(np.diff(high.astype(np.int8))) + 1
    if len(edges) and not high[edges[0]]:
        edges = edges[1:]  # high from the start on: where it began is not known
    times = trace.time_s[edges]
    windows = (Window(float(begin), float(end)) for begin, end in zip(times[::2], times[1::2], strict=False))
    return tuple(window for window in windows if window.seconds >= shortest_s)


def _binned(power: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    count = len(power) // width
    means: npt.NDArray[np.float64] = power[: count * width].reshape(count, width).mean(axis=1)
    return means


def _place(trace: Trace, index: int, reach: int) -> float:
    """Returns the time of the step near a sample: of all places, that with the least squares around two means."""
    first, last = max(index - reach, 0), min(index + reach, len(trace.power_w))
    near = trace.power_w[first:last]
    count = len(near)
    if count < 4:
        return float(trace.time_s[index])
    sums = np.cumsum(near)
    before = np.arange(1, count)
    # What two means take off the sum of squares.
    gain = sums[:-1] ** 2 / before + (sums[-1] - sums[:-1]) ** 2 / (count - before)
    split = int(np.argmax(gain)) + 1
    left, right = sums[split - 1] / split, (sums[-1] - sums[split - 1]) / (count - split)
    return float(trace.time_s[first + split]) + _inside(near, split, left, right) * trace.interval_s


def _inside(near: npt.NDArray[np.float64], split: int, left: float, right: float) -> float:
    """Returns where in the samples beside a split the step is, in samples: a meter's sample may hold the step."""
    shift = 0.0
    if split >= 3:
        left = float(near[: split - 1].mean())
    if split <= len(near) - 3:
        right = float(near[split + 1 :].mean())
    if left == right:
        return 0.0
    for sample, outside in ((near[split - 1], left), (near[split], right)):
        share = float(np.clip((sample - outside) / (right - left), -1.0, 1.0))
        shift -= share if abs(share) > 0.25 else 0.0  # less is noise
    return float(np.clip(shift, -1.0, 1.0))
