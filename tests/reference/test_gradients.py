"""Integer gradients against the float network's, which is checked by finite differences first."""

import numpy as np
import pytest

from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import Activation, Padding
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.training_plan import TrainingPlan
from tests.float_network import FloatNetwork, real
from tests.graphs import GraphBuilder

RATE = 0.05
NONE, RELU, RELU6 = Activation.NONE, Activation.RELU, Activation.RELU6
SAME, VALID = Padding.SAME, Padding.VALID


class RecordingTrainer(ReferenceTrainer):
    """Keeps the gradients that the update would take, as real numbers, instead of learning."""

    def __init__(self, graph, plan):
        super().__init__(graph, plan)
        self.seen = {}

    def learn(self, op, value, error):
        c = self.constants[op.name]
        scales = [self.network.graph.tensors[i].quantization.scales.astype(float) for i in op.inputs[1:]]
        gradients = self.weight_gradients(op, value, error)
        exponents = error.exponent - self.gradient_bits(op), error.exponent
        self.seen[op.name] = [
            (g.T * step.mantissa * 2.0 ** -(step.shift + exponent) * scale / self.plan.learning_rate).T
            for g, step, scale, exponent in zip(
                gradients, (c.weight_step, c.bias_step), scales, exponents, strict=False
            )
        ]


def nets():
    image, wide = (6, 7, 3), (7, 8, 2)
    return {
        "dense": GraphBuilder((20,), 1).dense(16).dense(12, RELU6).dense(5, NONE),
        "dense per channel": GraphBuilder((20,), 2).dense(16, per_channel=True).dense(5, NONE, per_channel=True),
        "conv same": GraphBuilder(image, 3).conv(6).conv(8, activation=NONE).reshape(336).dense(4, NONE),
        "conv valid": GraphBuilder(image, 4).conv(6, padding=VALID).conv(8, padding=VALID).reshape(48).dense(4, NONE),
        "conv stride 2": GraphBuilder(wide, 5).conv(6).conv(8, stride=2).reshape(128).dense(4, NONE),
        "conv stride 2 valid": GraphBuilder(wide, 6)
        .conv(6, padding=VALID, activation=RELU6)
        .conv(8, (3, 2), (2, 1), VALID)
        .reshape(80)
        .dense(4, NONE),
        "conv per channel": GraphBuilder(image, 7).conv(6).conv(8, per_channel=True).reshape(336).dense(4, NONE),
        "1x1": GraphBuilder(image, 8).conv(6).conv(8, (1, 1), per_channel=True).reshape(336).dense(4, NONE),
        "max pool": GraphBuilder((8, 8, 2), 9).conv(6).max_pool().conv(8).max_pool().reshape(32).dense(4, NONE),
        "overlapping max pool": GraphBuilder((8, 8, 2), 10)
        .conv(6)
        .max_pool(3, 2, SAME)
        .conv(8)
        .reshape(128)
        .dense(4, NONE),
        "average pool": GraphBuilder((8, 8, 2), 11)
        .conv(6)
        .average_pool()
        .conv(8)
        .average_pool(4)
        .reshape(8)
        .dense(4, NONE),
        "4 bits": GraphBuilder((8, 8, 2), 12)
        .conv(6, bits=4)
        .max_pool()
        .conv(8, bits=3)
        .reshape(128)
        .dense(4, NONE, bits=5),
        "frozen middle": GraphBuilder((20,), 13).dense(16).dense(12, per_channel=True).dense(5, NONE),
    }


NETS = {name: builder.graph() for name, builder in nets().items()}


def cosine(a, b):
    return float(a.ravel() @ b.ravel() / (np.linalg.norm(a) * np.linalg.norm(b)))


def quantise(graph, sample):
    tensor = graph.tensors[graph.input]
    return np.clip(np.rint(sample / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)


@pytest.mark.parametrize("name", NETS)
def test_float_gradients_are_the_slope_of_the_loss(name):
    network = FloatNetwork(NETS[name])
    sample = np.random.default_rng(0).uniform(0, 1, NETS[name].tensors[0].shape[1:])

    def loss():
        logits = network.forward(sample)[-1].reshape(-1)
        return np.log(np.exp(logits - logits[1]).sum())

    gradients = network.backward(network.forward(sample), 1)
    random, eps = np.random.default_rng(1), 1e-6
    for layer, (gradient, _) in gradients.items():
        direction = random.normal(size=gradient.shape)
        network.weights[layer] += eps * direction
        above = loss()
        network.weights[layer] -= 2 * eps * direction
        below = loss()
        network.weights[layer] += eps * direction
        slope = (above - below) / (2 * eps)
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-3, abs=1e-5), layer


@pytest.mark.parametrize("name", NETS)
def test_integer_gradients_point_along_the_float_ones(name):
    """In direction and in length, so that scales and exponents are right too."""
    graph = NETS[name]
    trained = [op.name for op in graph.ops if op.has_weights]
    if name == "frozen middle":
        trained.remove("layer1")
    trainer = RecordingTrainer(graph, TrainingPlan(tuple(trained), RATE, Rounding.STOCHASTIC))
    random, reference = np.random.default_rng(2), FloatNetwork(graph)
    for step in range(6):
        sample = quantise(graph, random.uniform(0, 1, graph.tensors[0].shape[1:]))
        outputs = trainer.network.layer_outputs(sample[None])
        tensors = [graph.tensors[0], *(graph.tensors[op.output] for op in graph.ops)]
        values = [real(t, v) for t, v in zip(tensors, [sample, *(o[0] for o in outputs)], strict=True)]
        label = int(random.integers(values[-1].size))
        trainer.gains.clear()  # an error larger than any before would saturate once
        trainer.step(sample, label)
        expected = reference.backward(values, label)
        assert list(trainer.seen) == trained[::-1]
        for layer, seen in trainer.seen.items():
            for got, wanted in zip(seen, expected[layer], strict=True):
                assert cosine(got, wanted) > 0.98, (step, layer)
                assert 0.85 < np.linalg.norm(got) / np.linalg.norm(wanted) < 1.1, (step, layer)
