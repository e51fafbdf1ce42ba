"""Finds the phases of the benchmark in a trace, and what each drew.

Marks, a digital input that is high during a phase, are believed only where the power agrees: a mark that the power
contradicts is an error, never fitted. Without marks the phases are found by the steps of the power.
"""

from dataclasses import dataclass

import numpy as np

from rct_tflite.energy.calibration.matching import Expected, Match, is_ambiguous, match
from rct_tflite.energy.calibration.schedule import COMPUTE, Schedule
from rct_tflite.energy.calibration.steps import Window, mark_windows, power_windows
from rct_tflite.energy.calibration.trace import Floats, Trace, gaps
from rct_tflite.errors import DataError

SHORTEST_SHARE = 0.15
"""Of the shortest phase that is expected: what is shorter is no phase."""
LARGEST_MISSING = 1 / 3
COMPUTE_SPREAD = 0.25
FLASH_SPREAD = 1.0
"""Standard deviation of the logarithm of a phase's length: a flash is as fast as it is."""
GOOD_COST = 2.0
"""Of a match, for each phase: better is not looked for."""
MINIMUM_SAMPLES = 20
EDGE_SAMPLES = 3
EDGE_SHARE = 0.005
"""A mark may be so far from the step of the power: samples, or a share of the phase, whichever is more."""
INSIDE = 0.1
"""Share of a phase and of a sleep at either end that is left out of the mean power: the steps settle."""
GAP_SHARE = 0.01


@dataclass(frozen=True)
class PhaseMeasurement:
    """What a phase was measured to do.

    Attributes:
        name: Of the phase.
        begin_s: Where it begins in the trace.
        seconds: Its length.
        seconds_sd: Standard deviation of that: half a sample at either end.
        power_w: Mean power.
        power_sd: Standard deviation of that mean, from parts of the phase.
    """

    name: str
    begin_s: float
    seconds: float
    seconds_sd: float
    power_w: float
    power_sd: float


@dataclass(frozen=True)
class Measurement:
    """What a trace shows of the benchmark.

    Attributes:
        phases: Those that were found, in their order.
        sleep_w: Mean power between the phases; NaN if there is no stretch of sleep.
        sleep_sd: Standard deviation of that.
        length_s: Of the whole benchmark, for the drift.
        notes: What a person should know: phases that are missing, drift that was taken off.
    """

    phases: tuple[PhaseMeasurement, ...]
    sleep_w: float
    sleep_sd: float
    length_s: float
    notes: tuple[str, ...]


def find_phases(trace: Trace, schedule: Schedule, input_bit: int | None = None, use_marks: bool = True) -> Measurement:
    """Finds the phases of a schedule in a trace.

    Args:
        trace: The recording of one whole benchmark.
        schedule: What the firmware did.
        input_bit: The digital input of the marks; None to find it.
        use_marks: False to ignore digital inputs.

    Raises:
        DataError: If no phases are found, too many are missing, the marks contradict the power, or the trace is too
            coarse.
    """
    _check_resolution(trace, schedule)
    by_power = _match_power(trace, schedule)
    marked = use_marks and trace.digital is not None
    by_marks = _match_marks(trace, schedule, input_bit, by_power) if marked else None
    notes = []
    if by_marks is None:
        if by_power is None:
            raise _no_phases(trace, schedule)
        chosen = by_power
        notes.append("phases found by the steps of the power, without marks")
    else:
        notes += _compare(trace, schedule, by_marks, by_power)
        # Where a mark is missing, the power tells.
        fallback = by_power or [None] * len(by_marks)
        chosen = [mark or step for mark, step in zip(by_marks, fallback, strict=True)]
    return _measure(trace, schedule, chosen, notes)


def _check_resolution(trace: Trace, schedule: Schedule) -> None:
    shortest = min(schedule.sleep_s, *(phase.seconds for phase in schedule.phases))
    if shortest < MINIMUM_SAMPLES * trace.interval_s:
        raise DataError(
            f"{trace.source} is too coarse. Expected at least {MINIMUM_SAMPLES} samples in the shortest stretch of the "
            f"benchmark, {shortest:.3g} s. Received: one sample each {trace.interval_s:.3g} s. Record faster, or make "
            f"longer phases: rct-tflite calibrate firmware --seconds."
        )


def _no_phases(trace: Trace, schedule: Schedule) -> DataError:
    low, high = (float(power) * 1e3 for power in np.quantile(trace.power_w, (0.05, 0.95)))
    return DataError(
        f"No phases of the benchmark were found in {trace.source}. Expected {len(schedule.phases)} stretches of work "
        f"between stretches of sleep. Received: {trace.time_s[-1]:.3g} s between {low:.3g} and {high:.3g} mW. "
        "Record from before the reset of the board to the end, connect the mark to a digital input of the meter, "
        "and see that the board sleeps between the phases."
    )


def _accepted(windows: tuple[Window, ...], schedule: Schedule) -> tuple[list[Window | None], Match] | None:
    """Returns the stretch of each phase; None if they do not fit."""
    if not windows:
        return None
    spans = [(window.begin_s, window.end_s) for window in windows]
    spread = tuple(COMPUTE_SPREAD if phase.kind == COMPUTE else FLASH_SPREAD for phase in schedule.phases)
    expected = Expected(tuple(phase.seconds for phase in schedule.phases), spread, schedule.sleep_s)
    found = match(spans, expected)
    if len(found.missing) > LARGEST_MISSING * len(spread) or is_ambiguous(found, spans, expected):
        return None
    return [None if index is None else windows[index] for index in found.windows], found


def _shortest(schedule: Schedule) -> float:
    return SHORTEST_SHARE * min(phase.seconds for phase in schedule.phases)


def _match_power(trace: Trace, schedule: Schedule) -> list[Window | None] | None:
    best = None
    for windows in power_windows(trace, schedule.sleep_s, _shortest(schedule)):
        found = _accepted(windows, schedule)
        if found is not None and (best is None or found[1].cost < best[1].cost):
            best = found
        if best is not None and not best[1].missing and best[1].cost < GOOD_COST * len(schedule.phases):
            break
    return None if best is None else best[0]


def _match_marks(
    trace: Trace, schedule: Schedule, bit: int | None, steps: list[Window | None] | None
) -> list[Window | None] | None:
    """Returns the mark of each phase, of the digital input that fits best; None if no input ever changes."""
    assert trace.digital is not None
    candidates = [
        windows
        for candidate in (range(8) if bit is None else (bit,))
        for inverted in (False, True)
        if (windows := mark_windows(trace, candidate, inverted, _shortest(schedule)))
    ]
    if not candidates and bit is None:
        return None
    if steps is not None and None not in steps:
        near = [_by_overlap(windows, steps) for windows in candidates]
        best = min(near, key=lambda marks: _distance(marks, steps), default=None)
        if best is not None and sum(mark is not None for mark in best) > len(best) / 2:
            return best
    accepted = [found for windows in candidates if (found := _accepted(windows, schedule)) is not None]
    if not accepted:
        counts = sorted({len(windows) for windows in candidates})
        raise DataError(
            f"The marks of {trace.source} do not fit the benchmark. Expected {len(schedule.phases)} marks of the "
            f"lengths of its phases, perhaps with a few missing. Received: {counts or 'no'} marks on the inputs. "
            "Choose the input with --input, or ignore the marks with --no-marks."
        )
    return min(accepted, key=lambda found: found[1].cost)[0]


def _by_overlap(marks: tuple[Window, ...], steps: list[Window | None]) -> list[Window | None]:
    """Returns for each step of the power the mark that overlaps it most; None where none does."""
    found: list[Window | None] = []
    for step in steps:
        assert step is not None
        shared = [min(mark.end_s, step.end_s) - max(mark.begin_s, step.begin_s) for mark in marks]
        best = int(np.argmax(shared))
        found.append(marks[best] if shared[best] > 0 else None)
    return found


def _distance(marks: list[Window | None], steps: list[Window | None]) -> float:
    """Returns how far marks are from the steps, in seconds; a missing mark counts its phase's length."""
    return sum(
        step.seconds if mark is None else min(step.seconds, _off(mark, step))
        for mark, step in zip(marks, steps, strict=True)
        if step is not None
    )


def _off(mark: Window, step: Window) -> float:
    return max(abs(mark.begin_s - step.begin_s), abs(mark.end_s - step.end_s))


def _compare(
    trace: Trace, schedule: Schedule, marks: list[Window | None], steps: list[Window | None] | None
) -> list[str]:
    """Returns notes on missing marks.

    Raises:
        DataError: If marks and power contradict each other.
    """
    names = [phase.name for phase in schedule.phases]
    missing = [name for name, mark in zip(names, marks, strict=True) if mark is None]
    notes = [f"marks missing, taken from the power: {', '.join(missing)}"] if missing else []
    if steps is None:
        if missing:
            raise DataError(
                f"Marks are missing in {trace.source}, and the power has no steps to replace them. Expected all. "
                f"Received: none for {', '.join(missing)}. Record again."
            )
        return ["the power has no steps between phases and sleep: the marks could not be checked"]
    offs = []
    for name, mark, step in zip(names, marks, steps, strict=True):
        if mark is not None and step is not None:
            allowed = max(EDGE_SAMPLES * trace.interval_s, EDGE_SHARE * step.seconds)
            offs.append((name, _off(mark, step), allowed))
    unchecked = [name for name, mark, step in zip(names, marks, steps, strict=True) if mark and not step]
    if unchecked:
        notes.append(f"marks that could not be checked, the power does not step there: {', '.join(unchecked)}")
    wrong = [(name, off) for name, off, allowed in offs if off > allowed]
    if wrong:
        told = ", ".join(f"{name} {off * 1e3:.3g} ms" for name, off in wrong[:4])
        raise DataError(
            f"The marks of {trace.source} contradict its power: {len(wrong)} of {len(offs)} are not where the power "
            f"steps. Expected marks within {EDGE_SHARE:.1%} of a phase. Received: {told}. Check the wire and the "
            "input's delay, or find the phases by the power alone: --no-marks."
        )
    return notes


def _measure(trace: Trace, schedule: Schedule, windows: list[Window | None], notes: list[str]) -> Measurement:
    names = [phase.name for phase in schedule.phases]
    found = [(name, window) for name, window in zip(names, windows, strict=True) if window is not None]
    missing = [name for name, window in zip(names, windows, strict=True) if window is None]
    if missing:
        notes.append(f"phases not found: {', '.join(missing)}")
    lost = trace.time_s[gaps(trace)]
    kept = [(name, window) for name, window in found if not _touches(trace, window, lost)]
    if len(kept) < len(found):
        dropped = [name for name, window in found if _touches(trace, window, lost)]
        notes.append(f"samples were lost, phases left out: {', '.join(dropped)}")
    if not kept:
        raise DataError(
            f"Every phase of {trace.source} has lost samples. Expected a recording without gaps. "
            f"Received: {len(lost)} gaps. Record again, at a lower rate."
        )
    sleeps = _sleeps(trace, [window for _, window in found], schedule.sleep_s)
    level, slope, sleep_sd, drift_notes = _sleep_level(sleeps)
    phases = []
    for name, window in kept:
        mean, sd = _mean(trace, window)
        mean -= slope * (window.begin_s + window.seconds / 2)
        phases.append(PhaseMeasurement(name, window.begin_s, window.seconds, 0.5 * trace.interval_s, mean, sd))
    length = found[-1][1].end_s
    return Measurement(tuple(phases), level, sleep_sd, length, (*notes, *drift_notes))


def _touches(trace: Trace, window: Window, lost: Floats) -> bool:
    """Returns whether samples were lost at an end of a stretch, or many inside of it."""
    reach = EDGE_SAMPLES * trace.interval_s
    if any(np.any(np.abs(lost - edge) <= reach) for edge in (window.begin_s, window.end_s)):
        return True
    first, last = np.searchsorted(trace.time_s, (window.begin_s, window.end_s))
    return bool(last - first < (1 - GAP_SHARE) * window.seconds / trace.interval_s - 1)


def _mean(trace: Trace, window: Window) -> tuple[float, float]:
    """Returns the mean power inside a stretch and its standard deviation, from ten parts."""
    edge = INSIDE * window.seconds
    first, last = np.searchsorted(trace.time_s, (window.begin_s + edge, window.end_s - edge))
    inside = trace.power_w[first:last]
    parts = [float(part.mean()) for part in np.array_split(inside, min(10, len(inside)))]
    return float(inside.mean()), float(np.std(parts) / np.sqrt(len(parts)))


def _sleeps(trace: Trace, windows: list[Window], sleep_s: float) -> list[tuple[float, float, float]]:
    """Returns (time, mean, standard deviation) of the first half of the sleep after each phase.

    The second half begins with a line that the firmware prints.
    """
    found = []
    for window in windows:
        sleep = Window(window.end_s + 0.1 * sleep_s, window.end_s + 0.4 * sleep_s)
        if sleep.end_s < trace.time_s[-1]:
            found.append((sleep.begin_s, *_mean(trace, sleep)))
    return found


def _sleep_level(sleeps: list[tuple[float, float, float]]) -> tuple[float, float, float, list[str]]:
    """Returns level at time 0, drift per second, standard deviation of the level, and a note where it drifts."""
    if len(sleeps) < 3:
        mean = float(np.mean([level for _, level, _ in sleeps])) if sleeps else float("nan")
        return mean, 0.0, abs(mean) * 0.1, []
    times, levels, sds = (np.array(values) for values in zip(*sleeps, strict=True))
    middle = times.mean()
    spread = float(np.sum((times - middle) ** 2))
    slope = float(np.sum((times - middle) * (levels - levels.mean())) / spread)
    residual = levels - levels.mean() - slope * (times - middle)
    sd = max(float(np.std(residual)), float(np.median(sds)))
    if abs(slope) < 4 * sd / np.sqrt(spread):
        return float(levels.mean()), 0.0, sd / np.sqrt(len(sleeps)), []
    note = f"the sleeping power drifts by {slope * (times[-1] - times[0]) * 1e3:+.3g} mW: taken off"
    return float(levels.mean() - slope * middle), slope, sd / np.sqrt(len(sleeps)), [note]
