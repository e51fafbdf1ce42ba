"""Runs a graph in integers, layer by layer."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.reference import kernels
from rct_tflite.reference.constants import ForwardConstants, forward_constants
from rct_tflite.spec.graph import Graph, Op, OpKind

Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.int64]


class ReferenceNetwork:
    """The forward pass of a graph with weights that can change.

    Args:
        graph: The network.

    Attributes:
        weights: Per op with weights, int64 (channels, depth).
        biases: Per op with weights, int64 (channels,).
        constants: Forward constants of every op.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants: dict[str, ForwardConstants] = {op.name: forward_constants(graph, op) for op in graph.ops}
        self.weights: dict[str, IntArray] = {}
        self.biases: dict[str, IntArray] = {}
        for op in graph.ops:
            if op.has_weights:
                weights, bias = graph.tensors[op.inputs[1]], graph.tensors[op.inputs[2]]
                assert weights.data is not None
                assert bias.data is not None
                self.weights[op.name] = weights.data.reshape(weights.shape[0], -1).astype(np.int64)
                self.biases[op.name] = bias.data.reshape(-1).astype(np.int64)

    def run(self, inputs: Int8Array) -> Int8Array:
        """Returns the output of the last op, int8 (n, ...), for int8 inputs (n, *input shape without batch)."""
        return self.layer_outputs(inputs)[-1]

    def layer_outputs(self, inputs: Int8Array) -> list[Int8Array]:
        """Returns the output of every op, int8 (n, ...), for int8 inputs (n, *input shape without batch).

        Raises:
            DataError: If the inputs have another shape or dtype.
        """
        expected = self.graph.tensors[self.graph.input].shape[1:]
        if inputs.dtype != np.int8 or inputs.shape[1:] != expected:
            raise DataError(
                f"The network takes int8 samples of shape {expected}. "
                f"Received: {inputs.dtype} of shape {inputs.shape[1:]}. Quantise them with the input's scale."
            )
        outputs: list[Int8Array] = []
        value = inputs
        for op in self.graph.ops:
            value = self._run_op(op, value)
            outputs.append(value)
        return outputs

    def _run_op(self, op: Op, value: Int8Array) -> Int8Array:
        source, result = self.graph.tensors[op.inputs[0]], self.graph.tensors[op.output]
        c = self.constants[op.name]
        shape = (value.shape[0], *result.shape[1:])
        if op.kind is OpKind.RESHAPE:
            return value.reshape(shape)
        if op.kind is OpKind.MAX_POOL_2D:
            return kernels.max_pool_2d(self.windows(op, value, fill=-128), c)
        if op.kind is OpKind.AVERAGE_POOL_2D:
            inside = self.windows(op, np.ones((1, *source.shape[1:]), np.int8), fill=0)
            counts = inside[0, ..., :1].sum(axis=(2, 3))
            return kernels.average_pool_2d(self.windows(op, value, fill=0), counts, c)
        rows = self.input_rows(op, value)
        flat = kernels.weighted(rows, self.weights[op.name], self.biases[op.name], result.zero_point, c)
        return flat.reshape(shape)

    def windows(self, op: Op, value: npt.NDArray[np.signedinteger], fill: int) -> IntArray:
        """Returns the windows of a convolution or pooling, int64 (n, out_h, out_w, filter_h, filter_w, channels)."""
        window = self.constants[op.name].window
        assert window is not None
        _, out_h, out_w, _ = self.graph.tensors[op.output].shape
        return kernels.patches(value.astype(np.int64), window, out_h, out_w, fill)

    def input_rows(self, op: Op, value: Int8Array) -> IntArray:
        """Returns what each weight of a row is multiplied with, zero point taken off.

        Args:
            op: FULLY_CONNECTED or CONV_2D.
            value: int8 (n, ...), the op's input.

        Returns:
            int64 (n, depth) for FULLY_CONNECTED, (n, out_h, out_w, depth) for CONV_2D.
        """
        centred = value.astype(np.int64) - self.graph.tensors[op.inputs[0]].zero_point
        if op.kind is OpKind.FULLY_CONNECTED:
            return centred.reshape(value.shape[0], -1)
        cut = self.windows(op, centred, fill=0)
        return cut.reshape(*cut.shape[:3], -1)
