"""A trained network and its `.tflite` hold the same numbers."""

import dataclasses

import numpy as np
import pytest

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.export import converter
from rct_tflite.export.tflite_export import check_equal, export_tflite
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.spec.graph import LayerTraining, TrainingMetadata
from rct_tflite.spec.quantization import AffineQuantization
from rct_tflite.tflite.flatfile import buffer_spans
from rct_tflite.tflite.oracle import layer_outputs, run_micro
from rct_tflite.tflite.reader import read_graph
from rct_tflite.tflite.writer import write_exact
from tests.tflite.networks import NETWORKS, TRAINING, Stack, exported, network_of, random_inputs

EVERY_NETWORK = pytest.mark.parametrize("case", NETWORKS)


@EVERY_NETWORK
def test_file_holds_the_trained_numbers(case):
    network, graph = network_of(case), read_graph(exported(case))
    source = network.input
    assert [(op.name, op.kind, op.options) for op in graph.ops] == [
        (layer.name, layer.kind, layer.options) for layer in network.layers
    ]
    for op, layer in zip(graph.ops, network.layers, strict=True):
        output = graph.tensors[op.output]
        assert (output.shape, output.scale, output.zero_point) == (
            (1, *layer.output_shape),
            layer.output.scale,
            layer.output.zero_point,
        )
        if layer.weights is not None:
            weights, bias = (graph.tensors[index] for index in op.inputs[1:])
            acc_scales = source.scale * layer.weights.scales
            np.testing.assert_array_equal(weights.data, layer.weights.integers)
            np.testing.assert_array_equal(weights.quantization.scales, layer.weights.scales)
            np.testing.assert_array_equal(bias.quantization.scales, acc_scales)
            np.testing.assert_array_equal(bias.data, np.rint(layer.weights.bias / acc_scales))
            assert (weights.dtype, bias.dtype) == (np.int8, np.int32)
            assert graph.bits_of(op) == layer.weights.bits
        source = layer.output


@EVERY_NETWORK
def test_every_layer_equals_the_reference(case):
    inputs = random_inputs(network_of(case), 40)
    outputs = layer_outputs(exported(case), inputs)
    expected = ReferenceNetwork(read_graph(exported(case))).layer_outputs(inputs)
    for output, values in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output.values[:, 0], values, err_msg=output.op.name)
    np.testing.assert_array_equal(run_micro(exported(case), inputs), outputs[-1].values[:, 0])
    assert len(np.unique(outputs[0].values)) > 1


def test_constants_are_aligned_and_not_shared():
    spans = [span for span in buffer_spans(exported("merged")) if span is not None]
    assert len(spans) == 11  # weights and bias of 4 layers, the reshape's shape, two entries of metadata
    assert [span.offset % 16 for span in spans] == [0] * len(spans)


def test_export_is_reproducible_and_silent(capfd):
    again = export_tflite(network_of("strides"), TRAINING)
    assert again == exported("strides")
    assert capfd.readouterr() == ("", "")


def test_metadata_is_completed_from_the_network():
    network, graph = network_of("5 bits"), read_graph(exported("5 bits"))
    layers = tuple(LayerTraining(layer.name, 5) for layer in network.layers if layer.weights is not None)
    assert graph.training == dataclasses.replace(TRAINING, layers=layers)
    frozen = (dataclasses.replace(layers[0], trainable=False), *layers[1:])
    written = write_exact(exported("5 bits"), network, dataclasses.replace(TRAINING, layers=frozen))
    assert read_graph(written).training.layers == frozen


def test_metadata_of_another_network_is_refused():
    with pytest.raises(ModelFileError, match="not of this network"):
        write_exact(exported(), network_of("per channel"), TrainingMetadata(layers=(LayerTraining("conv_2d_0", 3),)))


def changed_layer(network, index, **fields):
    layers = list(network.layers)
    layers[index] = dataclasses.replace(layers[index], **fields)
    return dataclasses.replace(network, layers=tuple(layers))


def changed_weights(network, index, **fields):
    return changed_layer(network, index, weights=dataclasses.replace(network.layers[index].weights, **fields))


def test_other_integers_are_refused():
    network = network_of("per channel")
    integers = network.layers[2].weights.integers.copy()
    integers.ravel()[[3, 17]] ^= 1
    with pytest.raises(ModelFileError, match=r"'conv_2d_2'.*2 of 96 differ"):
        write_exact(exported(), changed_weights(network, 2, integers=integers), TRAINING)


def test_other_ops_are_refused():
    network = network_of("per channel")
    with pytest.raises(ModelFileError, match="other ops"):
        write_exact(exported(), dataclasses.replace(network, layers=network.layers[:-1]), TRAINING)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda n: changed_weights(n, 0, bias=n.layers[0].weights.bias + 1.0), "conv_2d_0: bias integers"),
        (lambda n: changed_weights(n, 5, scales=n.layers[5].weights.scales * 2), "fully_connected_5: bias integers"),
        (lambda n: changed_layer(n, 6, output=AffineQuantization(0.5, 12)), "fully_connected_6: quantisation"),
        (lambda n: changed_layer(n, 4, name="flat"), "flat: op 'reshape_4'"),
        (lambda n: dataclasses.replace(n, input_shape=(9, 10, 2)), "shape"),
    ],
)
def test_any_difference_is_seen(change, difference):
    network = network_of("per channel")
    with pytest.raises(ModelFileError, match=difference):
        check_equal(read_graph(exported()), change(network))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scales": np.array([0.1])}, "12 significant bits"),
        ({"bias": np.full(3, 1e9)}, "does not fit int32"),
        ({"bits": 4}, "out of range"),
        ({"scales": np.array([0.5, 0.5])}, "one per output channel"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(QuantizationError, match=message):
        write_exact(exported(), changed_weights(network_of("per channel"), 6, **fields), TRAINING)


def test_refusal_of_the_converter_is_explained():
    stack = Stack(0, (4,)).dense(3)
    weights = dataclasses.replace(stack.layers[0].weights, integers=np.zeros((3, 5), np.int8))
    broken = changed_layer(stack.network("broken"), 0, weights=weights)
    with pytest.raises(ModelFileError, match="refused the network 'broken'"):
        converter.convert(broken)
