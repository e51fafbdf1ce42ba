"""How far integer weight gradients point along TensorFlow's of the fake-quantised network at the same weights."""

import dataclasses

import numpy as np

from rct_tflite.planning.selection import select
from rct_tflite.spec.graph import OpKind
from rct_tflite.spec.training_plan import ERROR_BITS, Loss
from tests.autodiff import float_gradients
from tests.reference.test_gradients import RecordingTrainer, cosine, quantise

WARM_UP, SAMPLES = 8, 12


def lessons(graph, loss, count, normal):
    """Random samples with labels, or with targets somewhere around what the network says."""
    random, shape = np.random.default_rng(1), graph.tensors[graph.input].shape[1:]
    outputs = graph.tensors[graph.output].size
    for _ in range(count):
        if graph.takes_ids:
            sample = graph.random_inputs(1, random)[0]
        else:
            sample = quantise(graph, random.normal(size=shape) if normal else random.uniform(size=shape))
        label = int(random.integers(outputs)) if loss.takes_class else random.integers(-128, 128, outputs, np.int8)
        yield sample, label


def gradient_cosines(graph, loss=Loss.SOFTMAX_CROSS_ENTROPY, normal=False, counts=(WARM_UP, SAMPLES)):
    """Cosine similarity of the weight gradient of every layer, sample by sample.

    Gains run from sample to sample, as in training; the weights stay.

    Args:
        graph: The network.
        loss: Softmax cross-entropy or mean squared error.
        normal: Whether inputs are normal (as Keras models are calibrated) or uniform over 0 to 1.
        counts: Samples that only move the gains, and samples that count.

    Returns:
        By the bit-width of errors and the name of the layer, deepest last: a cosine for each sample with a gradient.
    """
    plan = dataclasses.replace(select(graph, "all", 0.05, str(loss)))
    trainers = {bits: RecordingTrainer(graph, dataclasses.replace(plan, error_bits=bits)) for bits in ERROR_BITS}
    network = trainers[8].network
    found = {bits: {op.name: [] for op in reversed(graph.ops) if op.has_weights} for bits in ERROR_BITS}
    for number, (sample, label) in enumerate(lessons(graph, loss, sum(counts), normal)):
        for trainer in trainers.values():
            trainer.seen.clear()
            trainer.step(sample, label)
        if number < counts[0] or not trainers[8].seen:
            continue
        expected = float_gradients(graph, network, network.values(sample[None]), label, loss)
        for op in graph.ops:
            if not op.has_weights:
                continue
            weights = expected[op.name][0]
            wanted = np.moveaxis(weights, -1, 0) if op.kind is OpKind.DEPTHWISE_CONV_2D else weights.numpy()
            for bits, trainer in trainers.items():
                got = trainer.seen[op.name][0]
                if np.any(wanted) and np.any(got):
                    found[bits][op.name].append(cosine(got, wanted))
    return found
