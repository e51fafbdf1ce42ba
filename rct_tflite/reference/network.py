"""Runs a graph in integers, layer by layer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.reference import kernels
from rct_tflite.reference.constants import ForwardConstants, forward_constants
from rct_tflite.reference.kernels import conv_2d_input
from rct_tflite.spec.graph import (
    PAIR_KINDS,
    TABLE_KINDS,
    ConcatenationOptions,
    Graph,
    Inputs,
    Op,
    OpKind,
    PadOptions,
)
from rct_tflite.spec.quantization import ACTIVATION_MIN, EXPORT_BITS, narrowed

Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.int64]


class ReferenceNetwork:
    """The forward pass of a graph with weights that can change.

    Args:
        graph: The network.

    Attributes:
        weights: Per op with weights, int64 (channels, depth): those of the `.tflite`, or what `hold()` was given.
        bits: Per op with weights, their bit-width.
        biases: Per op with weights, int64 (channels,), (0,) for a table.
        constants: Forward constants of every op.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants: dict[str, ForwardConstants] = {op.name: forward_constants(graph, op) for op in graph.ops}
        self.weights: dict[str, IntArray] = {}
        self.bits: dict[str, int] = {}
        self.biases: dict[str, IntArray] = {}
        for op in graph.ops:
            if op.has_weights:
                self.hold(op, graph.weight_rows(op), min(graph.bits_of(op), EXPORT_BITS))
                self.biases[op.name] = np.zeros(0, np.int64)
                if op.has_bias:
                    bias = graph.tensors[op.inputs[2]].data
                    assert bias is not None
                    self.biases[op.name] = bias.reshape(-1).astype(np.int64)

    def hold(self, op: Op, rows: IntArray, bits: int) -> None:
        """Replaces the weights of an op by others, int64 (channels, depth) of `bits` bits."""
        self.weights[op.name], self.bits[op.name] = rows, bits

    def seen_weights(self, op: Op) -> IntArray:
        """Returns the weights of an op as its kernels see them: of 8 bits at most, int64 (channels, depth)."""
        weights, bits = self.weights[op.name], self.bits[op.name]
        return narrowed(weights, bits) if bits > EXPORT_BITS else weights

    def run(self, inputs: Inputs) -> Int8Array:
        """Returns the output of the last op, int8 (n, ...), for inputs (n, *input shape without batch)."""
        return self.layer_outputs(inputs)[-1]

    def layer_outputs(self, inputs: Inputs) -> list[Int8Array]:
        """Returns the output of every op, int8 (n, ...), for inputs (n, *input shape without batch).

        Raises:
            DataError: As `values()`.
        """
        values = self.values(inputs)
        return [values[op.output] for op in self.graph.ops]

    def values(self, inputs: Inputs) -> dict[int, Int8Array]:
        """Returns every computed tensor, int8 (n, ...), by its number, and the input as it is.

        Args:
            inputs: int8, or int32 ids, (n, *input shape without batch).

        Raises:
            DataError: If the inputs have another shape or dtype, or an id is no row of a table.
        """
        source = self.graph.tensors[self.graph.input]
        if inputs.dtype != source.dtype or inputs.shape[1:] != source.shape[1:]:
            what = "Give the ids as integers" if self.graph.takes_ids else "Quantise them with the input's scale"
            raise DataError(
                f"The network takes {source.dtype} samples of shape {source.shape[1:]}. "
                f"Received: {inputs.dtype} of shape {inputs.shape[1:]}. {what}."
            )
        self.graph.check_ids(inputs)
        values: dict[int, npt.NDArray[Any]] = {self.graph.input: inputs}
        for op in self.graph.ops:
            output = self._run_op(op, [self._operand(values, index) for index in self._operands(op)])
            values[op.output] = output.reshape(len(inputs), *self.graph.tensors[op.output].shape[1:])
        return values

    def _operands(self, op: Op) -> tuple[int, ...]:
        return op.inputs[:1] if op.has_weights else op.inputs

    def _operand(self, values: dict[int, Int8Array], index: int) -> Int8Array:
        data = self.graph.tensors[index].data
        return values[index] if data is None else data.astype(np.int8)[None]

    def _run_op(self, op: Op, operands: list[Int8Array]) -> Int8Array:
        value, c = operands[0], self.constants[op.name]
        if op.kind is OpKind.GATHER:
            return self.seen_weights(op)[value].astype(np.int8)
        if op.has_weights:
            return self._run_weighted(op, value)
        if op.kind in PAIR_KINDS:
            return self._run_pair(op, operands)
        if op.kind in TABLE_KINDS:
            assert c.table is not None
            return c.table[value.astype(np.int64) - ACTIVATION_MIN].astype(np.int8)
        match op.kind:
            case OpKind.CONCATENATION:
                assert isinstance(op.options, ConcatenationOptions)
                return np.concatenate(operands, axis=op.options.axis)
            case OpKind.PAD:
                assert isinstance(op.options, PadOptions)
                return np.pad(value, op.options.cells, constant_values=self.graph.tensors[op.inputs[0]].zero_point)
            case OpKind.MEAN:
                return kernels.mean(self._centred(op, 0, value), self.graph.tensors[op.output].zero_point, c)
            case OpKind.SOFTMAX:
                assert c.table is not None
                return kernels.softmax(value.astype(np.int64), c.table)
            case OpKind.MAX_POOL_2D:
                return kernels.max_pool_2d(self.windows(op, value, fill=-128), c)
            case OpKind.AVERAGE_POOL_2D:
                source = self.graph.tensors[op.inputs[0]]
                inside = self.windows(op, np.ones((1, *source.shape[1:]), np.int8), fill=0)
                counts = inside[0, ..., :1].sum(axis=(2, 3))
                return kernels.average_pool_2d(self.windows(op, value, fill=0), counts, c)
        return value  # RESHAPE

    def _run_weighted(self, op: Op, value: Int8Array) -> Int8Array:
        c, zero_point = self.constants[op.name], self.graph.tensors[op.output].zero_point
        weights, bias = self.seen_weights(op), self.biases[op.name]
        if op.kind is OpKind.DEPTHWISE_CONV_2D:
            return kernels.depthwise(self.windows(op, self._centred(op, 0, value), 0), weights, bias, zero_point, c)
        if op.kind is OpKind.TRANSPOSE_CONV:
            assert c.window is not None
            filters = self.filters(op)
            shape = self.graph.tensors[op.output].shape[1:]
            spread = [
                conv_2d_input(x, filters.transpose(3, 1, 2, 0), c.window, shape) for x in self._centred(op, 0, value)
            ]
            return kernels.transpose_conv(np.stack(spread), bias, zero_point, c)
        return kernels.weighted(self.input_rows(op, value), weights, bias, zero_point, c)

    def _run_pair(self, op: Op, operands: list[Int8Array]) -> Int8Array:
        rank = len(self.graph.tensors[op.output].shape)
        centred = [self._centred(op, i, value) for i, value in enumerate(operands)]
        aligned = [x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in centred]
        one, other = np.broadcast_arrays(*aligned)
        c, zero_point = self.constants[op.name], self.graph.tensors[op.output].zero_point
        if op.kind is OpKind.MUL:
            return kernels.multiply(one, other, zero_point, c)
        return kernels.add(one, other, 1 if op.kind is OpKind.ADD else -1, zero_point, c)

    def _centred(self, op: Op, position: int, value: Inputs) -> IntArray:
        return value.astype(np.int64) - self.graph.tensors[op.inputs[position]].zero_point

    def filters(self, op: Op) -> IntArray:
        """Returns the weights of a convolution, int64 (channels, filter_h, filter_w, depth)."""
        window = self.constants[op.name].window
        assert window is not None
        weights = self.seen_weights(op)
        return weights.reshape(len(weights), window.filter_h, window.filter_w, -1)

    def windows(self, op: Op, value: npt.NDArray[np.signedinteger], fill: int) -> IntArray:
        """Returns the windows of a convolution or pooling, int64 (n, out_h, out_w, filter_h, filter_w, channels)."""
        window = self.constants[op.name].window
        assert window is not None
        _, out_h, out_w, _ = self.graph.tensors[op.output].shape
        return kernels.patches(value.astype(np.int64), window, out_h, out_w, fill)

    def input_rows(self, op: Op, value: Inputs) -> IntArray:
        """Returns what each weight of a row is multiplied with, zero point taken off.

        Args:
            op: FULLY_CONNECTED or CONV_2D.
            value: int8 (n, ...), the op's input.

        Returns:
            int64 (n, depth) for FULLY_CONNECTED, (n, out_h, out_w, depth) for CONV_2D.
        """
        centred = self._centred(op, 0, value)
        if op.kind is OpKind.FULLY_CONNECTED:
            return centred.reshape(value.shape[0], -1)
        cut = self.windows(op, centred, fill=0)
        return cut.reshape(*cut.shape[:3], -1)
