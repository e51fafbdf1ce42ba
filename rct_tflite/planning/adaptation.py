"""Which bit-widths follow the training on the device: `--adapt-bits MIN:MAX` and what goes with it."""

from dataclasses import dataclass, replace

from rct_tflite.errors import RecipeError
from rct_tflite.reference.adaptation import LARGEST_STEP_BITS, STEP_BITS, band_of
from rct_tflite.reference.bit_decision import HYSTERESIS
from rct_tflite.reference.packing import room_bytes
from rct_tflite.spec.adaptation import Adaptation
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import MAX_BITS, MIN_BITS, Rounding
from rct_tflite.spec.training_plan import TrainingPlan

RATE_TIMES_T_MIN = {Rounding.STOCHASTIC: 0.3, Rounding.TRUNCATE: 4.0}
"""`learning_rate * t_min` where the user names none: why is told in `training/policy.py`."""

DEFAULT_INTERVAL = 100
"""Samples: 4 batches of 25."""

MAX_INTERVAL = 65535
LARGEST_STEP = 2 ** (LARGEST_STEP_BITS - STEP_BITS)
"""Steps of a weight in one update that the device counts."""


@dataclass(frozen=True)
class AdaptationOptions:
    """What the user chose.

    Attributes:
        bits: `"MIN:MAX"`.
        layers: Names of the layers whose width may change; empty for all that learn.
        budget_bytes: Most bytes of all packed weights that learn; None for what they take at MAX bits.
        interval: Training steps between two decisions.
        t_min: Below this Gavg a layer gets a bit; None for 0.3 (stochastic rounding) or 4 (truncation) divided by the
            learning rate.
        t_max: Above this Gavg a layer gives one back; None for `4 * t_min`.
    """

    bits: str
    layers: tuple[str, ...] = ()
    budget_bytes: int | None = None
    interval: int = DEFAULT_INTERVAL
    t_min: float | None = None
    t_max: float | None = None


def adapt(graph: Graph, plan: TrainingPlan, options: AdaptationOptions) -> TrainingPlan:
    """Returns the plan with widths that follow the training.

    Args:
        graph: The network.
        plan: What learns.
        options: What the user chose.

    Raises:
        RecipeError: If limits, thresholds or interval are out of range, a layer does not learn or starts outside of
            the limits, or the budget does not hold the weights.
    """
    low, high = _limits(options.bits)
    layers = _layers(plan, options.layers)
    if not 1 <= options.interval <= MAX_INTERVAL:
        raise RecipeError(
            f"The interval between two decisions must be 1 to {MAX_INTERVAL} training steps. "
            f"Received: {options.interval}. Try {DEFAULT_INTERVAL}."
        )
    t_min = RATE_TIMES_T_MIN[plan.rounding] / plan.learning_rate if options.t_min is None else options.t_min
    t_max = HYSTERESIS * t_min if options.t_max is None else options.t_max
    widest = _room(graph, plan, dict.fromkeys(layers, high))
    budget = widest if options.budget_bytes is None else options.budget_bytes
    adapted = replace(plan, adaptation=Adaptation(layers, low, high, budget, options.interval, t_min, t_max))
    _check_thresholds(adapted, t_min, t_max)
    _check_start(graph, adapted, (low, high))
    _check_budget(graph, adapted, low, budget)
    # More than the widest widths take is never used.
    adaptation = Adaptation(layers, low, high, min(budget, widest), options.interval, t_min, t_max)
    return replace(plan, adaptation=adaptation)


def _limits(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    allowed = {str(bits): bits for bits in range(MIN_BITS, MAX_BITS + 1)}
    if low not in allowed or high not in allowed or allowed[low] > allowed[high]:
        raise RecipeError(
            f"Cannot read the limits of the bit-widths. Expected MIN:MAX with {MIN_BITS} <= MIN <= MAX <= "
            f"{MAX_BITS}. Received: {text!r}. Try 4:8."
        )
    return allowed[low], allowed[high]


def _layers(plan: TrainingPlan, names: tuple[str, ...]) -> tuple[str, ...]:
    frozen = [name for name in names if name not in plan.trained]
    if frozen:
        raise RecipeError(
            f"The width of a layer that does not learn cannot follow its training. Expected some of "
            f"{list(plan.trained)}. Received: {frozen}. Train it (--train), or leave it out."
        )
    parts = [part.op for part in plan.partial]
    narrow = [name for name in names if name in parts]
    whole = tuple(name for name in plan.trained if name not in parts)
    if narrow or not whole:
        raise RecipeError(
            "The width of a layer that learns in part stays: its other rows lie in flash, at the exported width and "
            f"scale. Expected {f'some of {[*whole]}' if whole else 'layers that learn whole'}. "
            f"Received: {narrow or parts or 'nothing that learns'}. "
            "Train whole layers (--train), name only these, or leave --adapt-bits out."
        )
    return tuple(name for name in whole if not names or name in names)


def _check_thresholds(plan: TrainingPlan, t_min: float, t_max: float) -> None:
    # Both come from users in decimals: 0.3 and 1.2 are a factor of 4, though not in binary.
    if not 0.0 < HYSTERESIS * t_min * (1.0 - 1e-6) <= t_max or t_max * plan.learning_rate >= LARGEST_STEP:
        raise RecipeError(
            f"The thresholds of Gavg must satisfy 0 < {HYSTERESIS} * t_min <= t_max < {LARGEST_STEP} / learning rate "
            f"= {LARGEST_STEP / plan.learning_rate:g}. One bit more doubles Gavg: with closer ones bit-widths swing. "
            f"Received: t_min={t_min:g}, t_max={t_max:g}."
        )
    if band_of(plan).t_min < 1:
        raise RecipeError(
            f"t_min is too small to be held in 2**-{STEP_BITS} steps. Expected at least "
            f"{2.0**-STEP_BITS / plan.learning_rate:.3g} at a learning rate of {plan.learning_rate:g}. "
            f"Received: t_min={t_min:g}."
        )


def _check_start(graph: Graph, plan: TrainingPlan, limits: tuple[int, int]) -> None:
    low, high = limits
    assert plan.adaptation is not None
    for op in graph.ops:
        if op.name not in plan.adaptation.layers:
            continue
        bits = graph.bits_of(op)
        if not low <= bits <= high:
            raise RecipeError(
                f"Layer '{op.name}' starts outside of the limits. Expected {low} to {high} bits. Received: {bits}. "
                "Widen --adapt-bits, give it more bits (--weight-bits), or leave the layer out of --adapt-layers."
            )


def _check_budget(graph: Graph, plan: TrainingPlan, low: int, budget: int) -> None:
    assert plan.adaptation is not None
    narrowest = _room(graph, plan, dict.fromkeys(plan.adaptation.layers, low))
    start = _room(graph, plan, {})
    if budget < narrowest:
        raise RecipeError(
            f"The budget cannot hold the weights at their narrowest widths. Expected at least {narrowest} B. "
            f"Received: {budget}. Allow fewer bits, train fewer layers, or raise the budget."
        )
    if budget < start:
        raise RecipeError(
            f"The budget cannot hold the weights that the device starts with. Expected at least {start} B. "
            f"Received: {budget}. Train with fewer bits or with RCTCallback(budget_bytes=...), or raise the budget."
        )


def _room(graph: Graph, plan: TrainingPlan, bits: dict[str, int]) -> int:
    """Bytes of the packed rows that learn, each op's at the given bits or those that it starts with."""
    total = 0
    for op in graph.ops:
        channels, depth = graph.row_shape(op) if op.name in plan.trained else (0, 0)
        rows = len(plan.channels_of(op.name, channels))
        total += room_bytes(rows, depth, bits.get(op.name, graph.bits_of(op))) if rows else 0
    return total
