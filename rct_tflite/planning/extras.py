"""RAM of what a device has beside the network and a plain training step."""

from dataclasses import dataclass

from rct_tflite.planning.held import held_layout
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.training_plan import TrainingPlan

WIDTHS = "widths"
"""Name of what is held to let bit-widths follow."""
RATE_BYTES = 12
"""rct_rate_t."""
PROGRESS_BYTES = 16
"""rct_progress_t."""
REPLAY_STATE_BYTES = 8
"""rct_replay_state_t."""
REPLAY_CLASS_BYTES = 6
"""rct_replay_class_t."""
WIDTH_BYTES = 16
"""rct_width_t: what is observed of a layer whose width may change."""
RATES_BYTES = 8
"""Sum of the rates since the last decision on widths."""
COUNT_BYTES = 2
"""A label, or a count of the confusion."""


@dataclass(frozen=True)
class Extra:
    """One option's share of RAM, in bytes, a multiple of 4."""

    name: str
    size: int


def extras_of(graph: Graph, plan: TrainingPlan, parameter_bytes: int) -> tuple[Extra, ...]:
    """Returns what the options of a plan hold in RAM, nothing where none was asked for.

    Args:
        graph: The network.
        plan: Says which options.
        parameter_bytes: Of all that learns.
    """
    outputs, sample = graph.tensors[graph.output].size, graph.input_bytes
    aids, extras = plan.aids, []
    if plan.options.schedule is not None:
        extras.append(Extra("learning rate", RATE_BYTES))
    held = held_layout(graph, plan)
    if held.sum_bytes:
        extras.append(Extra("gradient sums", held.sum_bytes))
    if held.momentum_bytes:
        extras.append(Extra("momentum", held.momentum_bytes))
    if plan.adaptation is not None:
        rates = RATES_BYTES if plan.options.schedule is not None else 0
        extras.append(Extra(WIDTHS, WIDTH_BYTES * len(plan.trained) + 4 + rates))
    if aids.evaluates:
        counts = _padded(COUNT_BYTES * outputs**2) if plan.loss.takes_class else 0
        extras.append(Extra("evaluation", PROGRESS_BYTES + counts))
    if aids.keeps_best:
        extras.append(Extra("best weights", parameter_bytes))
    if aids.replay_slots:
        samples = _padded(aids.replay_slots * sample) + _padded(aids.replay_slots * COUNT_BYTES)
        size = samples + _padded(outputs * REPLAY_CLASS_BYTES) + REPLAY_STATE_BYTES
        extras.append(Extra("replay buffer", size))
    return tuple(extras)


def _padded(size: int) -> int:
    return -(-size // 4) * 4
