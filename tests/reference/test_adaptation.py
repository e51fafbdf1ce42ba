"""The rule of the widths, and that a change of a width changes no result beyond its rounding."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.planning.adaptation import AdaptationOptions, adapt
from rct_tflite.planning.selection import select
from rct_tflite.reference.adaptation import asked_steps, halved
from rct_tflite.reference.bit_decision import Band, Width, decide, total_bytes
from rct_tflite.reference.random import RandomGenerator
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.step_options import RATE_ONE, RatePoint, StepOptions
from tests.graphs import GraphBuilder, dense_digits


def width(gavg, bits=6, low=2, high=8, count=800):
    return Width(bits, gavg, 1, count, low, high)


@pytest.mark.parametrize(
    ("widths", "budget", "expected"),
    [
        ([width(0)], 10**6, [6]),  # nothing is known
        ([width(999)], 10**6, [7]),
        ([width(1000)], 10**6, [6]),
        ([width(4000)], 10**6, [6]),
        ([width(4001)], 10**6, [5]),
        ([width(5, high=6)], 10**6, [6]),
        ([width(9000, low=6)], 10**6, [6]),
        ([width(300), width(200)], 1300, [6, 7]),  # the poorest first, the other has no payer
        ([width(800), width(200)], 1200, [5, 7]),  # four times as rich: pays
        ([width(799), width(200)], 1200, [6, 6]),  # not as rich: nobody gets anything
        ([width(3000), width(2000), width(100)], 1800, [5, 6, 7]),  # the richest pays
        ([width(5000), width(100)], 1200, [5, 7]),  # what was given back pays for the other
    ],
)
def test_decisions(widths, budget, expected):
    assert decide(widths, Band(1000, 4000, budget)) == expected


def test_no_decision_passes_the_budget_or_the_limits():
    random = np.random.default_rng(0)
    for _ in range(300):
        widths = [
            Width(int(random.integers(2, 9)), int(random.integers(0, 10_000) ** 1.3), *random.integers(1, 40, 2), 2, 8)
            for _ in range(int(random.integers(1, 7)))
        ]
        now = [w.bits for w in widths]
        budget = total_bytes(widths, now) + int(random.integers(0, 60))
        planned = decide(widths, Band(1000, 4000, budget))
        assert total_bytes(widths, planned) <= budget
        assert all(2 <= after <= 8 and abs(after - before) <= 1 for before, after in zip(now, planned, strict=True))


def test_halving_is_unbiased_and_draws_for_odd_integers_only():
    values, random = np.arange(-127, 128).repeat(40), RandomGenerator(1)
    halves = halved(values, random)
    assert np.all(np.abs(2 * halves - values) <= 1)
    assert abs(float((2 * halves - values).mean())) < 0.02
    draws = RandomGenerator(1)
    draws.draw(int(np.count_nonzero(values % 2)))
    assert draws.state == random.state


def test_asked_steps_are_those_of_the_update():
    assert asked_steps(total=100, mantissa=20000, shift=12, depth=50) == 100 * 20000 << 4
    assert asked_steps(total=100, mantissa=20000, shift=25, depth=50) == 100 * 20000 >> 9
    assert asked_steps(total=2**40, mantissa=32767, shift=1, depth=50) == 50 << 22


def trainer_of(**options):
    graph = GraphBuilder((12,)).dense(9, bits=4).dense(3, bits=4).graph()
    plan = dataclasses.replace(select(graph, "all"), options=StepOptions(**options))
    return ReferenceTrainer(graph, adapt(graph, plan, AdaptationOptions("2:8", interval=3, t_min=300.0)))


def test_gavg_holds_no_rate():
    """A quarter of the rate asks for a quarter of the steps, and Gavg stays what it was."""
    gavg = []
    for quarters in (0, 2):
        trainer = trainer_of(schedule=(RatePoint(0, RATE_ONE >> quarters),))
        op, gradient = trainer.network.graph.ops[0], np.arange(-6, 6) * 50
        for _ in range(3):
            trainer.scaling.schedule.advance()
            trainer.adapter.observe(op, 2, gradient, quarters - 4)
            trainer.adapter.end_step(trainer.scaling.schedule.rate)
        gavg.append(trainer.adapter.gavg[op.name])
    assert 0 < gavg[0] == pytest.approx(gavg[1], rel=0.01)


def test_a_rollback_brings_widths_back():
    trainer, samples = trainer_of(momentum=128), np.random.default_rng(1).integers(-128, 128, (30, 12), np.int8)
    for sample in samples[:3]:
        trainer.step(sample, 1)
    block, kept, gains = trainer.parameter_block(), trainer.keep(), dict(trainer.gains)
    octaves, outputs = trainer.adapter.octaves, trainer.network.run(samples)
    for sample in samples[3:]:
        trainer.step(sample, 1)
    later = dict(trainer.gains)
    moved = {name: octave - trainer.adapter.octaves[name] for name, octave in octaves.items()}
    assert all(moved.values())
    trainer.roll_back(kept)
    assert trainer.parameter_block() == block
    np.testing.assert_array_equal(trainer.network.run(samples), outputs)
    assert gains.keys() == later.keys()
    assert trainer.gains == {name: gain - 512 * moved[name] for name, gain in later.items()}
    assert set(trainer.adapter.gavg.values()) == {0}


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_wider_grid_computes_the_same(per_channel):
    """Widening is exact, but for the first of the two roundings of the requantisation, which is finer."""
    graph = GraphBuilder((12,)).dense(9, bits=4, per_channel=per_channel).dense(3, bits=4).graph()
    plan = adapt(graph, select(graph, "all"), AdaptationOptions("2:8", interval=1, t_min=300.0))
    trainer = ReferenceTrainer(graph, plan)
    samples = np.random.default_rng(1).integers(-128, 128, (60, 12), np.int8)
    trainer.step(samples[0], 1)  # every layer starves: a bit more for each
    assert list(trainer.adapter.bits.values()) == [5, 5]
    adapter = trainer.adapter
    before = trainer.network.run(samples).astype(int)
    for layer in adapter._layers.values():
        adapter._double(layer)
    assert list(adapter.octaves.values()) == [-2, -2]
    after = trainer.network.run(samples).astype(int)
    assert np.abs(after - before).max() <= 3
    assert np.mean(after != before) < 0.2


def test_it_learns_within_the_budget():
    """Digits from an untrained network of 4 bits: with bits that follow, it learns better than with those it has."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    samples = (digits.data * 8 - 64).astype(np.int8)
    graph = dense_digits(bits=4)
    plain = select(graph, "all", learning_rate=0.02)
    options = AdaptationOptions("3:8", interval=100)
    accuracies = []
    for plan in (plain, adapt(graph, plain, options)):
        trainer = ReferenceTrainer(graph, plan)
        for sample, label in zip(samples[:500], digits.target[:500], strict=True):
            trainer.step(sample, int(label))
        accuracies.append(float(np.mean(trainer.network.run(samples[1000:]).argmax(axis=1) == digits.target[1000:])))
    assert accuracies[1] > accuracies[0] + 0.02, accuracies
