"""The callback that gives each layer the bits that it needs, while the model trains."""

import fnmatch
import math
import numbers
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from rct_tflite.energy.step_energy import StepEnergy, joules_by_bits, step_energy
from rct_tflite.errors import QuantizationError, RecipeError
from rct_tflite.spec.quantization import EXPORT_BITS, MAX_BITS, MIN_BITS
from rct_tflite.spec.run_log import EPOCH, PARAMETER_BYTES, STEP_JOULES, T_MAX, T_MIN, RunWriter, column
from rct_tflite.spec.target_file import find_target
from rct_tflite.training.integer_weight import IntegerWeight
from rct_tflite.training.macs import macs_per_sample
from rct_tflite.training.model import RCTModel
from rct_tflite.training.policy import HYSTERESIS, BitPolicy, Mode, Thresholds, WeightState, default_t_min
from rct_tflite.training.records import EnergyMeter, number_of, row_of, work_of

Threshold = float | Mapping[str, float] | None
"""A number for all layers, or one for each pattern of names."""

_NOT_IN_HISTORY = (EPOCH, "steps", "learning_rate", f"{T_MIN}/", f"{T_MAX}/", f"{PARAMETER_BYTES}/")
_LONGEST_WARM_UP = 24
"""Powers of two: a schedule is looked at until step 2**24."""


class RCTCallback(keras.callbacks.Callback):
    """Adapts the bit-width of each layer to how well it learns, and reports it.

    Every `interval` batches, a layer whose Gavg is below `t_min` gets a bit more, and one whose Gavg is above
    `t_max` gives one back. Gavg, the mean of `abs(gradient) / scale`, holds no learning rate, so a schedule that
    lowers the rate does not drive the bits up. A layer whose weights crowd at the ends of their range gets a range
    twice as wide. Decisions fall before a batch, so that a model that was saved after one decides the same when its
    training goes on.

    `logs` and the history get `bits` (mean over the weights) and `parameter_bytes`; the history also gets, per
    integer weight, `bits/<name>`, `gavg/<name>`, `underflow/<name>` and `saturated/<name>`, and the energies of the
    papers' models so far, `gemm_energy/<model>` and `moved_bits/<accesses>` (shares of float32's and of QAT's).
    `rct-tflite report` draws the log.

    Args:
        t_min: Below this Gavg a layer gets a bit. None for 0.3 (stochastic rounding) or 4 (truncation) divided by
            the learning rate that training starts with; why is told in `training/policy.py`. A mapping from
            patterns of names (`{"dense*": 3.0}`) gives some layers another threshold than this default.
        t_max: Above this Gavg a layer gives a bit back; at least `4 * t_min`, and that if None. Also a mapping.
        interval: Batches between two decisions.
        average: Weight of the past in the running mean of Gavg, from 0 up to 1.
        min_bits: Narrowest width; None for that of each layer's recipe.
        max_bits: Widest width; None for that of each layer's recipe.
        budget_bytes: Most bytes that the packed weights of the model may take at any step; None for no limit.
        budget_joules: Most joules of a training step of one sample, at any step; None for no limit. Needs `target`.
            They are the papers' energy with the scale of the target: with the kernels that we ship, narrower weights
            save bytes and no joules, see `energy/step_energy.py`.
        target: Name of a target, the path of a `.toml` file of one, or a `StepEnergy`: what a step costs.
        mode: `"step"` changes a width by one bit in a decision, `"jump"` to where its Gavg meets the thresholds.
        freeze_after: Number of epochs after which bit-widths stay; None for never. Ranges go on.
        max_saturated: Largest share of a layer's weights at the ends of their range, above 0 and beyond the share that
            lies there if weights spread evenly; 1 keeps all ranges.
        log: A `.jsonl` or `.csv` file to write, one row an epoch; see `spec/run_log.py`.
        tensorboard: Folder for the same numbers as TensorBoard scalars.
        verbose: 1 prints one line per epoch; use with `fit(verbose=0)`.

    Raises:
        RecipeError: If a setting is out of range; when training begins, also if a pattern fits no weight.

    Example:
        >>> callback = RCTCallback(budget_bytes=64_000, mode="jump", log="run.jsonl")
    """

    def __init__(  # noqa: PLR0913 (the settings of one rule, all named: a class of its own for them would hide them)
        self,
        t_min: Threshold = None,
        t_max: Threshold = None,
        interval: int = 25,
        average: float = 0.9,
        min_bits: int | None = None,
        max_bits: int | None = None,
        budget_bytes: int | None = None,
        budget_joules: float | None = None,
        target: str | StepEnergy | None = None,
        mode: str = Mode.STEP,
        freeze_after: int | None = None,
        max_saturated: float = 0.01,
        log: str | Path | None = None,
        tensorboard: str | Path | None = None,
        verbose: int = 0,
    ):
        super().__init__()
        self.t_min, self.t_max, self.interval, self.average = t_min, t_max, interval, average
        self.min_bits, self.max_bits, self.freeze_after = min_bits, max_bits, freeze_after
        self.policy = BitPolicy(mode, budget_bytes, budget_joules)
        self._step_energy = _step_energy(target)
        self.max_saturated, self.tensorboard, self.verbose = max_saturated, tensorboard, verbose
        self._writer = None if log is None else RunWriter(log)
        self._summary: Any = None
        self._meter = EnergyMeter()
        self._check_settings()

    def _check_settings(self) -> None:
        _check_kinds(vars(self), ("interval", "min_bits", "max_bits", "freeze_after"), numbers.Integral)
        _check_kinds(vars(self), ("t_min", "t_max", "average", "max_saturated"), numbers.Real)
        low = MIN_BITS if self.min_bits is None else self.min_bits
        high = MAX_BITS if self.max_bits is None else self.max_bits
        if self.interval < 1 or not MIN_BITS <= low <= high <= MAX_BITS:
            raise RecipeError(
                f"Expected interval >= 1 and {MIN_BITS} <= min_bits <= max_bits <= {MAX_BITS}. "
                f"Received: interval={self.interval}, min_bits={self.min_bits}, max_bits={self.max_bits}."
            )
        if self.policy.budget_joules is not None and self._step_energy is None:
            raise RecipeError(
                "A budget in joules needs to know what a step costs. Expected a target, such as target='stm32l4r5'. "
                f"Received: budget_joules={self.policy.budget_joules}, target=None. Name one of 'rct-tflite targets'."
            )
        if not 0.0 <= self.average < 1.0 or (self.freeze_after or 0) < 0 or not 0.0 < self.max_saturated <= 1.0:
            raise RecipeError(
                "Expected 0 <= average < 1, freeze_after >= 0 and 0 < max_saturated <= 1. Received: "
                f"average={self.average}, freeze_after={self.freeze_after}, max_saturated={self.max_saturated}."
            )
        lowest = self.t_min.values() if isinstance(self.t_min, Mapping) else [self.t_min]
        highest = self.t_max.values() if isinstance(self.t_max, Mapping) else [self.t_max]
        for t_min in lowest:
            for t_max in highest if not isinstance(self.t_max, Mapping) else [None]:
                if t_min is not None:
                    Thresholds(t_min, HYSTERESIS * t_min if t_max is None else t_max)

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks the model, and brings its bit-widths within the limits and the budget."""
        del logs
        if not isinstance(self.model, RCTModel):
            raise RecipeError(
                "RCTCallback adapts the bit-widths of an RCTModel. "
                f"Received: {type(self.model).__name__}. Make one with rct.quantize(model)."
            )
        self._weights = self.model.integer_weights
        self._check_patterns()
        self._bands = [self._thresholds(weight) for weight in self._weights]
        for weight in self._weights:
            self._check_limits(weight)
        self._set_average()
        self._macs = macs_per_sample(self.model)
        self._apply(self.policy.fit(self._states()))
        self._meter = EnergyMeter()
        self._start = self._counted = self._steps()
        self._decided = max(self._start - self._last_execution(), 0) // self.interval
        self._began = False
        if self.tensorboard is not None and self._writes():
            self._summary = tf.summary.create_file_writer(str(self.tensorboard))

    def _steps(self) -> int:
        # The optimizer's count goes on after loading a model.
        return int(number_of(self.model.optimizer.iterations))

    def _last_execution(self) -> int:
        """Returns the steps of the execution before this one: a decision after it is still to be taken."""
        together = self.model.steps_per_execution
        return int((self.params.get("steps") or 0) % together or together)

    def _set_average(self) -> None:
        if any(weight.average != self.average for weight in self._weights):
            for weight in self._weights:
                weight.average = self.average
            self.model.make_train_function(force=True)  # an earlier fit() may have traced the other one

    def _thresholds(self, weight: IntegerWeight) -> Thresholds:
        t_min = _for_weight(self.t_min, weight.label)
        if t_min is None:
            t_min = default_t_min(weight.recipe.rounding, starting_rate(self.model.optimizer))
        t_max = _for_weight(self.t_max, weight.label)
        return Thresholds(t_min, HYSTERESIS * t_min if t_max is None else t_max)

    def _check_patterns(self) -> None:
        labels = [weight.label for weight in self._weights]
        for name, threshold in ((T_MIN, self.t_min), (T_MAX, self.t_max)):
            for pattern in threshold if isinstance(threshold, Mapping) else ():
                if not fnmatch.filter(labels, pattern):
                    raise RecipeError(
                        f"The threshold for {pattern!r} fits no weight. Expected a pattern of one of these names: "
                        f"{sorted(labels)}. Received: {name}={threshold}."
                    )

    def _limits(self, weight: IntegerWeight) -> tuple[int, int]:
        low = weight.recipe.min_bits if self.min_bits is None else self.min_bits
        high = weight.recipe.max_bits if self.max_bits is None else self.max_bits
        return low, high

    def _check_limits(self, weight: IntegerWeight) -> None:
        low, high = self._limits(weight)
        if low > high or (high > EXPORT_BITS and weight.recipe.max_bits <= EXPORT_BITS):
            raise RecipeError(
                f"The limits of the callback do not fit layer {weight.label!r}. Received: min_bits={low}, "
                f"max_bits={high}, with {weight.recipe}. Quantise with a Recipe that allows these bit-widths."
            )

    def _joules(self) -> list[tuple[float, ...]]:
        """Returns, for each weight, its part of a step's energy by its bit-width; nothing without a budget."""
        if self._step_energy is None or self.policy.budget_joules is None:
            return [()] * len(self._weights)
        for weight in self._weights:
            if math.isnan(self._macs.get(id(weight), 0.0)):
                raise RecipeError(
                    f"The energy of a step is not known: layer {weight.label!r} has an unknown number of "
                    "multiply-accumulates. Expected input shapes without None. "
                    f"Received: budget_joules={self.policy.budget_joules}. Fix the shapes, or use budget_bytes."
                )
        work = work_of(self._weights, self._macs)
        return [joules_by_bits(self._step_energy, layer, MAX_BITS) for layer in work]

    def _states(self) -> list[WeightState]:
        return [
            WeightState(
                weight.label,
                int(number_of(weight.bits)),
                float(number_of(weight.gavg)),
                weight.weight_count,
                band,
                *self._limits(weight),
                frozen=not weight.trainable,
                joules=joules,
            )
            for weight, band, joules in zip(self._weights, self._bands, self._joules(), strict=True)
        ]

    def _apply(self, widths: tuple[int, ...]) -> None:
        changes = [
            (bits, weight) for bits, weight in zip(widths, self._weights, strict=True) if bits != number_of(weight.bits)
        ]
        # Who pays does so first: the budget holds in between, too.
        for bits, weight in sorted(changes, key=lambda change: change[0] > number_of(change[1].bits)):
            weight.set_bits(bits)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes where the epoch starts; opens the log at the first one."""
        del logs
        self._start, self._epoch = self._steps(), epoch
        if not self._began and self._writer is not None and self._writes():
            earlier = self._writer.start(epoch + 1)
            if earlier is not None:
                self._meter.resume(earlier)
        self._began = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Decides on ranges and bit-widths, at the start of an interval."""
        del logs
        number = (self._start + batch) // self.interval
        if number == self._decided:
            return
        self._decided = number
        self._widen_ranges()
        if self.freeze_after is None or self._epoch < self.freeze_after:
            self._count(self._start + batch)
            self._apply(self.policy.decide(self._states()))

    def _widen_ranges(self) -> None:
        for weight in self._weights:
            # Weights spread evenly over the range have this share of them on its last integer, too.
            natural = 1.5 / 2 ** (int(number_of(weight.bits)) - 1)
            crowd = (self.max_saturated + natural) * weight.weight_count
            if weight.trainable and round(float(number_of(weight.saturated)) * weight.weight_count) > crowd:
                weight.double_range()

    def _count(self, steps: int) -> None:
        self._meter.add(steps - self._counted, work_of(self._weights, self._macs))
        self._counted = steps

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reports the epoch.

        Raises:
            QuantizationError: If the loss is not a finite number.
        """
        logs = {} if logs is None else logs
        if not math.isfinite(logs.get("loss", 0.0)):
            raise QuantizationError(
                f"Training diverged in epoch {epoch + 1}: the loss is {logs['loss']}. Expected a finite number. "
                "Look for NaN in the data, or lower the learning rate."
            )
        self._count(self._steps())
        row = row_of(self.model, self._states(), epoch + 1, logs, self._meter)
        if self._step_energy is not None:
            work = work_of(self._weights, self._macs)
            row[column(STEP_JOULES, self._step_energy.model)] = self._step_energy.joules(work)
        if self.verbose:
            sys.stdout.write(self._line(row, logs) + "\n")
            sys.stdout.flush()
        if self._writes():
            self._write(row)
        # Only two into the logs: all of them would fill Keras's progress bar.
        reported = {"bits": row["bits"], PARAMETER_BYTES: row[PARAMETER_BYTES]}
        history = self.model.history.history
        for name, value in row.items():
            if not name.startswith(_NOT_IN_HISTORY) and name not in reported and name not in logs:
                history.setdefault(name, []).append(value)
        logs.update(reported)

    def _writes(self) -> bool:
        """Whether this process keeps the logs: of several workers, the chief does."""
        strategy = self.model.distribute_strategy
        return strategy is None or bool(strategy.extended.should_checkpoint)

    def _write(self, row: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.append(row)
        if self._summary is not None:
            with self._summary.as_default(step=row[EPOCH] - 1):  # Keras's TensorBoard counts from 0
                for name, value in row.items():
                    tf.summary.write(name, tf.constant(value, tf.float32), metadata=_scalar_metadata())
            self._summary.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes what is open."""
        del logs
        if self._summary is not None:
            self._summary.close()
            self._summary = None

    def _line(self, row: dict[str, Any], logs: dict[str, Any]) -> str:
        epochs = self.params.get("epochs", row[EPOCH])
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        bits = " ".join(f"{weight.label}:{row[column('bits', weight.label)]}" for weight in self._weights)
        size, floats, qat = (
            row[name] / 1000
            for name in (PARAMETER_BYTES, column(PARAMETER_BYTES, "float32"), column(PARAMETER_BYTES, "qat"))
        )
        return (
            f"epoch {row[EPOCH]:{len(str(epochs))}}/{epochs}  {metrics}  bits {bits}  {size:.1f} kB "
            f"(float32 {floats:.1f} kB, QAT {qat:.1f} kB)"
        )


def _check_kinds(settings: Mapping[str, Any], names: tuple[str, ...], kind: type) -> None:
    for name in names:
        value = settings[name]
        for each in value.values() if isinstance(value, Mapping) else [value]:
            if each is not None and not isinstance(each, kind):
                wanted = "a whole number" if kind is numbers.Integral else "a number"
                raise RecipeError(f"Expected {wanted} for {name}. Received: {name}={value!r}.")


def _step_energy(target: str | StepEnergy | None) -> StepEnergy | None:
    return step_energy(find_target(target)) if isinstance(target, str) else target


def _scalar_metadata() -> Any:
    """Returns what marks a summary as a scalar: `tf.summary.scalar` needs TensorBoard to be installed here."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    metadata.data_class = 1  # DATA_CLASS_SCALAR
    return metadata


def starting_rate(optimizer: Any) -> float:
    """Returns the learning rate that the default thresholds follow.

    Of a schedule, it is the largest rate: what a decay starts with and what a warm-up reaches. It is looked at on
    steps that do not depend on how `fit()` is called, so that a training that goes on gets the same thresholds.
    Of a plain rate, it is the one that the optimizer was made with, whatever a callback has made of it since.

    Args:
        optimizer: Of the model.
    """
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        steps = [0, *(part << power for power in range(_LONGEST_WARM_UP) for part in (2, 3))]
        return max(float(keras.ops.convert_to_numpy(schedule(step))) for step in steps)
    return float(optimizer.initial_learning_rate or number_of(optimizer.learning_rate))


def _for_weight(threshold: Threshold, label: str) -> float | None:
    if not isinstance(threshold, Mapping):
        return threshold
    return next((value for pattern, value in threshold.items() if fnmatch.fnmatchcase(label, pattern)), None)
