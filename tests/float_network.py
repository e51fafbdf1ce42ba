"""The float network behind a graph, forward and backward in plain NumPy: an oracle that knows nothing of integers."""

import math

import numpy as np

from rct_tflite.spec.graph import Activation, Graph, Op, OpKind, Padding, Tensor


def real(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Dequantises values; weights have one scale per slice along their first axis, or one."""
    q = tensor.quantization
    shape = (-1,) + (1,) * (values.ndim - 1) if q.scales.size > 1 else ()
    return (values.astype(np.float64) - q.zero_points.reshape(shape)) * q.scales.astype(np.float64).reshape(shape)


class FloatNetwork:
    """Weights and biases of a graph as real numbers, and how errors run through it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights = {op.name: self._parameter(op, 1) for op in graph.ops if op.has_weights}
        self.biases = {op.name: self._parameter(op, 2) for op in graph.ops if op.has_weights}

    def _parameter(self, op: Op, index: int) -> np.ndarray:
        tensor = self.graph.tensors[op.inputs[index]]
        return real(tensor, tensor.data)

    def forward(self, sample: np.ndarray) -> list[np.ndarray]:
        """The input and the output of every op, for one sample without batch."""
        values = [sample]
        for op in self.graph.ops:
            values.append(self.run(op, values[-1]))
        return values

    def run(self, op: Op, x: np.ndarray) -> np.ndarray:
        shape = self.graph.tensors[op.output].shape[1:]
        if op.kind is OpKind.RESHAPE:
            return x.reshape(shape)
        if op.kind is OpKind.FULLY_CONNECTED:
            y = self.weights[op.name] @ x.reshape(-1) + self.biases[op.name]
        else:
            y = np.zeros(shape)
            for (row, column), cells in self.windows(op, x.shape):
                y[row, column] = self._window(op, x, cells)
        return _activate(y, op)

    def backward(self, values: list[np.ndarray], label: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Gradients (weights, bias) of every op, at given activations (the input and every op's output)."""
        logits = values[-1].reshape(-1)
        error = np.exp(logits - logits.max())
        error /= error.sum()
        error[label] -= 1.0
        gradients = {}
        for op, x, y in reversed(list(zip(self.graph.ops, values[:-1], values[1:], strict=True))):
            error = error.reshape(y.shape) * _slope(y, op)
            if op.has_weights:
                gradients[op.name] = self._weight_gradients(op, x, error)
            error = self._input_error(op, x, error)
        return gradients

    def windows(self, op: Op, in_shape):
        """Pairs of output place and list of ((i, j) in the filter, (y, x) in the image)."""
        _, out_h, out_w, _ = self.graph.tensors[op.output].shape
        options = op.options
        size = self.weights[op.name].shape[1:3] if op.has_weights else (options.filter_h, options.filter_w)
        pads = [0, 0]
        if options.padding is Padding.SAME:
            for axis, stride in ((0, options.stride_h), (1, options.stride_w)):
                out = math.ceil(in_shape[axis] / stride)
                pads[axis] = max((out - 1) * stride + size[axis] - in_shape[axis], 0) // 2
        for row in range(out_h):
            for column in range(out_w):
                cells = []
                for i in range(size[0]):
                    for j in range(size[1]):
                        y = row * options.stride_h - pads[0] + i
                        x = column * options.stride_w - pads[1] + j
                        if 0 <= y < in_shape[0] and 0 <= x < in_shape[1]:
                            cells.append(((i, j), (y, x)))
                yield (row, column), cells

    def _window(self, op: Op, x: np.ndarray, cells) -> np.ndarray:
        if op.kind is OpKind.CONV_2D:
            weights = self.weights[op.name]
            return self.biases[op.name] + sum(weights[:, i, j] @ x[place] for (i, j), place in cells)
        stack = np.stack([x[place] for _, place in cells])
        return stack.max(axis=0) if op.kind is OpKind.MAX_POOL_2D else stack.mean(axis=0)

    def _weight_gradients(self, op: Op, x: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if op.kind is OpKind.FULLY_CONNECTED:
            return np.outer(error, x.reshape(-1)), error
        gradient = np.zeros_like(self.weights[op.name])
        for place, cells in self.windows(op, x.shape):
            for (i, j), source in cells:
                gradient[:, i, j] += np.outer(error[place], x[source])
        return gradient, error.sum(axis=(0, 1))

    def _input_error(self, op: Op, x: np.ndarray, error: np.ndarray) -> np.ndarray:
        if op.kind is OpKind.RESHAPE:
            return error.reshape(x.shape)
        if op.kind is OpKind.FULLY_CONNECTED:
            return (error @ self.weights[op.name]).reshape(x.shape)
        result = np.zeros_like(x)
        channels = np.arange(x.shape[-1])
        for place, cells in self.windows(op, x.shape):
            if op.kind is OpKind.MAX_POOL_2D:
                first = np.stack([x[source] for _, source in cells]).argmax(axis=0)
                sources = np.array([source for _, source in cells])[first]
                result[sources[:, 0], sources[:, 1], channels] += error[place]
                continue
            for (i, j), source in cells:
                average = op.kind is OpKind.AVERAGE_POOL_2D
                result[source] += (
                    error[place] / len(cells) if average else error[place] @ self.weights[op.name][:, i, j]
                )
        return result


def _activation(op: Op) -> Activation:
    return getattr(op.options, "activation", Activation.NONE)


def _activate(y: np.ndarray, op: Op) -> np.ndarray:
    top = {Activation.NONE: None, Activation.RELU: np.inf, Activation.RELU6: 6.0}[_activation(op)]
    return y if top is None else np.clip(y, 0.0, top)


def _slope(y: np.ndarray, op: Op) -> np.ndarray:
    if _activation(op) is Activation.NONE:
        return np.ones_like(y)
    # An int8 six may lie half a step beside 6.0.
    inside = (y > 0) & (y < 5.97 if _activation(op) is Activation.RELU6 else True)
    return inside.astype(np.float64)
