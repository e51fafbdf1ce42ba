"""What is held from sample to sample, against real numbers."""

import numpy as np
import pytest

from rct_tflite.planning.held import held_layout
from rct_tflite.reference.held import Block, HeldGradients, Place, gradient_sum
from rct_tflite.reference.random import RandomGenerator
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.step_options import StepOptions
from rct_tflite.spec.training_plan import PartialUpdate, TrainingPlan
from tests.graphs import dense_digits

GRAPH = dense_digits()
PLACE = Place(3, 0)


def real(block):
    return block.values * 2.0**-block.exponent


def blocks(seed, count):
    random = np.random.default_rng(seed)
    for _ in range(count):
        bits = int(random.integers(1, 30))
        yield Block(random.integers(-(2**bits), 2**bits + 1, 20), int(random.integers(bits - 20, bits)))


def held(options, updates):
    plan = TrainingPlan(("layer0", "layer1"), 0.1, Rounding.STOCHASTIC, options=options)
    return HeldGradients(
        GRAPH, plan, RandomGenerator(), lambda op, place, block: updates.append((op.name, place, block))
    )


def test_sums_keep_14_bits_of_the_larger_block():
    for one, other in zip(blocks(0, 200), blocks(1, 200), strict=True):
        total = gradient_sum(one, other)
        largest = max(np.abs(real(one)).max(), np.abs(real(other)).max())
        assert np.abs(total.values).max() <= 2**15
        np.testing.assert_allclose(real(total), real(one) + real(other), rtol=0, atol=1.01 * largest * 2.0**-13)


@pytest.mark.parametrize("samples", [2, 5, 100])
def test_sums_update_after_every_so_many_samples(samples):
    updates, op = [], GRAPH.ops[0]
    gradients = held(StepOptions(accumulate=samples), updates)
    total = np.zeros(20)
    for number, block in enumerate(blocks(2, samples), start=1):
        gradients.learn(op, PLACE, block)
        total += real(block)
        assert len(updates) == 0
        gradients.finish_sample(GRAPH.ops)
        assert len(updates) == (number == samples)
    assert updates[0][:2] == (op.name, PLACE)
    np.testing.assert_allclose(real(updates[0][2]), total, rtol=0, atol=samples * 2.0**-12 * np.abs(total).max())
    for _ in range(samples):
        gradients.finish_sample(GRAPH.ops)  # samples that teach nothing
    assert len(updates) == 1


def test_momentum_follows_the_real_one():
    updates, wanted = [], np.zeros(20)
    gradients = held(StepOptions(momentum=230), updates)
    random = np.random.default_rng(3)
    for _ in range(300):
        block = Block(random.integers(-30_000, 30_000, 20) + 9_000, int(random.integers(5, 8)))
        wanted = wanted * 230 / 256 + real(block)
        gradients.learn(GRAPH.ops[0], PLACE, block)
    error = real(updates[-1][2]) - wanted
    assert np.abs(error).max() < 0.05 * np.abs(wanted).max()  # 8 bits, of some ten steps


def test_a_small_momentum_decays():
    """Rounded to nearest, 1 * 0.9 would stay 1 for ever."""
    updates = []
    gradients = held(StepOptions(momentum=230), updates)
    gradients.learn(GRAPH.ops[0], PLACE, Block(np.array([100, 1]), 0))
    for _ in range(300):
        gradients.learn(GRAPH.ops[0], PLACE, Block(np.array([100, 0]), 0))
    assert abs(real(updates[-1][2])[1]) <= 10


def test_what_has_no_gradient_neither_moves_nor_decays():
    updates = []
    gradients = held(StepOptions(momentum=128), updates)
    for values in ([64], [0], [0], [64]):
        gradients.learn(GRAPH.ops[0], PLACE, Block(np.array(values), 0))
    assert [real(block).tolist() for _, _, block in updates] == [[64.0], [96.0]]
    gradients.forget()
    gradients.learn(GRAPH.ops[0], PLACE, Block(np.array([64]), 0))
    assert real(updates[-1][2]).tolist() == [64.0]


def test_what_is_held_follows_the_scale():
    """A velocity of before counts in the steps of the new scale: a shift, without rounding."""
    updates, octaves = [], iter([0, 0, 2, 2])
    plan = TrainingPlan(("layer0", "layer1"), 0.1, Rounding.STOCHASTIC, options=StepOptions(momentum=128))
    gradients = HeldGradients(
        GRAPH, plan, RandomGenerator(), lambda *update: updates.append(update), octave=lambda op: next(octaves)
    )
    gradients.learn(GRAPH.ops[0], PLACE, Block(np.array([64]), 0))
    gradients.learn(GRAPH.ops[0], PLACE, Block(np.array([64]), 2))
    assert [real(block).tolist() for _, _, block in updates] == [[64.0], [(32 + 64) / 4]]


def test_rows_and_biases_of_a_part_are_laid_out_apart():
    options = StepOptions(accumulate=2, momentum=128)
    part = PartialUpdate("layer1", (0, 4))
    plan = TrainingPlan(("layer0", "layer1"), 0.1, Rounding.STOCHASTIC, partial=(part,), options=options)
    layout = held_layout(GRAPH, plan)
    depths = [GRAPH.row_shape(op) for op in GRAPH.ops]
    rows = [depths[0][0], 2]
    values = [count * depth + channels for count, (channels, depth) in zip(rows, depths, strict=True)]
    exponents = [count + channels for count, (channels, _) in zip(rows, depths, strict=True)]
    assert [slot.rows for slot in layout.slots.values()] == rows
    assert layout.sum_bytes == 4 + sum(-(-(2 * e + 2 * v) // 4) * 4 for e, v in zip(exponents, values, strict=True))
    assert layout.momentum_bytes == sum(-(-(2 * e + v) // 4) * 4 for e, v in zip(exponents, values, strict=True))
