"""Fits cycles per instruction of each op class, and power, to what phases and workloads took.

Cycles first: `seconds * clock = sum over classes of instructions * cpi`. The cycles of the classes then weigh their
powers. Both are fitted as relative differences from the target's numbers so far: one common difference, and one for
each class about it. What the data do not tell stays at the target's number (times the common difference).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rct_tflite.energy.calibration.linear_fit import Floats, Shrunk, fit_shrunk
from rct_tflite.errors import DataError
from rct_tflite.spec.target import Quantity, Target

CPI_SPREAD = 0.25
"""Standard deviation of an op class's cycles per instruction about the core's common level."""
POWER_SPREAD = 0.1
"""Likewise of its power: op classes move the power of an STM32L4R5 by 10 to 18 % (MLPerf Tiny traces)."""
DRIFT_SD = 0.05
"""Relative change of the meter's gain over the benchmark."""
MODEL_ERROR = 0.003
"""What the model leaves out, relative: layouts of flash lines, refresh, interrupts."""
FITTED = 0.5
"""A coefficient of which the data tell less stays at its default."""
PLAUSIBLE = 4.0
"""A measurement so many times outside of the interval of the target is a wrong unit or a wrong clock."""


@dataclass(frozen=True)
class Observation:
    """What one execution of a known work took.

    Attributes:
        name: Of the phase or workload.
        instructions: Executed instructions by op class; empty if not known.
        seconds: Of one execution; NaN if not measured.
        seconds_sd: Relative standard deviation of that.
        power_w: Mean power; NaN if not measured.
        power_sd: Relative standard deviation of that.
        place: Where in the benchmark, 0 at its start and 1 at its end: for the drift.
    """

    name: str
    instructions: tuple[tuple[str, float], ...]
    seconds: float
    seconds_sd: float
    power_w: float
    power_sd: float
    place: float = 0.0


@dataclass(frozen=True)
class Coefficient:
    """A fitted number.

    Attributes:
        name: As in a target file: "cpi.mac", "active_mw_per_mhz".
        quantity: Value and interval; the target's own where the data tell nothing.
        resolution: How much of it the data tell, 0 to 1.
    """

    name: str
    quantity: Quantity
    resolution: float

    @property
    def is_fitted(self) -> bool:
        """Whether the data tell most of it."""
        return self.resolution >= FITTED


@dataclass(frozen=True)
class Point:
    """A phase or workload beside what the fit says of it; NaN where not measured.

    `*_left_out` is the prediction of a fit that did not see this point.
    """

    name: str
    seconds: float
    seconds_predicted: float
    seconds_left_out: float
    power_w: float
    power_predicted: float
    power_left_out: float


@dataclass(frozen=True)
class Fit:
    """All that was fitted.

    Attributes:
        coefficients: Cycles, power, op classes.
        points: One for each observation.
        drift: Relative change of the gain over the benchmark that was taken off.
    """

    coefficients: tuple[Coefficient, ...]
    points: tuple[Point, ...]
    drift: float


def fit_target(target: Target, clock_mhz: float, observations: Sequence[Observation], source: str) -> Fit:
    """Fits the numbers of a target.

    Args:
        target: What is believed so far.
        clock_mhz: Core clock of the board.
        observations: Phases and workloads.
        source: What the numbers come from, for the target file.

    Raises:
        DataError: If nothing was measured, or the measurements are implausible.
    """
    classes = tuple(dict.fromkeys(name for point in observations for name, _ in point.instructions))
    cycles = _fit_cycles(target, clock_mhz, observations, classes)
    power = _fit_power(target, clock_mhz, observations, classes, cycles.cpi)
    if cycles.fit is None and power.fit is None:
        raise DataError(
            f"Nothing to fit in {source}. Expected phases or workloads with a time and known instructions, or with an "
            f"energy. Received: {len(observations)} of them without. Measure more of the benchmark."
        )
    coefficients = (
        *_cycle_coefficients(target, classes, cycles, source),
        *_power_coefficients(target, classes, power, source),
    )
    points = tuple(_point(point, index, cycles, power) for index, point in enumerate(observations))
    drift = 0.0 if power.fit is None else float(power.fit.value[-1])
    return Fit(coefficients, points, drift)


@dataclass(frozen=True, eq=False)
class _Stage:
    """One of the two fits: rows of the design belong to the observations `rows`; `unit` turns 1 into theirs."""

    fit: Shrunk | None
    rows: tuple[int, ...]
    unit: Floats
    level: float
    cpi: dict[str, float]

    def predicted(self, index: int, *, left_out: bool) -> float:
        if self.fit is None or index not in self.rows:
            return math.nan
        row = self.rows.index(index)
        return float((self.fit.left_out if left_out else self.fit.predicted)[row] * self.unit[row])


def _default_cpi(target: Target, op_class: str) -> float:
    return dict(target.op_cpi).get(op_class, target.cycles_per_instruction).value


def _default_power(target: Target, op_class: str) -> float:
    found = dict(target.op_power).get(op_class)
    return 1.0 if found is None else found.value


def _relative_sd(quantity: Quantity) -> float:
    """Takes the interval for two standard deviations either way."""
    return max((quantity.high - quantity.low) / 4 / quantity.value, 0.02)


def _fit_cycles(target: Target, clock_mhz: float, points: Sequence[Observation], classes: tuple[str, ...]) -> _Stage:
    rows = tuple(i for i, point in enumerate(points) if point.instructions and not math.isnan(point.seconds))
    cpi = {name: _default_cpi(target, name) for name in classes}
    if not rows:
        return _Stage(None, (), np.zeros(0), 1.0, cpi)
    default = np.array([[dict(points[i].instructions).get(name, 0.0) * cpi[name] for name in classes] for i in rows])
    unit = default.sum(axis=1) / (clock_mhz * 1e6)  # seconds by the numbers so far
    seconds = np.array([points[i].seconds for i in rows])
    level = float(np.median(seconds / unit))
    _check_level(
        level,
        target.cycles_per_instruction,
        f"cycles for the instructions at {clock_mhz:g} MHz",
        f"Does the board run at {clock_mhz:g} MHz? {clock_mhz / level:.3g} MHz would fit",
    )
    design = np.column_stack([np.ones(len(rows)), default / default.sum(axis=1, keepdims=True)])
    sigma = np.hypot([points[i].seconds_sd for i in rows], MODEL_ERROR)
    belief = _Belief(_relative_sd(target.cycles_per_instruction), CPI_SPREAD)
    fit = _relative_fit(design, seconds / unit, sigma, level, belief)
    cpi = {name: float(cpi[name] * level * (1 + fit.value[0] + fit.value[1 + k])) for k, name in enumerate(classes)}
    return _Stage(fit, rows, unit * level, level, cpi)


def _fit_power(
    target: Target, clock_mhz: float, points: Sequence[Observation], classes: tuple[str, ...], cpi: dict[str, float]
) -> _Stage:
    rows = tuple(i for i, point in enumerate(points) if not math.isnan(point.power_w))
    if not rows:
        return _Stage(None, (), np.zeros(0), 1.0, cpi)
    active = target.active_mw_per_mhz.value * clock_mhz * 1e-3
    shares = np.array([[dict(points[i].instructions).get(name, 0.0) * cpi[name] for name in classes] for i in rows])
    shares = shares.reshape(len(rows), len(classes))
    totals = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, totals, out=np.zeros_like(shares), where=totals > 0)
    relative = np.array([_default_power(target, name) for name in classes])
    unit = active * np.where(totals[:, 0] > 0, shares @ relative, 1.0)
    power = np.array([points[i].power_w for i in rows])
    level = float(np.median(power / unit))
    _check_level(
        level,
        target.active_mw_per_mhz,
        "power that the target has at this clock",
        f"Are the current, {np.median(power) * 1e3:.3g} mW, and the voltage in the right units?",
    )
    place = np.array([points[i].place for i in rows])
    design = np.column_stack([np.ones(len(rows)), shares, place])
    sigma = np.hypot([points[i].power_sd for i in rows], MODEL_ERROR)
    belief = _Belief(_relative_sd(target.active_mw_per_mhz), POWER_SPREAD, DRIFT_SD)
    fit = _relative_fit(design, power / unit, sigma, level, belief)
    return _Stage(fit, rows, unit * level, level, cpi)


@dataclass(frozen=True)
class _Belief:
    """Relative standard deviations: of the common level, of a class about it, of the drift (0: no such column)."""

    common: float
    spread: float
    drift: float = 0.0


def _relative_fit(design: Floats, ratio: Floats, sigma: Floats, level: float, belief: _Belief) -> Shrunk:
    """Fits ratios to the target's numbers, divided by their median so that all coefficients are small."""
    prior = np.zeros(design.shape[1])
    # The target's own number is 1 / level in these units, as uncertain as it was: but a surprise within what is
    # plausible is believed.
    prior[0] = 1 / level - 1
    sd = np.full(design.shape[1], belief.spread)
    sd[0] = max(belief.common / level, abs(prior[0]))
    if belief.drift:
        sd[-1] = belief.drift
    fit = fit_shrunk(design, ratio / level - 1, sigma, prior, sd)
    return replace(fit, predicted=fit.predicted + 1, left_out=fit.left_out + 1)


def _check_level(level: float, quantity: Quantity, what: str, advice: str) -> None:
    low, high = quantity.low / quantity.value / PLAUSIBLE, quantity.high / quantity.value * PLAUSIBLE
    if not low <= level <= high:
        raise DataError(
            f"The measurement is implausible: {level:.3g} times the {what}. Expected {low:.2g} to {high:.2g} times. "
            f"Received: {level:.3g}. {advice}"
        )


def _told(fit: Shrunk, k: int, spread: float) -> tuple[float, float]:
    """Returns of an op class: standard deviation of its relative number, and how much of it the data tell."""
    weights = np.zeros(len(fit.value))
    weights[0] = weights[1 + k] = 1.0
    sd = fit.sd(weights)
    return min(sd, spread * 2), float(np.clip(1 - (sd / spread) ** 2, 0.0, 1.0))


def _cycle_coefficients(
    target: Target, classes: tuple[str, ...], stage: _Stage, source: str
) -> tuple[Coefficient, ...]:
    mean = target.cycles_per_instruction
    if stage.fit is None:
        return (Coefficient("cycles_per_instruction", mean, 0.0),)
    each = []
    for k, name in enumerate(classes):
        sd, resolution = _told(stage.fit, k, CPI_SPREAD)
        sd *= stage.level * _default_cpi(target, name)
        each.append(Coefficient(f"cpi.{name}", _quantity(stage.cpi[name], sd, source), resolution))
    # The mean over the classes that were measured; a network may consist of the slowest or of the fastest.
    told = [coefficient.quantity for coefficient in each if coefficient.is_fitted]
    told = told or [coefficient.quantity for coefficient in each]
    value = float(np.mean([quantity.value for quantity in told]))
    low, high = min(quantity.low for quantity in told), max(quantity.high for quantity in told)
    return (Coefficient("cycles_per_instruction", Quantity(value, low, high, "measured", source), 1.0), *each)


def _power_coefficients(
    target: Target, classes: tuple[str, ...], stage: _Stage, source: str
) -> tuple[Coefficient, ...]:
    active = target.active_mw_per_mhz
    if stage.fit is None:
        return (Coefficient("active_mw_per_mhz", active, 0.0),)
    fit = stage.fit
    if not classes:
        level = active.value * stage.level * (1 + float(fit.value[0]))
        weights = np.zeros(len(fit.value))
        weights[0] = 1.0
        sd = level * max(fit.sd(weights), POWER_SPREAD / 2)
        return (Coefficient("active_mw_per_mhz", _quantity(level, sd, source), 1.0),)
    told = [_told(fit, k, POWER_SPREAD) for k in range(len(classes))]
    shares = [
        _default_power(target, name) * (1 + float(fit.value[0] + fit.value[1 + k])) for k, name in enumerate(classes)
    ]
    fitted = [k for k in range(len(classes)) if told[k][1] >= FITTED] or list(range(len(classes)))
    common = float(np.mean([shares[k] for k in fitted]))
    level = active.value * stage.level * common
    each = [
        Coefficient(f"power.{name}", _quantity(shares[k] / common, told[k][0], source), told[k][1])
        for k, name in enumerate(classes)
    ]
    low = level * min(each[k].quantity.low for k in fitted)
    high = level * max(each[k].quantity.high for k in fitted)
    mean = Quantity(level, low, high, "measured", source)
    return (Coefficient("active_mw_per_mhz", mean, 1.0), *each)


def _quantity(value: float, sd: float, source: str) -> Quantity:
    reach = max(2 * sd, MODEL_ERROR * value)
    return Quantity(value, max(value - reach, 0.1 * value), value + reach, "measured", source)


def _point(point: Observation, index: int, cycles: _Stage, power: _Stage) -> Point:
    return Point(
        point.name,
        point.seconds,
        cycles.predicted(index, left_out=False),
        cycles.predicted(index, left_out=True),
        point.power_w,
        power.predicted(index, left_out=False),
        power.predicted(index, left_out=True),
    )
