"""What fine-tuning would come to, foretold by the tangents of the network."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.planning import forecast as forecast_module
from rct_tflite.planning import tangents as tangents_module
from rct_tflite.planning.forecast import EPOCHS, FOLDS, SETTLED, Forecaster
from rct_tflite.planning.gains import measure_gains
from rct_tflite.planning.prospects import FORECAST, GAIN, measure_prospects
from rct_tflite.planning.selection import select
from rct_tflite.planning.tangents import measure_tangents
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.spec.step_options import RATE_ONE, RatePoint, StepOptions
from rct_tflite.spec.training_plan import Loss
from tests.graphs import GraphBuilder, conv_digits, dense_digits
from tests.tflite.one_op import words

COUNT = 20
LABELS = np.arange(COUNT) % 10
RATE = 0.02


def inputs_of(graph, count=COUNT):
    return graph.random_inputs(count, np.random.default_rng(5))


def forecaster_of(graph, plan, wanted, count=COUNT):
    return Forecaster(graph, plan, measure_tangents(graph, plan, inputs_of(graph, count)), wanted[:count])


def real(graph, tensor, values):
    return (values.astype(float) - graph.tensors[tensor].zero_point) * graph.tensors[tensor].scale


def softmax_error(logits, label):
    exps = np.exp(logits - logits.max())
    return exps / exps.sum() - np.eye(len(logits))[label]


ERRORS = {
    Loss.SOFTMAX_CROSS_ENTROPY: softmax_error,
    Loss.SIGMOID_CROSS_ENTROPY: lambda y, t: (1 / (1 + np.exp(-y)) - (t + 128) / 255) / y.size,
    Loss.MEAN_SQUARED_ERROR: lambda y, t: 2 * (y - t) / y.size,
    Loss.HUBER: lambda y, t: np.clip(y - t, -1, 1) / y.size,
}
"""The gradients of the losses to the outputs."""


@pytest.mark.parametrize("loss", ERRORS)
@pytest.mark.parametrize("build", [dense_digits, conv_digits, words])
def test_slopes_times_errors_are_gradients(build, loss):
    """With what the trainer's own backward pass finds from the error of the loss."""
    graph = build()
    plan = select(graph, "all", RATE, loss)
    outputs = graph.tensors[graph.output].size
    inputs = inputs_of(graph, 1)
    wanted = np.array([1]) if loss.takes_class else np.random.default_rng(3).integers(-128, 128, (1, outputs))
    tangents, gains = measure_tangents(graph, plan, inputs), measure_gains(graph, plan, inputs, wanted)
    given = wanted[0]
    if loss in (Loss.MEAN_SQUARED_ERROR, Loss.HUBER):
        given = real(graph, graph.output, wanted[0])
    error = ERRORS[loss](tangents.outputs[0], given)
    for name, slopes in tangents.slopes.items():
        gradient = np.tensordot(error, slopes, (0, 0))
        largest = max(gains[name].weights.max(), 1e-12)
        np.testing.assert_allclose(
            RATE * (gradient[:, :-1] ** 2).sum(axis=1), gains[name].weights, 0.15, 0.03 * largest
        )
        assert RATE * (gradient[:, -1] ** 2).sum() == pytest.approx(gains[name].biases, rel=0.1)


WEIGHTS = tuple(range(128, 128 + 10 * 64, 64))
OPTIONS = {
    "plain": StepOptions(),
    "class weights": StepOptions(class_weights=WEIGHTS),
    "clipped": StepOptions(clip_norm=0.3),
    "schedule": StepOptions(schedule=(RatePoint(0, RATE_ONE // 4), RatePoint(31, 2 * RATE_ONE))),
    "all": StepOptions(class_weights=WEIGHTS, clip_norm=0.3, schedule=(RatePoint(50, RATE_ONE // 2),)),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_of_one_layer_the_forecast_is_what_float_training_comes_to(options):
    """A dense layer is linear in its weights: nothing is approximated but the integers' rounding."""
    graph = dense_digits()
    plan = dataclasses.replace(select(graph, "last:1", RATE), options=options)
    forecast = forecaster_of(graph, plan, LABELS).forecast(plan)
    values, last = ReferenceNetwork(graph).values(inputs_of(graph)), graph.ops[-1]
    hidden = np.column_stack([real(graph, last.inputs[0], values[last.inputs[0]]), np.ones(COUNT)])
    start = real(graph, last.output, values[last.output])
    order = np.random.default_rng(0).permutation(COUNT)
    fold = np.empty(COUNT, int)
    fold[np.argsort(LABELS, kind="stable")] = np.arange(COUNT) % FOLDS
    learnt = losses_after(hidden, start, order, options)
    held_out = np.empty(COUNT)
    for number in range(FOLDS):
        without = losses_after(hidden, start, order, options, fold != number)
        held_out[fold == number] = without[fold == number]
    assert forecast.learnt == pytest.approx(learnt.mean(), rel=0.02)
    assert forecast.held_out == pytest.approx(held_out.mean(), rel=0.02)
    assert forecast.score == pytest.approx(
        ((forecast.learnt + SETTLED) * (forecast.held_out + SETTLED)) ** 0.5, rel=1e-3
    )
    assert forecast.learnt < forecast.held_out


def losses_after(hidden, start, order, options, learns=None):
    """Cross-entropy of each sample after gradient descent in the given order, on those that are learnt from."""
    moved = np.zeros((10, hidden.shape[1]))
    for step, index in enumerate(list(order) * EPOCHS):
        error = softmax_error(start[index] + moved @ hidden[index], LABELS[index])
        if (learns is not None and not learns[index]) or np.abs(error).max() < SETTLED:
            continue
        if options.class_weights:
            error *= options.class_weights[LABELS[index]] / 256
        if options.clip_norm is not None:
            error *= min(1, options.clip_norm / np.linalg.norm(error))
        factor = ([1.0] + [point.rate / RATE_ONE for point in options.schedule or () if point.step <= step])[-1]
        moved -= RATE * factor * np.outer(error, hidden[index])
    logits = start + hidden @ moved.T
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(COUNT), LABELS]


def test_sums_and_momentum_count_as_other_rates():
    graph = conv_digits()
    plain, summed, moving = (
        dataclasses.replace(select(graph, "all", rate), options=options)
        for rate, options in (
            (0.01, StepOptions()),
            (0.04, StepOptions(accumulate=4)),
            (0.005, StepOptions(momentum=128)),
        )
    )
    forecasts = {forecaster_of(graph, plain, LABELS).forecast(plain)}
    for plan in (summed, moving):
        tangents = measure_tangents(graph, plain, inputs_of(graph))
        forecasts.add(Forecaster(graph, plan, tangents, LABELS).forecast(plan))
    assert len(forecasts) == 1


def test_outputs_are_weighed_where_each_has_a_target():
    graph = GraphBuilder((8,)).dense(3).graph()
    plan = select(graph, "all", 0.05, Loss.MEAN_SQUARED_ERROR)
    targets = np.random.default_rng(2).integers(-100, 100, (COUNT, 3))
    still = dataclasses.replace(plan, options=StepOptions(class_weights=(1, 1, 1)))
    tangents = measure_tangents(graph, plan, inputs_of(graph))
    plain, little = (Forecaster(graph, p, tangents, targets).forecast(p).learnt for p in (plan, still))
    assert plain < 0.9 * little


def test_what_does_not_learn_changes_nothing():
    graph = conv_digits(per_channel=True)
    plan = select(graph, "all", RATE)
    forecaster = forecaster_of(graph, plan, LABELS)
    still = forecaster.forecast(
        dataclasses.replace(plan, trained=plan.trained[-1:], partial=select(graph, "layer5:bias").partial)
    )
    outputs = real(graph, graph.output, ReferenceNetwork(graph).values(inputs_of(graph))[graph.output])
    before = np.mean(
        [-np.log(softmax_error(row, label)[label] + 1) for row, label in zip(outputs, LABELS, strict=True)]
    )
    assert still.learnt < before
    assert forecaster.forecast(plan).learnt < still.learnt
    rows = forecaster.forecast(select(graph, "layer0:4,layer2,layer5"))
    assert forecaster.forecast(plan).learnt < rows.learnt < still.learnt


@pytest.mark.parametrize("loss", [loss for loss in Loss if not loss.takes_class])
def test_losses_with_targets_fall(loss):
    graph = GraphBuilder((8,)).dense(12).dense(3).graph()
    plan = select(graph, "all", 0.05, loss)
    targets = np.random.default_rng(2).integers(-100, 100, (COUNT, 3))
    forecaster = forecaster_of(graph, plan, targets)
    nothing = forecaster.forecast(dataclasses.replace(plan, trained=("layer1",), partial=()))
    assert forecaster.forecast(plan).learnt < nothing.learnt


def test_a_rate_at_which_it_would_diverge_is_no_reason_to_fail():
    graph = GraphBuilder((8,)).dense(3).graph()
    plan = select(graph, "all", 1.0, Loss.MEAN_SQUARED_ERROR)
    wild = dataclasses.replace(plan, learning_rate=1e6)
    tangents = measure_tangents(graph, plan, inputs_of(graph))
    forecast = Forecaster(graph, wild, tangents, np.full((COUNT, 3), 90)).forecast(wild)
    assert forecast.learnt == forecast.held_out == 1e9


def test_one_sample_is_held_out_from_nothing():
    graph = dense_digits()
    plan = select(graph, "all", RATE)
    forecast = forecaster_of(graph, plan, LABELS, count=1).forecast(plan)
    assert forecast.learnt < forecast.held_out


def test_progress_is_told_and_many_samples_are_thinned(monkeypatch):
    graph, told = dense_digits(), []
    monkeypatch.setattr(tangents_module, "MOST_OUTPUTS", 80)
    tangents = measure_tangents(
        graph, select(graph, "all"), inputs_of(graph, 40), lambda done, of: told.append((done, of))
    )
    assert told == [(number, 8) for number in range(1, 9)]
    assert tangents.chosen.tolist() == [0, 6, 11, 17, 22, 28, 33, 39]
    assert tangents.outputs.shape == (8, 10)


@pytest.mark.parametrize("limit", ["MOST_OUTPUTS", "MOST_BYTES"])
def test_a_network_that_is_too_large_is_searched_by_gain(monkeypatch, limit):
    graph = dense_digits()
    plan = select(graph, "all")
    assert measure_prospects(graph, plan, inputs_of(graph), LABELS).criterion == FORECAST
    monkeypatch.setattr(tangents_module, limit, 60)
    prospects = measure_prospects(graph, plan, inputs_of(graph), LABELS)
    assert prospects.criterion == GAIN
    assert prospects.forecast(plan) is None


def test_what_is_kept_for_other_sets_is_bounded(monkeypatch):
    graph = conv_digits()
    plan = select(graph, "all", RATE)
    forecaster = forecaster_of(graph, plan, LABELS)
    sets = [plan, select(graph, "last:1", RATE), select(graph, "layer0:4,layer2,layer5", RATE), plan]
    forecasts = [forecaster.forecast(one) for one in sets]
    most = 2 * 4 * (COUNT * 10) ** 2
    monkeypatch.setattr(forecast_module, "MOST_BYTES", most)
    bounded = forecaster_of(graph, plan, LABELS)
    assert [bounded.forecast(one) for one in sets] == forecasts
    assert sum(part.nbytes for part in bounded._parts.values()) == most
