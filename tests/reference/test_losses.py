"""The errors that losses start with, against their slopes in real numbers; and that they fall."""

import numpy as np
import pytest

from rct_tflite.errors import DataError
from rct_tflite.reference.gradients import loss_error
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation
from rct_tflite.spec.quantization import AffineQuantization, Rounding
from rct_tflite.spec.training_plan import Loss, TrainingPlan
from tests.graphs import GraphBuilder

VALUES = np.arange(-120, 120, 8)


def slope(loss, y, t):
    """Of the mean over the outputs, at real outputs and targets; targets of sigmoid are probabilities."""
    difference = {
        Loss.SIGMOID_CROSS_ENTROPY: 1 / (1 + np.exp(-y)) - t,
        Loss.MEAN_SQUARED_ERROR: 2 * (y - t),
        Loss.MEAN_ABSOLUTE_ERROR: np.sign(y - t),
        Loss.HUBER: np.clip(y - t, -1, 1),
    }[loss]
    return difference / y.size


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("loss", [loss for loss in Loss if not loss.takes_class])
def test_error_is_the_slope_of_the_loss(loss, scale):
    graph = GraphBuilder((VALUES.size,), 0, AffineQuantization(scale, 5)).reshape(VALUES.size).graph()
    assert loss_tensor(graph, loss) == graph.output
    c, random = loss_constants(graph, loss), np.random.default_rng(1)
    for reach in (3, 40, 240):
        target = np.clip(VALUES + random.integers(-reach, reach + 1, VALUES.size), -128, 127)
        error = loss_error(loss, VALUES, target, c)
        real = (target + 128) / 255 if loss is Loss.SIGMOID_CROSS_ENTROPY else (target - 5) * scale
        expected = slope(loss, (VALUES - 5) * scale, real)
        unit = 2.0**-error.exponent * c.scale
        assert 64 <= np.abs(error.values).max() <= 127
        tolerance = 0.51 if loss is not Loss.HUBER else 0.51 + 64 * scale  # delta is a whole number of steps
        assert np.abs(error.values * unit - expected).max() <= (tolerance + 1) * unit


@pytest.mark.parametrize("loss", [Loss.MEAN_SQUARED_ERROR, Loss.MEAN_ABSOLUTE_ERROR, Loss.HUBER])
def test_where_output_and_target_agree_nothing_is_learnt(loss):
    graph = GraphBuilder((VALUES.size,)).reshape(VALUES.size).graph()
    assert loss_error(loss, VALUES, VALUES, loss_constants(graph, loss)) is None


@pytest.mark.parametrize("loss", [loss for loss in Loss if not loss.takes_class])
def test_the_difference_falls(loss):
    graph = GraphBuilder((6,), 3, headroom=(2.0, 3.0)).dense(16).dense(4, Activation.NONE).graph()
    trainer = ReferenceTrainer(graph, TrainingPlan(("layer0", "layer1"), 0.05, Rounding.STOCHASTIC, loss))
    random = np.random.default_rng(4)
    samples = random.integers(-128, 128, (8, 6), np.int8)
    targets = random.integers(-60, 60, (8, 4), np.int8)
    if loss is Loss.SIGMOID_CROSS_ENTROPY:
        targets = np.where(targets > 0, 127, -128).astype(np.int8)

    def distance():
        outputs = trainer.network.run(samples).astype(int)
        if loss is Loss.SIGMOID_CROSS_ENTROPY:
            return float((np.sign(outputs - graph.tensors[graph.output].zero_point) != np.sign(targets)).mean())
        return float(np.abs(outputs - targets).mean())

    before = distance()
    for _ in range(150):
        for sample, target in zip(samples, targets, strict=True):
            trainer.step(sample, target)
    assert distance() < 0.5 * before


def test_targets_of_another_kind_are_refused():
    graph = GraphBuilder((6,)).dense(4).graph()
    trainer = ReferenceTrainer(graph, TrainingPlan(("layer0",), 0.1, Rounding.STOCHASTIC, Loss.HUBER))
    for bad in (1, np.zeros(3, np.int8), np.zeros(4)):
        with pytest.raises(DataError, match="Expected 4 int8 values"):
            trainer.step(np.zeros(6, np.int8), bad)
