"""The questions that the published data can answer, each put without the answer among what is fitted."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rct_tflite.energy.estimate import Interval
from rct_tflite.energy.shrinkage import DEVIATIONS_90, LogNormal, Measurements, around, fit, predict
from tools.energy_evaluation import layers as shapes
from tools.energy_evaluation.carrying import (
    CYCLES,
    POWER,
    Carrier,
    Hidden,
    model_on_part,
    ran_elsewhere,
    same_point,
    whole_part,
)
from tools.energy_evaluation.counted import Counted, energy_uj
from tools.energy_evaluation.defaults import default_mw_per_mhz
from tools.energy_evaluation.sessions import macs_run, unusual_stalls
from tools.energy_evaluation.table import BENCHMARKS, Layer, Row

OTHER_BENCHMARKS = 3
"""Points of the same board and stack that calibration needs."""
MEASURED_MODELS = 2
"""Other models with measured layers that the layer model needs."""
LARGE_LAYER = 0.05
"""Part of the model's energy above which a layer counts."""
MODEL_ERROR = 0.05
"""Relative error of the sum of cost items for a whole model: its small ops are not in the items."""
MODELS_DRAW = 0.1
"""How far the power of a model lies from that of a board's others where no other part tells (logarithm, nine times in
ten)."""
NJ_PER_UJ = 1e3


@dataclass(frozen=True)
class Point:
    """One estimate and the truth, in uJ."""

    name: str
    truth: float
    estimate: Interval

    @property
    def error(self) -> float:
        """Relative error of the estimate."""
        return self.estimate.value / self.truth - 1

    @property
    def factor(self) -> float:
        """By how much the estimate is off, at least 1."""
        return max(self.estimate.value / self.truth, self.truth / self.estimate.value)

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        return self.estimate.low <= self.truth <= self.estimate.high


@dataclass(frozen=True)
class Evaluation:
    """The published tables, and the estimates that they allow.

    Attributes:
        rows: Of the results.
        shapes: Layers of the models.
        measured: Layers with what they cost.
        counted: Instructions of the stacks whose sources were published.
    """

    rows: tuple[Row, ...]
    shapes: tuple[Layer, ...]
    measured: tuple[Layer, ...]
    counted: Counted

    @cached_property
    def asked(self) -> tuple[Row, ...]:
        """Rows with energy whose board and stack has at least three others."""
        models = Counter(setup for setup, _ in {(r.setup, r.benchmark) for r in self.rows if r.energy_uj is not None})
        return tuple(r for r in self.rows if r.energy_uj is not None and models[r.setup] > OTHER_BENCHMARKS)

    @cached_property
    def elsewhere(self) -> tuple[Row, ...]:
        """Those of `asked` whose stack also ran on another part."""
        return tuple(row for row in self.asked if ran_elsewhere(self.rows, row))

    def by_macs(self) -> list[Point]:
        """Energy proportional to MACs, fitted on the other benchmarks of the board: what one does without a model."""
        return [_point(row, around(self._macs(row) * self._uj_per_mac(row), 1.0)) for row in self.asked]

    def by_power(self) -> list[Point]:
        """Power known from the other benchmarks of the board, latency measured.

        It is the mean of the others. Nine of ten models lie as near to it as on the part where they lie farthest, the
        asked one aside.
        """
        apart: dict[str, list[float]] = defaultdict(list)
        for row in self.asked:
            apart[row.part].append(abs(math.log(row.power_mw / self._power_of_others(row))))
        nine_in_ten = {part: float(np.quantile(distances, 0.9)) for part, distances in apart.items()}
        points = []
        for row in self.asked:
            farthest = max((far for part, far in nine_in_ten.items() if part != row.part), default=MODELS_DRAW)
            points.append(_point(row, around(self._power_of_others(row) * row.latency_ms, farthest / DEVIATIONS_90)))
        return points

    def calibrated(self, hidden: Hidden = model_on_part) -> list[Point]:
        """Neither power nor latency of the asked model is known; the board's other benchmarks are."""
        return [_point(row, self._energy(row, hidden)) for row in self.asked]

    def uncalibrated(self) -> list[Point]:
        """Nothing was ever measured on the part: its data sheet, and cycles of other parts."""
        points = []
        for row in self.asked:
            power = default_mw_per_mhz(row, self.asked)
            if power is not None:
                elsewhere = [other for other in self.rows if not whole_part(other, row)]
                cycles = self.counted.cycles(row, elsewhere) or self._cycles(row, whole_part)
                points.append(_point(row, _product(cycles, power).scaled(1 / NJ_PER_UJ)))
        return points

    def by_layer(self) -> list[Point]:
        """Layers above a twentieth of their model, from the measured layers of the other models."""
        points = []
        for number, layer in self._large_layers:
            others = self._other_layers(layer.part, layer.kernels, layer.model)
            if others:
                cost = predict(self._fitted(self._row(layer), others), shapes.items_of(layer), shapes.FORM_ERROR)
                points.append(_layer_point(number, layer, cost.scaled(1 / NJ_PER_UJ)))
        return points

    def by_counted_layer(self) -> list[Point]:
        """Layers above a twentieth of their model, from their instructions and the stack's totals of other models."""
        points = []
        for number, layer in self._large_layers:
            row = self._row(layer)
            instructions = self.counted.of(row, layer.index)
            if instructions is not None:
                cost = self._nj_per_instruction(row, model_on_part)
                points.append(_layer_point(number, layer, energy_uj(instructions, cost)))
        return points

    def _power_of_others(self, row: Row) -> float:
        """Returns the mean power in mW of the other models of a board and stack."""
        others = [r for r in self.asked if r.setup == row.setup and not same_point(r, row)]
        return float(np.exp(np.mean([math.log(r.power_mw) for r in others])))

    def _macs(self, row: Row) -> float:
        return float(sum(layer.macs for layer in self.shapes if layer.model == row.benchmark))

    def _macs_run(self, row: Row) -> float:
        return macs_run(row, self._macs(row))

    def _uj_per_mac(self, row: Row) -> float:
        others = [r for r in self.asked if r.setup == row.setup and not same_point(r, row)]
        return float(np.exp(np.mean([math.log((r.energy_uj or 1.0) / self._macs(r)) for r in others])))

    @cached_property
    def _carriers(self) -> tuple[Carrier, Carrier]:
        """Carry usual cycles per MAC that is run, and mW per MHz."""
        likeness = shapes.likeness(self.shapes, BENCHMARKS)
        with_energy = tuple(row for row in self.rows if row.energy_uj is not None)
        usual = (row.cycles - unusual_stalls(row, self.shapes) for row in self.rows)
        cycles = np.array([cost / self._macs_run(row) for cost, row in zip(usual, self.rows, strict=True)])
        power = np.array([row.power_mw / row.clock_mhz for row in with_energy])
        return Carrier(CYCLES, likeness, self.rows, cycles), Carrier(POWER, likeness, with_energy, power)

    def _power(self, asked: Row, hidden: Hidden) -> Interval:
        """Returns mW per MHz."""
        return self._carriers[1].predict(asked, hidden)

    def _cycles(self, asked: Row, hidden: Hidden) -> Interval:
        usual = self._carriers[0].predict(asked, hidden).scaled(self._macs_run(asked))
        stalls = unusual_stalls(asked, self.shapes)
        return Interval(usual.value + stalls, usual.low + stalls, usual.high + stalls)

    def _energy(self, asked: Row, hidden: Hidden) -> Interval:
        instructions = self.counted.of(asked)
        if instructions is not None:
            return energy_uj(instructions, self._nj_per_instruction(asked, hidden))
        layers = self._other_layers(asked.part, asked.kernels, asked.benchmark)
        if len({layer.model for layer in layers}) >= MEASURED_MODELS:
            items = shapes.items_of_model(self.shapes, asked.benchmark)
            return predict(self._fitted(asked, layers), items, shapes.FORM_ERROR).scaled(1 / NJ_PER_UJ)
        power = self._power(asked, hidden)
        return _product(self._cycles(asked, hidden), power).scaled(1 / NJ_PER_UJ)

    def _nj_per_instruction(self, asked: Row, hidden: Hidden) -> LogNormal:
        others = [
            row
            for row in self.asked
            if row.setup == asked.setup and not same_point(row, asked) and self.counted.of(row) is not None
        ]
        return self.counted.nj_per_instruction(others, self._power(asked, hidden).value)

    def _other_layers(self, part: str, kernels: str, model: str) -> list[Layer]:
        return [m for m in self.measured if m.part == part and m.kernels == kernels and m.model != model]

    def _fitted(self, asked: Row, layers: Sequence[Layer]) -> LogNormal:
        """Returns nJ per cost item, from measured layers, and from totals of the asked setup's models without."""
        seen = {layer.model for layer in layers} | {asked.benchmark}
        totals = [row for row in self.asked if row.setup == asked.setup and row.benchmark not in seen]
        start = shapes.default_costs()
        power = self._power(asked, model_on_part).value
        prior = LogNormal(start.mean + math.log(power), start.covariance)
        return fit(prior, self._measurements(layers, totals))

    def _measurements(self, layers: Sequence[Layer], totals: Sequence[Row]) -> Measurements:
        counts = [shapes.items_of(layer) for layer in layers]
        counts += [shapes.items_of_model(self.shapes, row.benchmark) for row in totals]
        costs = [layer.energy_uj for layer in layers] + [row.energy_uj or 0.0 for row in totals]
        errors = [shapes.border_error(layer) for layer in layers] + [MODEL_ERROR] * len(totals)
        return Measurements(np.array(counts), NJ_PER_UJ * np.array(costs), np.array(errors))

    @cached_property
    def _large_layers(self) -> list[tuple[int, Layer]]:
        totals: dict[tuple[str, str], float] = defaultdict(float)
        for layer in self.measured:
            totals[layer.kernels, layer.model] += layer.energy_uj
        return [
            (number, layer)
            for number, layer in enumerate(self.measured)
            if layer.energy_uj > LARGE_LAYER * totals[layer.kernels, layer.model] and self._runs_of(layer)
        ]

    def _runs_of(self, layer: Layer) -> list[Row]:
        """Returns the runs that a measured layer may belong to; other results than those published may have none."""
        run = (layer.part, layer.kernels, layer.model)
        return [r for r in self.asked if (r.part, r.kernels, r.benchmark) == run]

    def _row(self, layer: Layer) -> Row:
        return self._runs_of(layer)[0]


def _layer_point(number: int, layer: Layer, estimate: Interval) -> Point:
    return Point(f"{layer.kernels} {layer.model} {number}", layer.energy_uj, estimate)


def _point(row: Row, estimate: Interval) -> Point:
    assert row.energy_uj is not None
    return Point(f"{row.setup} {row.benchmark}", row.energy_uj, estimate)


def _product(left: Interval, right: Interval) -> Interval:
    """Multiplies two independent log-normals, each with its 90 % interval."""
    deviations = [math.log(interval.high / interval.value) / DEVIATIONS_90 for interval in (left, right)]
    return around(left.value * right.value, math.hypot(*deviations))
