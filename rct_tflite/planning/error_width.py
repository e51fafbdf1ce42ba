"""Which bit-width the errors of the backward pass should have, and what the other one costs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rct_tflite.planning.memory import plan_memory
from rct_tflite.reference.gradients import ScaledError
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Graph, Inputs, Op
from rct_tflite.spec.training_plan import ERROR_BITS, TrainingPlan

DEEP = 10
"""Layers up to which the stricter bound holds."""
BOUND, DEEP_BOUND = 0.99, 0.95
"""Smallest cosine similarity of a layer's weight gradient with the exact one: up to `DEEP` layers, and beyond."""
DEEPEST = 30
"""As many layers below the loss errors of 8 bits were measured to be enough for (tools/gradient_precision.py)."""
MOST_SAMPLES = 16

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ErrorWidths:
    """Both bit-widths side by side.

    Attributes:
        chosen: The plan's.
        recommended: The narrowest that is precise enough.
        ram_bytes: Arena, parameters and state of a plain step, by bit-width.
        cosines: With samples, of each layer's weight gradient with 8 bits to that with 16, mean over the samples, from
            the loss downwards; empty without.
    """

    chosen: int
    recommended: int
    ram_bytes: Mapping[int, int]
    cosines: Mapping[str, float]


def compare_error_widths(
    graph: Graph,
    plan: TrainingPlan,
    inputs: Inputs | None = None,
    wanted: npt.NDArray[np.signedinteger] | None = None,
) -> ErrorWidths:
    """Returns what each bit-width of errors takes, and which to take.

    With samples the widest errors stand for exact ones: their gradients have a cosine of at least 0.999 with those of
    real numbers. Without samples the depth of the network decides.

    Args:
        graph: The network.
        plan: What learns; without the options of its step.
        inputs: int8, or int32 ids, (n, *input shape without batch), of which the first few are taken.
        wanted: The class of each, (n,), or int8 targets (n, outputs), as the loss takes it.
    """
    plans = {bits: replace(plan, error_bits=bits) for bits in ERROR_BITS}
    cosines: dict[str, float] = {}
    if inputs is not None and wanted is not None:
        cosines = _cosines(graph, plans, inputs[:MOST_SAMPLES], wanted[:MOST_SAMPLES])
    depths = {name: depth for depth, name in enumerate(_from_the_loss(graph, plan), start=1)}
    narrow = max(depths.values(), default=0) <= DEEPEST
    if cosines:
        narrow = all(cosine >= (BOUND if depths[name] <= DEEP else DEEP_BOUND) for name, cosine in cosines.items())
    ram = {bits: plan_memory(graph, wide).ram_bytes for bits, wide in plans.items()}
    return ErrorWidths(plan.error_bits, ERROR_BITS[0] if narrow else ERROR_BITS[-1], ram, cosines)


def told(widths: ErrorWidths) -> str:
    """Returns one line for people."""
    other = next(bits for bits in ERROR_BITS if bits != widths.chosen)
    difference = widths.ram_bytes[other] - widths.ram_bytes[widths.chosen]
    more = f"{abs(difference)} B {'more' if difference >= 0 else 'less'} RAM"
    why = ""
    if widths.cosines:
        name = min(widths.cosines, key=lambda layer: widths.cosines[layer])
        why = f"; 8 bits keep the gradient's direction to a cosine of {widths.cosines[name]:.4f} (lowest: {name})"
    return f"{widths.chosen} bits, {other} would take {more}{why}; {widths.recommended} bits are advised"


def _from_the_loss(graph: Graph, plan: TrainingPlan) -> list[str]:
    """Returns the layers down to the deepest trained one."""
    names = [op.name for op in graph.ops if op.has_weights]
    first = min((names.index(name) for name in plan.trained), default=len(names))
    return names[first:][::-1]


def _cosines(
    graph: Graph, plans: Mapping[int, TrainingPlan], inputs: Inputs, wanted: npt.NDArray[np.signedinteger]
) -> dict[str, float]:
    probes = [_Probe(graph, plan) for plan in plans.values()]
    found: dict[str, list[float]] = {}
    for sample, label in zip(inputs, wanted, strict=True):
        for probe in probes:
            probe.seen.clear()
            probe.step(sample, int(label) if probe.plan.loss.takes_class else np.asarray(label, np.int8))
        narrow, wide = (probe.seen for probe in probes)
        for name in narrow.keys() & wide.keys():
            lengths = np.linalg.norm(narrow[name]) * np.linalg.norm(wide[name])
            if lengths > 0.0:
                found.setdefault(name, []).append(float(narrow[name] @ wide[name] / lengths))
    order = _from_the_loss(graph, next(iter(plans.values())))
    return {name: float(np.mean(found[name])) for name in order if name in found}


class _Probe(ReferenceTrainer):
    """Keeps the weight gradients of a sample, each in a unit of its own, and leaves the weights as they are."""

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        super().__init__(graph, plan)
        self.seen: dict[str, Floats] = {}

    def learn(self, op: Op, value: Inputs, error: ScaledError) -> None:
        """Keeps the gradient."""
        self.seen[op.name] = self.weight_gradients(op, value, error)[0].astype(np.float64).reshape(-1)
