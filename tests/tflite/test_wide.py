"""Weights of more than 8 bits survive the file; damaged ones are refused."""

import numpy as np
import pytest

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.tflite.flatfile import load_model, pack_model
from rct_tflite.tflite.patch import replace_weights
from rct_tflite.tflite.reader import read_graph
from rct_tflite.tflite.rescale import widen_weights
from rct_tflite.tflite.wide import WIDE_NAME, WideLayer, decode_wide, encode_wide
from tests.tflite.one_op import ModelBuilder, OpKind, Quantised

SEEN = np.array([[-127, -1, 0], [1, 126, 127]], np.int8)
WIDE = np.array([[-2047, -24, 7], [8, 2023, 2047]], np.int16)
LAYERS = [WideLayer("dense", 12, SEEN)]


def dense_file(lowest=-127, bias=5):
    """One dense layer of a file of others."""
    builder = ModelBuilder()
    weights = np.linspace(lowest, 127, 12).astype(np.int8).reshape(3, 4)
    inputs = [builder.tensor(Quantised((1, 4), 0.1)), Quantised.constant(weights, 0.01)]
    inputs.append(Quantised.constant(np.full(3, bias, np.int32), 0.001))
    return builder.model(
        0, builder.op(OpKind.FULLY_CONNECTED, inputs, Quantised((1, 3), 0.2), fusedActivationFunction=0)
    )


def changed(model, change):
    """A file whose wide weights are others: None takes them out."""
    tree = load_model(model)
    (entry,) = (entry for entry in tree.metadata if entry.name == WIDE_NAME.encode())
    content = change(bytes(tree.buffers[entry.buffer].data))
    if content is None:
        tree.metadata.remove(entry)
    else:
        tree.buffers[entry.buffer].data = np.frombuffer(content, np.uint8)
    return pack_model(tree)


def test_round_trip():
    (name, values), *others = decode_wide(encode_wide([WIDE]), LAYERS).items()
    assert (name, others) == ("dense", [])
    np.testing.assert_array_equal(values, WIDE)
    assert decode_wide(None, []) == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "Expected 12 bytes for ['dense']. Received: none"),
        (encode_wide([WIDE])[:-2], "Received: 10 bytes"),
        (encode_wide([WIDE]) + b"\0\0", "Received: 14 bytes"),
        (encode_wide([WIDE])[:-1] + b"\x06", "do not match their checksum"),
        (b"\x01", "Received: 0 bytes"),
        (encode_wide([np.where(WIDE == 2047, 2048, WIDE)]), "at most 12 bits. Received: -2047 to 2048"),
        (encode_wide([np.where(WIDE == 8, 7, WIDE)]), "rounded to 8 bits. Received: 1 of 6 others"),
    ],
)
def test_damaged_weights_are_refused(data, message):
    with pytest.raises(ModelFileError) as error:
        decode_wide(data, LAYERS)
    assert message in str(error.value)
    assert "Export the model again" in str(error.value)


def test_a_damaged_file_is_refused():
    model = widen_weights(dense_file(), {"t3": 10})
    assert read_graph(model).full_rows(read_graph(model).ops[0])[0, 0] == -127 * 4
    for change in (lambda content: content[:-1] + b"\x55", lambda content: None, lambda content: content[:9]):
        with pytest.raises(ModelFileError, match=WIDE_NAME):
            read_graph(changed(model, change))


def test_what_cannot_be_widened_is_refused():
    with pytest.raises(QuantizationError, match=r"'t3' cannot get 9 bits.*Received: -128"):
        widen_weights(dense_file(lowest=-128), {"t3": 9})
    narrow = widen_weights(dense_file(bias=2**30), {"t3": 9})
    assert read_graph(narrow).tensors[2].data[0] == 2**30  # its eight bits are what they were


def test_rounded_weights_are_not_replaced_alone():
    model = widen_weights(dense_file(), {"t3": 10})
    graph = read_graph(model)
    weights, bias = (graph.tensors[index].data for index in graph.ops[0].inputs[1:])
    assert replace_weights(model, {"t3": (weights, bias)}) == model
    with pytest.raises(QuantizationError, match="has 10 bits"):
        replace_weights(model, {"t3": (np.zeros_like(weights), bias)})
