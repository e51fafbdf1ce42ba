"""The reference's building blocks against plain loops over Python integers, and what it refuses."""

import math

import numpy as np
import pytest

from rct_tflite.errors import DataError, QuantizationError, RecipeError, UnsupportedLayerError
from rct_tflite.reference import gradients
from rct_tflite.reference.backward import backward_constants
from rct_tflite.reference.constants import exp_table, forward_constants
from rct_tflite.reference.gradients import GAIN_UNSET, scale_input_error, softmax_cross_entropy
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import pack_rows, row_bytes, unpack_rows
from rct_tflite.reference.random import RandomGenerator
from rct_tflite.reference.rounding import log2_q8, quantize_multiplier, requantize, round_shift
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.reference.update import updates
from rct_tflite.spec.graph import Activation, OpKind, Padding
from rct_tflite.spec.quantization import AffineQuantization, Rounding
from rct_tflite.spec.training_plan import TrainingPlan
from tests.float_network import FloatNetwork
from tests.graphs import GraphBuilder, change_tensor, dense_digits

SAME, VALID = Padding.SAME, Padding.VALID


def toward_zero(numerator: int, denominator: int) -> int:
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def two_roundings(acc: int, multiplier: int, shift: int) -> int:
    """TFLite-Micro's requantisation as it is written there: a doubling high product, then a rounding divide."""
    product = acc * 2 ** max(shift, 0) * multiplier
    nudge = 2**30 if product >= 0 else 1 - 2**30
    high = toward_zero(product + nudge, 2**31)
    exponent = max(-shift, 0)
    mask = 2**exponent - 1
    threshold = mask // 2 + (1 if high < 0 else 0)
    return high // 2**exponent + (1 if (high & mask) > threshold else 0)


@pytest.mark.parametrize("shift", [*range(-31, 4)])
def test_requantize_is_tflite_micros(shift):
    random = np.random.default_rng(shift + 40)
    limit = (2**31 - 1) >> max(shift, 0)
    acc = np.concatenate([random.integers(-limit, limit, 300), random.integers(-900, 900, 300), [0, limit, -limit]])
    for multiplier in (2**30, 2**31 - 1, int(random.integers(2**30, 2**31)), 3 * 2**29):
        got = requantize(acc, np.array([multiplier]), np.array([shift]))
        assert got.tolist() == [two_roundings(int(a), multiplier, shift) for a in acc]


def test_requantize_saturates_where_tflite_micro_overflows():
    got = requantize(np.array([2**30, -(2**30)]), np.array([2**31 - 1]), np.array([4]))
    assert got.tolist() == [2**31 - 17, -(2**31 - 17)]


@pytest.mark.parametrize("real", [1e-9, 0.00391, 0.1, 0.5, 0.9999999999, 1.0, 3.7, 2.0**29])
def test_multipliers_are_exact_to_31_bits(real):
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert math.ldexp(multiplier, shift - 31) == pytest.approx(real, rel=2**-31)


def test_shifts_and_logarithm():
    values = np.arange(-70, 71)
    for shift in (1, 2, 5):
        assert round_shift(values, shift).tolist() == [math.floor(v / 2**shift + 0.5) for v in range(-70, 71)]
    assert round_shift(values, -3).tolist() == (values * 8).tolist()
    for value in (1, 2, 3, 100, 255, 256, 257, 12345, 2**30 - 1):
        assert abs(log2_q8(value) - 256 * math.log2(value)) < 24  # a chord stays within 0.09 octave


def packed_bit_by_bit(row, bits) -> bytes:
    stream = [(int(value) >> bit) & 1 for value in row for bit in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return bytes(sum(bit << i for i, bit in enumerate(stream[start : start + 8])) for start in range(0, len(stream), 8))


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("depth", [1, 3, 8, 33])
def test_packing(bits, depth):
    low = -(2 ** (bits - 1))
    rows = np.random.default_rng(bits).integers(low, -low, (4, depth))
    rows[0], rows[1] = low, -low - 1
    packed = pack_rows(rows, bits)
    assert packed.shape == (4, row_bytes(depth, bits))
    assert [row.tobytes() for row in packed] == [packed_bit_by_bit(row, bits) for row in rows]
    assert unpack_rows(packed, depth, bits).tolist() == rows.tolist()


@pytest.mark.parametrize(("value", "bits"), [(8, 4), (-9, 4), (128, 8), (1, 1), (1, 17)])
def test_packing_refuses_what_does_not_fit(value, bits):
    with pytest.raises(QuantizationError, match="Received"):
        pack_rows(np.array([[value]]), bits)


def test_random_numbers_are_the_generators_in_any_portions():
    state, expected = 12345, []
    for _ in range(1000):
        state = (state * 1664525 + 1013904223) % 2**32
        expected.append(state)
    generator = RandomGenerator(12345)
    drawn = np.concatenate([generator.draw(count) for count in (1, 0, 7, 300, 2, 690)])
    assert drawn.tolist() == expected
    assert generator.state == expected[-1]


def plain_updates(gradient, mantissa, shift, random):
    """Section 6 of ARITHMETIC.md, one gradient after the other."""
    if shift > 30:
        mantissa, shift = mantissa // 2 ** min(shift - 30, 15), 30
    shift = max(shift, 1)
    for d in gradient:
        if random is None:
            yield toward_zero(d * mantissa, 2**shift)
        else:
            noise = int(random.draw(1)[0]) // 2 ** (32 - shift) if d else 0
            yield (d * mantissa + noise) // 2**shift


@pytest.mark.parametrize("shift", [-5, 0, 1, 9, 15, 22, 30, 31, 40, 60])
@pytest.mark.parametrize("stochastic", [False, True])
def test_updates(shift, stochastic):
    random = np.random.default_rng(3)
    for mantissa in (2**14, 2**15 - 1, 20000):
        gradient = np.concatenate([random.integers(-32385, 32386, 50), random.integers(-(2**30), 2**30, 50), [0] * 5])
        random.shuffle(gradient)
        one, other = (RandomGenerator(9) if stochastic else None for _ in range(2))
        got = updates(gradient, mantissa, shift, one)
        assert got.tolist() == list(plain_updates(gradient.tolist(), mantissa, shift, other))
        assert not stochastic or one.state == other.state


def test_stochastic_updates_are_unbiased_and_truncated_ones_are_not():
    gradient, random = np.full(20000, -300), RandomGenerator(1)
    step = -300 * 20000 / 2**24
    assert updates(gradient, 20000, 24, random).mean() == pytest.approx(step, abs=0.02)
    assert not updates(gradient, 20000, 24, None).any()


def plain_output(graph, op, sample):
    """One op in loops over Python integers; padding as TFLite computes it."""
    network = FloatNetwork(graph)
    source, result = graph.tensors[op.inputs[0]], graph.tensors[op.output]
    c = forward_constants(graph, op)
    x, zero_point = sample.astype(int).tolist(), source.zero_point
    output = np.zeros(result.shape[1:], int)

    def finish(acc, channel):
        index = channel % c.multiplier.size
        return result.zero_point + two_roundings(acc, int(c.multiplier[index]), int(c.shift[index]))

    if op.kind is OpKind.FULLY_CONNECTED:
        weights, bias = (graph.tensors[i].data.tolist() for i in op.inputs[1:])
        for unit, row in enumerate(weights):
            output[unit] = finish(bias[unit] + sum(w * (v - zero_point) for w, v in zip(row, x, strict=True)), unit)
        return np.clip(output, c.act_min, c.act_max)
    for (row, column), cells in network.windows(op, sample.shape):
        for channel in range(result.shape[-1]):
            if op.kind is OpKind.CONV_2D:
                weights, bias = (graph.tensors[i].data for i in op.inputs[1:])
                acc = int(bias[channel])
                for (i, j), (y, z) in cells:
                    acc += sum(int(w) * (v - zero_point) for w, v in zip(weights[channel, i, j], x[y][z], strict=True))
                output[row, column, channel] = finish(acc, channel)
                continue
            values = [x[y][z][channel] for _, (y, z) in cells]
            if op.kind is OpKind.MAX_POOL_2D:
                output[row, column, channel] = max(values)
            else:
                half = len(values) // 2 if sum(values) > 0 else -(len(values) // 2)
                output[row, column, channel] = toward_zero(sum(values) + half, len(values))
    return np.clip(output, c.act_min, c.act_max)


def one_op_graphs():
    image, q = (5, 6, 3), AffineQuantization(0.02, 5)
    for activation in (Activation.NONE, Activation.RELU, Activation.RELU6):
        yield GraphBuilder((7,), 1, q).dense(5, activation)
        yield GraphBuilder((7,), 1, q).dense(5, activation, per_channel=True)
        yield GraphBuilder(image, 2, q).conv(4, activation=activation)
        yield GraphBuilder(image, 3, q).conv(4, (2, 3), (2, 1), SAME, activation, per_channel=True)
        yield GraphBuilder(image, 4, q).conv(4, (3, 2), (1, 2), VALID, activation)
        for kind in ("max_pool", "average_pool"):
            yield getattr(GraphBuilder(image, 5, q), kind)((3, 2), (2, 2), SAME, activation)
            yield getattr(GraphBuilder(image, 6, q), kind)(2, 1, VALID, activation)


@pytest.mark.parametrize("graph", [builder.graph() for builder in one_op_graphs()])
def test_forward(graph):
    random = np.random.default_rng(7)
    samples = random.integers(-128, 128, (4, *graph.tensors[0].shape[1:])).astype(np.int8)
    got = ReferenceNetwork(graph).run(samples)
    for sample, output in zip(samples, got, strict=True):
        np.testing.assert_array_equal(output, plain_output(graph, graph.ops[0], sample))


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.4])
def test_error_at_the_loss(scale):
    logits_tensor = GraphBuilder((1,), 0, AffineQuantization(scale, 0)).tensors[0]
    table, random = exp_table(logits_tensor), np.random.default_rng(8)
    for _ in range(20):
        logits, label = random.integers(-127, 127, 10), int(random.integers(10))
        expected = np.exp(scale * (logits - logits.max()))
        expected = expected / expected.sum() - np.eye(10)[label]
        error = softmax_cross_entropy(logits, label, table)
        if error is None:
            assert np.abs(expected).max() < 2**-7 + 1e-3
            continue
        assert 64 <= np.abs(error.values).max() <= 127
        unit = 2.0**-error.exponent
        assert np.abs(error.values * unit - expected).max() <= unit + 2**-12


def test_errors_at_the_end_of_int8_push_inward_only():
    table = exp_table(GraphBuilder((1,), 0, AffineQuantization(0.01, 0)).tensors[0])
    error = softmax_cross_entropy(np.array([127, 127, -128, 0]), 0, table)
    assert error.values[0] == 0  # wants to rise, cannot
    assert error.values[1] > 0  # falls
    assert error.values[2] == 0  # wants to fall, cannot
    assert error.values[3] > 0
    assert softmax_cross_entropy(np.array([127, -128]), 0, table) is None


def test_gain_follows_a_larger_error_at_once_and_forgets_slowly():
    """Errors far from those before, 16 times as large or as small here, take a shift of their own."""
    acc = np.array([0, 5000, -700])
    values, shift, gain = scale_input_error(acc, 3, GAIN_UNSET)
    assert (shift, values.tolist()) == (6, [0, 78, -11])
    values, shift, higher = scale_input_error(acc * 16, 3, gain)
    assert (shift, values.tolist()) == (10, [0, 78, -11])
    assert higher == gain + 4 * 256
    _, shift, lower = scale_input_error(acc, 3, higher)
    assert (shift, lower) == (6, higher - 4)
    assert scale_input_error(acc * 4, 3, higher)[1] == 10
    assert scale_input_error(acc * 0, 3, lower)[1:] == (0, lower)
    assert scale_input_error(acc * 0, 3, GAIN_UNSET)[1:] == (0, GAIN_UNSET)


def test_ratios_keep_the_real_proportion_of_channels():
    graph = GraphBuilder((6,), 3).dense(5, per_channel=True).graph()
    op = graph.ops[0]
    c = backward_constants(graph, TrainingPlan((op.name,), 0.1, Rounding.STOCHASTIC))[op.name]
    scales = graph.tensors[1].quantization.scales.astype(float)
    scaled = gradients.channel_errors(np.full(5, 100), c)
    np.testing.assert_allclose(scaled / 2.0**c.guard_bits, 100 * scales / scales.max(), atol=2.0**-c.guard_bits)


def plan_for(graph, rate=0.1):
    return TrainingPlan((graph.ops[0].name,), rate, Rounding.STOCHASTIC)


@pytest.mark.parametrize(
    ("builder", "rate", "error"),
    [
        (GraphBuilder((33000,)).dense(2), 0.1, UnsupportedLayerError),
        (GraphBuilder((182, 182, 1)).conv(1, (1, 1)), 0.1, UnsupportedLayerError),
        (GraphBuilder((5, 5, 1)).conv(2).average_pool(2, 2, SAME), 0.1, UnsupportedLayerError),
        (GraphBuilder((4,)).dense(2), 1e60, RecipeError),
        (GraphBuilder((4,)).dense(2), 1e-60, RecipeError),
        (GraphBuilder((4,)).dense(2), math.nan, RecipeError),
    ],
)
def test_what_integers_cannot_train_is_refused(builder, rate, error):
    graph = builder.graph()
    with pytest.raises(error, match=r"Expected|valid"):
        backward_constants(graph, plan_for(graph, rate))


def test_bad_samples_and_labels_are_refused():
    trainer = ReferenceTrainer(dense_digits(), plan_for(dense_digits()))
    sample = np.zeros(64, np.int8)
    for label in (-1, 10):
        with pytest.raises(DataError, match="label"):
            trainer.step(sample, label)
    for bad in (sample[:63], sample.astype(np.float32)):
        with pytest.raises(DataError, match="int8 samples"):
            trainer.step(bad, 0)


@pytest.mark.parametrize(("room", "runs"), [(2**15, False), (2**16, True)])
def test_biases_that_could_overflow_an_accumulator_are_refused(room, runs):
    graph = GraphBuilder((4,)).dense(1).graph()
    # Four weights of 33 can add 33,660 to the bias; any four weights can add 130,560.
    graph = change_tensor(graph, 1, data=np.full((1, 4), 33, np.int8))
    graph = change_tensor(graph, 2, data=np.array([room - 2**31], np.int32))
    if runs:
        forward_constants(graph, graph.ops[0])
    else:
        with pytest.raises(UnsupportedLayerError, match="accumulator of layer 'layer0' could overflow"):
            forward_constants(graph, graph.ops[0])
    with pytest.raises(UnsupportedLayerError, match="bias of layer 'layer0' is too large"):
        backward_constants(graph, plan_for(graph))
