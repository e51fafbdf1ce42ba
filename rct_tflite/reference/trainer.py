"""One training step in integers, batch 1, weights updated in place: the oracle of the C runtime."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.reference import gradients, kernels
from rct_tflite.reference.adaptation import WidthAdapter, block_bytes
from rct_tflite.reference.backward import (
    BackwardStep,
    Passage,
    StepMultiplier,
    backward_steps,
    gain_of_merge,
    gain_of_sum,
)
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import pack_rows
from rct_tflite.reference.random import DEFAULT_SEED, RandomGenerator
from rct_tflite.reference.rounding import round_shift
from rct_tflite.reference.tables import SLOPE_BITS, slope_table
from rct_tflite.reference.update import generator_for, subtract, updates
from rct_tflite.spec.graph import (
    PAIR_KINDS,
    ConcatenationOptions,
    Graph,
    Op,
    OpKind,
    PadOptions,
    TableOptions,
)
from rct_tflite.spec.quantization import ACTIVATION_MIN, top
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
        gains: The gains of input errors, by the name of the op, and of merged errors (ARITHMETIC.md 3).
        constants: Backward constants of every op with weights, from the deepest trained one up.
        adapter: The widths of what is trained, None where they stay.
    """

    def __init__(self, graph: Graph, plan: TrainingPlan, seed: int = DEFAULT_SEED) -> None:
        self.network = ReferenceNetwork(graph)
        self.plan = plan
        self.random = RandomGenerator(seed)
        self.gains: dict[str, int] = {}
        self._steps = backward_steps(graph, plan)
        self.constants = {step.op.name: step.constants for step in self._steps if step.constants is not None}
        self._loss_tensor = loss_tensor(graph, plan.loss)
        self._loss = loss_constants(graph, plan.loss)
        self._bits = {op.name: graph.bits_of(op) for op in graph.ops}
        self.adapter: WidthAdapter | None = None
        if plan.adaptation is not None:
            self.adapter = WidthAdapter(self.network, plan, self.constants, self.gains, self.random)

    def step(self, sample: Int8Array, label: int | Int8Array) -> bool:
        """Learns from one sample.

        Args:
            sample: int8, the input's shape without batch.
            label: True class, or a target for each output in the output's int8 format, as the loss takes it.

        Returns:
            Whether the network was right before it learnt: its largest output that of the class, or every output the
            target.

        Raises:
            DataError: If the label is not a class of the network, or not a target of its outputs.
        """
        graph = self.network.graph
        values = {index: value[0] for index, value in self.network.values(sample[None]).items()}
        outputs = values[self._loss_tensor].reshape(-1).astype(np.int64)
        wanted = self._checked(label, outputs.size)
        error = gradients.loss_error(self.plan.loss, outputs, wanted, self._loss)
        if error is not None:
            self._backward(values, error)
            if self.adapter is not None:
                self.adapter.end_step()
                self._bits.update(self.adapter.bits)
        if isinstance(wanted, int):
            return int(values[graph.output].argmax()) == wanted
        return bool(np.all(values[graph.output].reshape(-1) == wanted))

    def _checked(self, label: int | Int8Array, count: int) -> int | IntArray:
        if not self.plan.loss.takes_class:
            target = np.asarray(label)
            if target.dtype != np.int8 or target.size != count:
                raise DataError(
                    f"The loss {self.plan.loss} takes a target for each output. Expected {count} int8 values. "
                    f"Received: {target.dtype} of shape {target.shape}."
                )
            return target.reshape(-1).astype(np.int64)
        if isinstance(label, np.ndarray) or not 0 <= label < count:
            raise DataError(f"A label is out of range. Expected 0 to {count - 1}. Received: {label}.")
        return int(label)

    def parameter_block(self) -> bytes:
        """Returns the trained weights, packed, and biases, as the device holds them (ARITHMETIC.md 2 and 7)."""
        blocks = [] if self.adapter is None else [self.adapter.header()]
        for op in self.network.graph.ops:
            if op.name in self.plan.trained:
                packed = pack_rows(self.network.weights[op.name], self._bits[op.name]).tobytes()
                blocks.append(packed + bytes(-len(packed) % 4) + self.network.biases[op.name].astype("<i4").tobytes())
        used = sum(map(len, blocks))
        return b"".join([*blocks, bytes(block_bytes(self.network.graph, self.plan) - used if self.adapter else 0)])

    def _backward(self, values: dict[int, Int8Array], loss_error: ScaledError) -> None:
        loss_exponent = loss_error.exponent
        shaped = loss_error.values.reshape(self.network.graph.tensors[self._loss_tensor].shape[1:])
        errors = {self._loss_tensor: ScaledError(shaped, loss_exponent)}
        for step in self._steps:
            op = step.op
            error = errors.pop(op.output)
            octave = 0 if self.adapter is None else self.adapter.octaves.get(op.name, 0)
            error = ScaledError(self.mask(op, error.values, values[op.output]), error.exponent + octave)
            passed = [self._passed(step, passage, values, error, loss_exponent) for passage in step.passages]
            if op.name in self.plan.trained:
                self.learn(op, values[op.inputs[0]], error)
            for passage, arriving in zip(step.passages, passed, strict=True):
                arriving = ScaledError(arriving.values, arriving.exponent - 2 * octave)
                self._arrive(errors, op, passage, arriving, loss_exponent)

    def _passed(
        self, step: BackwardStep, passage: Passage, values: dict[int, Int8Array], error: ScaledError, loss_exponent: int
    ) -> ScaledError:
        op = step.op
        if op.has_weights:
            return self.input_error(op, values[passage.tensor].shape, error, loss_exponent)
        if op.kind in PAIR_KINDS:
            return self.pair_error(op, passage, values, error, loss_exponent)
        return ScaledError(self.moved_error(op, passage.position, values[passage.tensor], error.values), error.exponent)

    def _arrive(
        self, errors: dict[int, ScaledError], op: Op, passage: Passage, arriving: ScaledError, loss_exponent: int
    ) -> None:
        arriving = ScaledError(arriving.values, arriving.exponent - passage.moved)
        if passage.merge is not None:
            name, there = gain_of_merge(op, passage), errors[passage.tensor]
            gain = self.gains.get(name, GAIN_UNSET)
            arriving, self.gains[name] = gradients.merge(there, arriving, passage.merge, loss_exponent, gain)
        errors[passage.tensor] = arriving

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
            op: With weights.
            in_shape: Of the input, without batch.
            error: At the op's output, masked.
            loss_exponent: Exponent of the error at the loss of this sample.
        """
        scaled = gradients.channel_errors(error.values, self.constants[op.name])
        window = self.network.constants[op.name].window
        if window is None:
            acc = _product(scaled, self.network.weights[op.name]).reshape(in_shape)
        elif op.kind is OpKind.DEPTHWISE_CONV_2D:
            acc = gradients.depthwise_input(scaled, self.network.weights[op.name], window, in_shape)
        elif op.kind is OpKind.TRANSPOSE_CONV:
            acc = gradients.transpose_conv_input(scaled, self.network.filters(op), window, in_shape)
        else:
            acc = kernels.conv_2d_input(scaled, self.network.filters(op), window, in_shape)
        return self._rescale(op.name, acc, error, loss_exponent)

    def pair_error(
        self, op: Op, passage: Passage, values: dict[int, Int8Array], error: ScaledError, loss_exponent: int
    ) -> ScaledError:
        """Returns the error at one operand of ADD, SUB or MUL; moves its gain where sums are rescaled.

        Args:
            op: The op.
            passage: To the operand.
            values: Every computed tensor, without batch.
            error: At the op's output, masked.
            loss_exponent: Exponent of the error at the loss of this sample.
        """
        acc = -error.values if op.kind is OpKind.SUB and passage.position == 1 else error.values
        if op.kind is OpKind.MUL:
            other = op.inputs[1 - passage.position]
            tensor = self.network.graph.tensors[other]
            operand = values[other] if tensor.data is None else tensor.data
            factor = operand.astype(np.int64).reshape(-1) - tensor.zero_point
            acc = (acc.reshape(-1, factor.size) * factor).reshape(acc.shape)
        if not passage.rescales:
            return ScaledError(acc, error.exponent)
        shape = values[passage.tensor].shape
        acc = acc.reshape(-1, int(np.prod(shape))).sum(axis=0).reshape(shape)
        return self._rescale(gain_of_sum(op, passage), acc, error, loss_exponent)

    def _rescale(self, name: str, acc: IntArray, error: ScaledError, loss_exponent: int) -> ScaledError:
        total_shift = loss_exponent - error.exponent
        gain = self.gains.get(name, GAIN_UNSET)
        values, shift, self.gains[name] = gradients.scale_input_error(acc, total_shift, gain)
        return ScaledError(values, error.exponent - shift)

    def moved_error(self, op: Op, position: int, value: Int8Array, error: IntArray) -> IntArray:
        """Returns the error at an input of an op whose errors keep their exponent.

        Args:
            op: An op without weights that joins no two tensors.
            position: Of the input.
            value: The input, without batch.
            error: At the op's output, masked.
        """
        graph, options = self.network.graph, op.options
        if isinstance(options, ConcatenationOptions):
            before = sum(graph.tensors[index].shape[options.axis] for index in op.inputs[:position])
            return error.take(range(before, before + value.shape[options.axis - 1]), axis=options.axis - 1)
        if isinstance(options, PadOptions):
            kept = zip(options.cells[1:], value.shape, strict=True)
            return error[tuple(slice(before, before + size) for (before, _), size in kept)]
        if isinstance(options, TableOptions):
            table, _ = slope_table(op.kind, options.alpha, graph.tensors[op.inputs[0]])
            return round_shift(error * table[value.astype(np.int64) - ACTIVATION_MIN], SLOPE_BITS)
        if op.kind is OpKind.MEAN:
            return np.broadcast_to(error.reshape(1, 1, -1), value.shape)
        return self.pool_error(op, value, error)

    def pool_error(self, op: Op, value: Int8Array, error: IntArray) -> IntArray:
        """Returns the error at the input `value` (without batch) of RESHAPE and of pooling."""
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
        errors = error.values.reshape(-1, error.values.shape[-1])
        bias = errors.sum(axis=0)
        centred = value.astype(np.int64) - self.network.graph.tensors[op.inputs[0]].zero_point
        if op.kind is OpKind.TRANSPOSE_CONV:
            window = self.network.constants[op.name].window
            assert window is not None
            return gradients.transpose_conv_weights(error.values, centred, window), bias
        if op.kind is OpKind.DEPTHWISE_CONV_2D:
            windows = self.network.windows(op, centred[None], fill=0)
            spread = kernels.repeat_channels(windows, errors.shape[1]).reshape(len(errors), -1, errors.shape[1])
            return np.einsum("pkc,pc->ck", spread, errors), bias
        rows = self.network.input_rows(op, value[None])[0]
        return _product(errors.T, rows.reshape(-1, rows.shape[-1])), bias

    def learn(self, op: Op, value: Int8Array, error: ScaledError) -> None:
        """Updates weights and biases of an op in place.

        Args:
            op: With weights.
            value: Its input, without batch.
            error: At its output, masked.
        """
        c = self.constants[op.name]
        assert c.weight_step is not None
        assert c.bias_step is not None
        weight_gradient, bias_gradient = self.weight_gradients(op, value, error)
        if self.adapter is not None:
            self.adapter.observe(op, weight_gradient, error.exponent)
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
