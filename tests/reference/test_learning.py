"""The integers learn: scikit-learn's digits, from random weights, at batch 1."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rct_tflite.planning.options import read_schedule
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.step_options import StepOptions
from rct_tflite.spec.training_plan import TrainingPlan
from tests.graphs import conv_digits, dense_digits

TRAIN = 1200


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return np.rint(images[order] / 16 * 255 - 128).astype(np.int8), labels[order]


@pytest.mark.parametrize(
    ("graph", "learning_rate", "rounding", "expected"),
    [
        (dense_digits(), 0.05, Rounding.STOCHASTIC, 0.85),
        (dense_digits(bits=6), 0.1, Rounding.STOCHASTIC, 0.8),
        (dense_digits(), 0.1, Rounding.TRUNCATE, 0.85),
        (conv_digits(), 0.02, Rounding.STOCHASTIC, 0.8),
        (conv_digits(per_channel=True), 0.02, Rounding.STOCHASTIC, 0.7),
    ],
)
def test_accuracy_rises(digits, graph, learning_rate, rounding, expected):
    shape = graph.tensors[graph.input].shape[1:]
    images, labels = digits[0].reshape(-1, *shape), digits[1]
    trained = tuple(op.name for op in graph.ops if op.has_weights)
    trainer = ReferenceTrainer(graph, TrainingPlan(trained, learning_rate, rounding))

    def accuracy():
        return (trainer.network.run(images[TRAIN:]).argmax(axis=-1) == labels[TRAIN:]).mean()

    assert accuracy() < 0.3
    for image, label in zip(images[:TRAIN], labels[:TRAIN], strict=True):
        trainer.step(image, int(label))
    assert accuracy() > expected


@pytest.mark.parametrize(
    ("options", "learning_rate", "expected"),
    [
        (StepOptions(momentum=230), 0.01, 0.8),
        (StepOptions(accumulate=4, momentum=192, schedule=read_schedule("cosine:1200")), 0.08, 0.8),
    ],
)
def test_held_gradients_learn(digits, options, learning_rate, expected):
    graph, (images, labels) = dense_digits(), digits
    plan = TrainingPlan(("layer0", "layer1"), learning_rate, Rounding.STOCHASTIC, options=options)
    trainer = ReferenceTrainer(graph, plan)
    for image, label in zip(images[:TRAIN], labels[:TRAIN], strict=True):
        trainer.step(image, int(label))
    assert (trainer.network.run(images[TRAIN:]).argmax(axis=-1) == labels[TRAIN:]).mean() > expected


def test_what_is_frozen_stays(digits):
    graph = conv_digits(bits=5)
    before = ReferenceTrainer(graph, TrainingPlan((), 0.1, Rounding.STOCHASTIC)).network
    trainer = ReferenceTrainer(graph, TrainingPlan(("layer0", "layer5"), 0.1, Rounding.STOCHASTIC))
    for image, label in zip(digits[0][:20].reshape(-1, 8, 8, 1), digits[1][:20], strict=True):
        trainer.step(image, int(label))
    changed = {name for name in before.weights if np.any(before.weights[name] != trainer.network.weights[name])}
    assert changed == {"layer0", "layer5"}


def test_nothing_trained_is_inference(digits):
    graph = dense_digits()
    trainer = ReferenceTrainer(graph, TrainingPlan((), 0.1, Rounding.STOCHASTIC))
    right = [trainer.step(image, int(label)) for image, label in zip(digits[0][:50], digits[1][:50], strict=True)]
    assert right == (trainer.network.run(digits[0][:50]).argmax(axis=-1) == digits[1][:50]).tolist()
    assert trainer.parameter_block() == b""


def test_a_settled_sample_costs_nothing(digits):
    """A network that is sure and right stops learning from a sample, a network that is not goes on."""
    graph = dense_digits()
    trainer = ReferenceTrainer(graph, TrainingPlan(("layer0", "layer1"), 0.2, Rounding.STOCHASTIC))
    image, label = digits[0][0], int(digits[1][0])
    steps = 0
    for _ in range(500):
        before = trainer.parameter_block()
        trainer.step(image, label)
        if trainer.parameter_block() == before:
            break
        steps += 1
    assert 5 < steps < 400
    assert trainer.step(image, label)
