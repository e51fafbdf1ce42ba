"""`tools/fit_counts`: costs that are known are found again."""

import dataclasses
import itertools
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "count_fitting"


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(TOOLS))
    try:
        import counting
        import fitting
        import networks

        yield counting, fitting, networks
    finally:
        sys.path.remove(str(TOOLS))


def test_costs_that_are_known_are_found_again(tools):
    counting, fitting, networks = tools
    chosen = list(itertools.islice(networks.workloads(), 12))
    nothing = {workload.name: counting.Counted(0.0, 0.0, ()) for workload in chosen}
    works = fitting.samples_of(chosen, nothing)
    keys = sorted({key for work in works for item in work.done.both for key in fitting.costs_of(item)})
    costs = {key: 5.0 + 3.0 * (number % 7) for number, key in enumerate(keys)}

    def counted(work):
        files = fitting.predicted(work.done.both, costs)
        forward = sum(fitting.predicted(work.done.forward, costs).values())
        step = sum(files.values()) - forward
        return counting.Counted(forward, step, tuple((f"rct_{file}", count) for file, count in files.items()))

    samples = fitting.samples_of(chosen, {work.name: counted(work) for work in works})
    found = fitting.fit(samples)
    for sample in samples:
        told = sum(fitting.predicted(sample.done.both, found).values())
        assert told == pytest.approx(sample.counted.forward + sample.counted.step, rel=0.02)
    perfect = fitting.factors([as_assumed(sample) for sample in samples], [costs] * len(samples))
    assert max(perfect.values()) < 1.001


def as_assumed(sample):
    """A sample whose run had just the shares that are assumed."""
    return dataclasses.replace(sample, assumed=sample.done)
