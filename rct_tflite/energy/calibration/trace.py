"""What every power meter gives: power over time, perhaps with digital inputs beside it."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError

Floats = npt.NDArray[np.float64]
Digital = npt.NDArray[np.uint8]

GAP_INTERVALS = 1.5
"""A step of the time that is longer than so many sample intervals is a gap: samples were lost."""
LARGEST_POWER_W = 100.0
"""Mean above which a unit is wrong."""
NEGATIVE_SHARE = 0.25
"""A meter's noise around nothing is negative half of the time; a board that draws current is not."""
NEGATIVE_CHARGE = 0.01
"""Part of what flows that may be negative before a person is told: noise around a deep sleep is far less."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A recording.

    Attributes:
        time_s: float64 (n,), seconds, rising. A sample is the mean over the interval that begins there.
        power_w: float64 (n,), watts drawn by the board.
        digital: uint8 (n,), bit k is digital input k; None where the meter recorded none.
        source: What was read, as in "my_board.csv, 3.3 V".
        volts: Of the supply; None where only the power is known.
    """

    time_s: Floats
    power_w: Floats
    digital: Digital | None
    source: str
    volts: float | None = None

    @property
    def interval_s(self) -> float:
        """Seconds from a sample to the next: the median, which gaps do not move."""
        # A million steps are enough, and ten million take seconds to sort.
        return float(np.median(np.diff(self.time_s[:1_000_000])))


@dataclass(frozen=True)
class Workload:
    """One row of a table: what one execution of a named workload took.

    Attributes:
        name: Of the workload, such as a phase of the benchmark firmware.
        latency_s: Seconds of one execution; NaN if not measured.
        energy_j: Joules of one execution; NaN if not measured.
        instructions: Executed instructions of one execution by op class; empty if not known.
    """

    name: str
    latency_s: float
    energy_j: float
    instructions: tuple[tuple[str, float], ...] = ()


def make_trace(
    time_s: Floats,
    amperes: Floats,
    volts: Floats | float | None,
    digital: Digital | None,
    source: str,
) -> Trace:
    """Makes a trace of a current and the voltage of the supply.

    Args:
        time_s: float64 (n,), seconds.
        amperes: float64 (n,).
        volts: Volts: one number, (n,), or None where the file does not tell.
        digital: uint8 (n,) or None.
        source: What was read.

    Raises:
        DataError: If the voltage is missing or impossible, or as `checked()`.
    """
    if volts is None:
        raise DataError(
            f"{source} holds currents without a voltage. Expected the voltage of the supply. Received: none. "
            "Give it: --voltage 3.3."
        )
    if not np.all(np.isfinite(volts)) or not 0.5 <= float(np.median(volts)) <= 30.0:
        raise DataError(
            f"The voltage of {source} is impossible. Expected 0.5 to 30 V. Received: {np.median(volts):g}. "
            "Give the voltage of the supply in volts: --voltage 3.3."
        )
    supply = float(np.median(volts))
    return checked(Trace(time_s, amperes * volts, digital, f"{source}, {supply:.4g} V", supply))


def checked(trace: Trace) -> Trace:
    """Returns the trace, with time from 0.

    Raises:
        DataError: If it has too few samples, numbers that are not finite, or time that does not rise.
    """
    samples = len(trace.time_s)
    if samples < 2:
        raise DataError(f"{trace.source} holds too few samples. Expected at least 2. Received: {samples}.")
    for name, values in (("time", trace.time_s), ("power", trace.power_w)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise DataError(
                f"The {name} of {trace.source} has values that are no numbers. Expected finite numbers. "
                f"Received: {len(wrong)} of {samples}, the first is sample {wrong[0]}. Export the trace again."
            )
    back = np.flatnonzero(np.diff(trace.time_s) <= 0)
    if len(back):
        raise DataError(
            f"The time of {trace.source} does not rise. Expected each sample later than the one before. Received: "
            f"{trace.time_s[back[0] + 1]:.9g} s after {trace.time_s[back[0]]:.9g} s at sample {back[0] + 1}. "
            "Were two recordings put into one file, or has the time too few digits?"
        )
    return replace(trace, time_s=trace.time_s - trace.time_s[0])


def without_zero(trace: Trace, zero_s: float) -> Trace:
    """Returns the trace after its first seconds, less their mean: the reading of a meter with nothing connected.

    Args:
        trace: The recording.
        zero_s: Seconds at the start in which the board drew nothing; 0 takes the trace as it is.

    Raises:
        DataError: If the trace is not longer than that, or a current stays negative.
    """
    if zero_s > 0:
        first = int(np.searchsorted(trace.time_s, zero_s))
        if first < 1 or first > len(trace.time_s) - 2:
            raise DataError(
                f"{trace.source} is too short. Expected more than the {zero_s:g} s of --zero. "
                f"Received: {trace.time_s[-1]:.3g} s."
            )
        digital = None if trace.digital is None else trace.digital[first:]
        power = trace.power_w[first:] - trace.power_w[:first].mean()
        trace = checked(replace(trace, time_s=trace.time_s[first:], power_w=power, digital=digital))
    negative = float(np.mean(trace.power_w < 0))
    if negative > NEGATIVE_SHARE or trace.power_w.mean() <= 0:
        raise DataError(
            f"Currents of {trace.source} are negative or nothing. Expected a board that draws current. "
            f"Received: {negative:.0%} of the samples below 0, mean power {trace.power_w.mean() * 1e3:.4g} mW. "
            "Swap the meter's leads, or record its zero with the board disconnected and give --zero SECONDS."
        )
    if trace.power_w.mean() > LARGEST_POWER_W:
        raise DataError(
            f"The power of {trace.source} is that of no microcontroller. Expected less than {LARGEST_POWER_W:g} W. "
            f"Received: {trace.power_w.mean():.4g} W. Are current and voltage in the right units?"
        )
    return trace


def negative_notes(trace: Trace) -> list[str]:
    """Returns what a person should know of negative samples: they may be real, such as charge that flows back."""
    below = trace.power_w < 0
    flows = float(np.abs(trace.power_w).sum())
    share = -float(trace.power_w[below].sum()) / flows if flows > 0 else 0.0
    if share <= NEGATIVE_CHARGE:
        return []
    return [f"{below.mean():.1%} of the samples are negative, {share:.1%} of what flows: taken as they are"]


def gaps(trace: Trace) -> npt.NDArray[np.intp]:
    """Returns the indices of the samples before which samples were lost, (gaps,)."""
    return np.flatnonzero(np.diff(trace.time_s) > GAP_INTERVALS * trace.interval_s) + 1
