"""Which share of inputs and errors is not 0 while a workload runs: the NumPy reference has the same integers."""

from collections import defaultdict

import numpy as np
from networks import Workload

from rct_tflite.firmware.run import random_samples
from rct_tflite.planning.backward_work import Shares
from rct_tflite.reference.trainer import ReferenceTrainer


class _Observer(ReferenceTrainer):
    """Notes what each training step meets."""

    def __init__(self, graph, plan):
        super().__init__(graph, plan)
        self.errors, self.changed = defaultdict(list), defaultdict(list)

    def mask(self, op, values, output):
        masked = super().mask(op, values, output)
        self.errors[op.output].append(float(np.mean(masked != 0)))
        return masked

    def learn(self, op, value, error):
        before = self.network.weights[op.name].copy()
        super().learn(op, value, error)
        learning = list(self.plan.channels_of(op.name, len(before)))
        moved = (self.network.weights[op.name] != before)[learning]
        self.changed[op.name].append(float(moved.mean()) if moved.size else 0.0)


def observe(workload: Workload) -> tuple[Shares, float]:
    """Returns the shares of the steps that learnt something, and how many of all those are."""
    graph, plan = workload.graph, workload.plan
    samples = random_samples(graph, plan.loss)
    trainer = _Observer(graph, plan)
    values = trainer.network.values(samples.inputs)
    zeros = {index: graph.tensors[index].zero_point for index in values}
    inputs = {index: float(np.mean(value != zeros[index])) for index, value in values.items()}
    for number, sample in enumerate(samples.inputs):
        trainer.step(sample, samples.labelled()[number] if samples.targets is None else samples.targets[number])
    ran = max((len(shares) for shares in trainer.errors.values()), default=0) / len(samples.inputs)
    errors = {tensor: float(np.mean(shares)) for tensor, shares in trainer.errors.items()}
    for op in graph.ops:
        errors.setdefault(op.output, 0.0)  # where no step learnt
    changed = {name: float(np.mean(shares)) for name, shares in trainer.changed.items()}
    return Shares(inputs, errors, changed), ran
