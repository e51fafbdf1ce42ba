"""RAM of what a training step does beside plain gradient descent."""

from dataclasses import dataclass

from rct_tflite.spec.training_plan import TrainingPlan

RATE_STATE_BYTES = 12
"""rct_rate_t."""


@dataclass(frozen=True)
class Extra:
    """One option's share of RAM, in bytes."""

    name: str
    size: int


def extras_of(plan: TrainingPlan) -> tuple[Extra, ...]:
    """Returns what the options of a plan hold in RAM, nothing where none was asked for."""
    extras = []
    if plan.options.schedule is not None:
        extras.append(Extra("learning rate", RATE_STATE_BYTES))
    return tuple(extras)
