"""One training step in integers, batch 1, weights updated in place: the oracle of the C runtime."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.reference import gradients
from rct_tflite.reference.constants import (
    StepMultiplier,
    backward_constants,
    exp_table,
    ops_in_backward,
)
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import pack_rows
from rct_tflite.reference.random import DEFAULT_SEED, RandomGenerator
from rct_tflite.reference.update import generator_for, subtract, updates
from rct_tflite.spec.graph import Graph, Op, OpKind
from rct_tflite.spec.quantization import top
from rct_tflite.spec.training_plan import TrainingPlan

Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.int64]


class ReferenceTrainer:
    """Trains a graph sample by sample.

    Args:
        graph: The network; its integers are copied.
        plan: Which ops learn, learning rate, rounding.
        seed: Start of the random numbers.

    Attributes:
        network: The forward pass with the weights as they are now.
        random: The generator of the stochastic rounding.
        gains: Per op, the gain of its input error (ARITHMETIC.md 3).
        constants: Backward constants of every op with weights, from the deepest trained one up.
    """

    def __init__(self, graph: Graph, plan: TrainingPlan, seed: int = DEFAULT_SEED) -> None:
        self.network = ReferenceNetwork(graph)
        self.plan = plan
        self.random = RandomGenerator(seed)
        self.gains: dict[str, int] = {}
        self._backward_ops = ops_in_backward(graph, plan)
        self.constants = backward_constants(graph, plan)
        self._table = exp_table(graph.tensors[graph.output])
        self._bits = {op.name: graph.bits_of(op) for op in graph.ops}

    def step(self, sample: Int8Array, label: int) -> bool:
        """Learns from one sample.

        Args:
            sample: int8, the input's shape without batch.
            label: True class.

        Returns:
            Whether the network was right before it learnt.

        Raises:
            DataError: If the label is not a class of the network.
        """
        outputs = self.network.layer_outputs(sample[None])
        logits = outputs[-1].reshape(-1).astype(np.int64)
        if not 0 <= label < logits.size:
            raise DataError(f"A label is out of range. Expected 0 to {logits.size - 1}. Received: {label}.")
        error = gradients.softmax_cross_entropy(logits, label, self._table)
        if error is not None and self._backward_ops:
            self._backward(sample, outputs, error)
        return int(logits.argmax()) == label

    def parameter_block(self) -> bytes:
        """Returns the trained weights, packed, and biases, as the device holds them (ARITHMETIC.md 2)."""
        blocks = []
        for op in self._backward_ops:
            if op.name in self.plan.trained:
                packed = pack_rows(self.network.weights[op.name], self._bits[op.name]).tobytes()
                blocks.append(packed + bytes(-len(packed) % 4) + self.network.biases[op.name].astype("<i4").tobytes())
        return b"".join(blocks)

    def _backward(self, sample: Int8Array, outputs: list[Int8Array], error: ScaledError) -> None:
        loss_exponent = error.exponent
        count = len(self._backward_ops)
        inputs = [sample, *(output[0] for output in outputs)][-count - 1 : -1]
        for op, value, output in zip(
            reversed(self._backward_ops), reversed(inputs), reversed(outputs[-count:]), strict=True
        ):
            values = error.values.reshape(output[0].shape)
            error = ScaledError(self.mask(op, values, output[0]), error.exponent)
            deepest = op is self._backward_ops[0]
            if op.has_weights:
                passed = None if deepest else self.input_error(op, value.shape, error, loss_exponent)
                if op.name in self.plan.trained:
                    self.learn(op, value, error)
                if passed is not None:
                    error = passed
            else:
                error = ScaledError(self.pool_error(op, value, error.values), error.exponent)

    def mask(self, op: Op, values: IntArray, output: Int8Array) -> IntArray:
        """Clears errors where the fused activation held the output at a bound."""
        c = self.network.constants[op.name]
        keep = np.ones(output.shape, bool)
        if c.masks_low:
            keep &= output > c.act_min
        if c.masks_high:
            keep &= output < c.act_max
        return np.where(keep, values, 0)

    def input_error(self, op: Op, in_shape: tuple[int, ...], error: ScaledError, loss_exponent: int) -> ScaledError:
        """Returns the error at the input of an op with weights; moves the op's gain.

        Args:
            op: CONV_2D or FULLY_CONNECTED.
            in_shape: Of the input, without batch.
            error: At the op's output, masked.
            loss_exponent: Exponent of the error at the loss of this sample.
        """
        scaled = gradients.channel_errors(error.values, self.constants[op.name])
        weights = self.network.weights[op.name]
        window = self.network.constants[op.name].window
        if window is None:
            acc = _product(scaled, weights).reshape(in_shape)
        else:
            filters = weights.reshape(len(weights), window.filter_h, window.filter_w, -1)
            acc = gradients.conv_2d_input(scaled, filters, window, in_shape)
        total_shift = loss_exponent - error.exponent
        gain = self.gains.get(op.name, GAIN_UNSET)
        values, shift, self.gains[op.name] = gradients.scale_input_error(acc, total_shift, gain)
        return ScaledError(values, error.exponent - shift)

    def pool_error(self, op: Op, value: Int8Array, error: IntArray) -> IntArray:
        """Returns the error at the input `value` (without batch) of an op without weights."""
        if op.kind is OpKind.RESHAPE:
            return error.reshape(value.shape)
        window = self.network.constants[op.name].window
        assert window is not None
        if op.kind is OpKind.AVERAGE_POOL_2D:
            return gradients.average_pool_2d(error, window, value.shape)
        windows = self.network.windows(op, value[None], fill=-129)[0]
        return gradients.max_pool_2d(error, windows, window, value.shape)

    def weight_gradients(self, op: Op, value: Int8Array, error: ScaledError) -> tuple[IntArray, IntArray]:
        """Returns the integer gradients of weights (channels, depth) and biases (channels,)."""
        rows = self.network.input_rows(op, value[None])[0]
        rows = rows.reshape(-1, rows.shape[-1])
        errors = error.values.reshape(-1, error.values.shape[-1])
        return _product(errors.T, rows), errors.sum(axis=0)

    def learn(self, op: Op, value: Int8Array, error: ScaledError) -> None:
        """Updates weights and biases of an op in place.

        Args:
            op: CONV_2D or FULLY_CONNECTED.
            value: Its input, without batch.
            error: At its output, masked.
        """
        c = self.constants[op.name]
        assert c.weight_step is not None
        assert c.bias_step is not None
        weight_gradient, bias_gradient = self.weight_gradients(op, value, error)
        weights, bias = self.network.weights[op.name], self.network.biases[op.name]
        limit = top(self._bits[op.name])
        for channel in np.flatnonzero(np.any(weight_gradient != 0, axis=1) | (bias_gradient != 0)):
            row = slice(channel, channel + 1)
            step = self._updates(weight_gradient[channel], c.weight_step, int(channel), error.exponent)
            weights[row] = subtract(weights[row], step, limit)
            step = self._updates(bias_gradient[row], c.bias_step, int(channel), error.exponent)
            bias[row] = subtract(bias[row], step, c.bias_limit)

    def _updates(self, gradient: IntArray, multiplier: StepMultiplier, channel: int, exponent: int) -> IntArray:
        index = channel if multiplier.mantissa.size > 1 else 0
        shift = int(multiplier.shift[index]) + exponent
        random = generator_for(self.plan.rounding, self.random)
        return updates(gradient, int(multiplier.mantissa[index]), shift, random)


def _product(left: IntArray, right: IntArray) -> IntArray:
    """Multiplies matrices in float64, which is exact up to 2**53, far above any sum, and fast."""
    product: IntArray = (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)
    return product
