"""Weights that were trained on the device go back into the file."""

import numpy as np
import pytest

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.spec.quantization import top
from rct_tflite.tflite.oracle import run_micro
from rct_tflite.tflite.patch import find_weights, replace_weights
from rct_tflite.tflite.reader import read_graph
from tests.tflite.networks import exported, network_of, random_inputs

CASE, LAYER = "6 bits", "fully_connected_5"


def new_weights(seed=0):
    graph = read_graph(exported(CASE))
    rng = np.random.default_rng(seed)
    weights = {}
    for op in graph.ops:
        if op.has_weights:
            shapes = [graph.tensors[index].shape for index in op.inputs[1:]]
            limit = top(graph.bits_of(op))
            integers = rng.integers(-limit, limit + 1, shapes[0], np.int8)
            weights[op.name] = (integers, rng.integers(-500, 500, shapes[1], np.int32))
    return weights


def test_new_weights_are_read_back():
    weights = new_weights()
    patched = replace_weights(exported(CASE), weights)
    graph = read_graph(patched)
    for op in graph.ops:
        if op.has_weights:
            for index, expected in zip(op.inputs[1:], weights[op.name], strict=True):
                np.testing.assert_array_equal(graph.tensors[index].data, expected)
    inputs = random_inputs(network_of(CASE), 20)
    assert (run_micro(patched, inputs) != run_micro(exported(CASE), inputs)).any()


def test_no_other_byte_changes():
    before = exported(CASE)
    after = replace_weights(before, {LAYER: new_weights()[LAYER]})
    place = next(place for place in find_weights(before) if place.op.name == LAYER)
    inside = np.zeros(len(before), bool)
    for span in (place.weights, place.bias):
        inside[span.offset : span.offset + span.length] = True
    differ = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
    assert len(after) == len(before)
    assert differ[inside].any()
    assert not differ[~inside].any()


def test_the_old_weights_give_the_old_file():
    graph = read_graph(exported(CASE))
    old = {op.name: tuple(graph.tensors[index].data for index in op.inputs[1:]) for op in graph.ops if op.has_weights}
    assert replace_weights(replace_weights(exported(CASE), new_weights()), old) == exported(CASE)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("dense_9", lambda w, b: (w, b), ModelFileError, "no such layers"),
        (LAYER, lambda w, b: (w.T, b), QuantizationError, "do not fit"),
        (LAYER, lambda w, b: (w.astype(np.int16), b), QuantizationError, "Received: int16"),
        (LAYER, lambda w, b: (w, b.astype(np.int64)), QuantizationError, "int64"),
        (LAYER, lambda w, b: (w, b[:-1]), QuantizationError, "do not fit"),
        (LAYER, lambda w, b: (w + np.int8(50), b), QuantizationError, "out of range. Expected -31 to 31"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, error, message):
    with pytest.raises(error, match=message):
        replace_weights(exported(CASE), {name: change(*new_weights()[LAYER])})
