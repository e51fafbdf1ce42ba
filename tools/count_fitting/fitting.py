"""Fits what each thing that a kernel does costs: no cost below 0, relative errors, networks left out one by one."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from counting import Counted
from networks import Workload
from observing import observe
from scipy.optimize import nnls

from rct_tflite.planning.backward_work import (
    Shares,
    assumed_shares,
    backward_amounts,
    loss_amounts,
    role_of,
)
from rct_tflite.planning.count_model import costs_of
from rct_tflite.planning.kernel_work import LIBRARY, Amounts, add_amounts, forward_amounts
from rct_tflite.reference.backward import backward_steps

Costs = dict[tuple[str, str], float]

GROUPS = (
    (re.compile(r"rct_(?:save_|apply_)?mask"), "mask"),
    (re.compile(r"rct_update\w*"), "update"),
    (re.compile(r"rct_learn_(?:bias|channel)(?:_split)?(_16)?"), r"learn_channel\1"),
    (re.compile(r"rct_(?:softmax_cross_entropy|sigmoid_cross_entropy|difference_error|losses)_16"), "losses_16"),
    (re.compile(r"rct_(\w+)_split_grad(_16)?"), r"\1_split\2"),
)
"""Functions that are counted together."""
IMPORTANT = 0.01
"""Share of a network's instructions below which a kernel matters less and less."""
TIED = 0.03
"""Weight of the wish that a cost be 0: what the networks cannot tell from others stays small."""
QUANTILE = 0.9
FEWEST = 8
"""Files that fewer networks call take the interval of the worst quarter of all."""


@dataclass(frozen=True)
class Work:
    """What a prediction does, and what a step does beside it."""

    forward: Amounts
    backward: Amounts

    @property
    def both(self) -> Amounts:
        """Of a prediction and a step, which predicts once more."""
        return add_amounts(self.forward, self.forward, self.backward)


@dataclass(frozen=True)
class Sample:
    """A workload.

    Attributes:
        done: With the shares of zeros that the run had: what the costs are fitted to.
        assumed: With the shares that an estimate assumes: what it is judged by.
        files: Instructions of each file, of a prediction and a step.
        counted: Instructions in all.
    """

    name: str
    done: Work
    assumed: Work
    files: Mapping[str, float]
    counted: Counted


def samples_of(workloads: Sequence[Workload], counted: Mapping[str, Counted]) -> list[Sample]:
    """Sets what workloads do beside what was counted of them."""
    samples = []
    for workload in workloads:
        shares, ran = observe(workload)
        done = Work(*_amounts(workload, shares, ran))
        graph, plan = workload.graph, workload.plan
        assumed = Work(*_amounts(workload, assumed_shares(graph, plan, backward_steps(graph, plan)), 1.0))
        samples.append((workload.name, done, assumed))
    known = {item.file for _, done, _ in samples for item in done.both}
    return [Sample(*sample, _files(counted[sample[0]], known), counted[sample[0]]) for sample in samples]


def fit(samples: Sequence[Sample]) -> Costs:
    """Returns the costs that fit best, over all files at once: those of one source share them."""
    rows = [(sample, file) for sample in samples for file in {item.file for item in sample.done.both}]
    keys = sorted({key for sample in samples for item in sample.done.both for key in costs_of(item)})
    places = {key: place for place, key in enumerate(keys)}
    amounts, counted = np.zeros((len(rows), len(keys))), np.zeros(len(rows))
    for row, (sample, file) in enumerate(rows):
        least = IMPORTANT * (sample.counted.forward + sample.counted.step)
        weight = 1.0 / max(sample.files[file], least)
        counted[row] = sample.files[file] * weight
        for item, amount in sample.done.both.items():
            if item.file == file:
                for key in costs_of(item):
                    amounts[row, places[key]] += amount * weight
    return dict(zip(keys, _solve(amounts, counted).tolist(), strict=True))


def predicted(amounts: Amounts, costs: Costs) -> Counter[str]:
    """Returns the instructions by file."""
    files: Counter[str] = Counter()
    for item, amount in amounts.items():
        files[item.file] += amount * sum(costs.get(key, 0.0) for key in costs_of(item))
    return files


def factors(samples: Sequence[Sample], left_out: Sequence[Costs]) -> dict[str, float]:
    """Returns per file the factor by which nine of ten networks lie off, each told by the others.

    Args:
        samples: All.
        left_out: The costs without each.
    """
    logs: dict[str, list[float]] = {}
    for sample, costs in zip(samples, left_out, strict=True):
        least = IMPORTANT * (sample.counted.forward + sample.counted.step)
        for file, value in predicted(sample.assumed.both, costs).items():
            ratio = (value + least) / (sample.files[file] + least)
            logs.setdefault(file, []).append(abs(float(np.log(ratio))))
    spread = {file: float(np.quantile(values, QUANTILE)) for file, values in logs.items()}
    careful = float(np.quantile(list(spread.values()), 0.75))
    return {
        file: float(np.exp(value if len(logs[file]) >= FEWEST else max(value, careful)))
        for file, value in sorted(spread.items())
    }


def _solve(amounts: npt.NDArray[np.float64], counted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sizes = np.sqrt((amounts**2).mean(axis=0))
    tied = np.diag(np.full(len(sizes), TIED))
    scaled, _ = nnls(np.vstack([amounts / sizes, tied]), np.concatenate([counted, np.zeros(len(sizes))]))
    costs: npt.NDArray[np.float64] = scaled / sizes
    return costs


def _amounts(workload: Workload, shares: Shares, ran: float) -> tuple[Amounts, Amounts]:
    graph, plan = workload.graph, workload.plan
    channels = {op.name: graph.row_shape(op)[0] if op.has_weights else 0 for op in graph.ops}
    forward = [
        forward_amounts(
            graph, op, shares.inputs.get(op.inputs[0], 1.0), frozenset(plan.channels_of(op.name, channels[op.name]))
        )
        for op in graph.ops
    ]
    backward = [
        {item: ran * amount for item, amount in backward_amounts(graph, step, role).items()}
        for step in backward_steps(graph, plan)
        for role in [role_of(plan, step.op, channels[step.op.name], shares)]
    ]
    return add_amounts(*forward), add_amounts(loss_amounts(graph, plan), *backward)


def _files(counted: Counted, known: Collection[str]) -> Mapping[str, float]:
    """Adds up functions; what no kernel's file holds is the library's."""
    files: Counter[str] = Counter()
    for function, instructions in counted.kernels:
        file = _file_of(function, known)
        if file is not None:
            files[file] += instructions
    files[LIBRARY] = counted.forward + counted.step - sum(files.values())
    return files


def _file_of(function: str, known: Collection[str]) -> str | None:
    for pattern, file in GROUPS:
        found = pattern.fullmatch(function)
        if found:
            return found.expand(file).replace("None", "")
    name = function.removeprefix("rct_")
    if name in (function, LIBRARY):
        return None
    return name if name in known else "errors_16" if name.endswith("_16") else None
