"""One training step in integers, batch 1, weights updated in place: the oracle of the C runtime."""

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError
from rct_tflite.reference import gradients, kernels
from rct_tflite.reference.adaptation import WidthAdapter, block_bytes
from rct_tflite.reference.aids import Kept
from rct_tflite.reference.backward import (
    BackwardStep,
    Passage,
    StepMultiplier,
    backward_steps,
    gain_of_merge,
    gain_of_sum,
)
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.held import Block, HeldGradients, Place
from rct_tflite.reference.losses import loss_constants, loss_tensor
from rct_tflite.reference.moved_errors import moved_error
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import held_bits, held_rows, pack_rows
from rct_tflite.reference.random import DEFAULT_SEED, RandomGenerator
from rct_tflite.reference.rates import ErrorScaling
from rct_tflite.reference.rounding import round_shift, round_shifts
from rct_tflite.reference.update import generator_for, step_multiplier, subtract, updates
from rct_tflite.spec.graph import (
    PAIR_KINDS,
    Graph,
    Inputs,
    Op,
    OpKind,
)
from rct_tflite.spec.quantization import low_bits, top
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
        held: Gradients between the samples and the updates.
        scaling: Of the error at the loss; its schedule holds the learning rate as it is now.
        gains: The gains of input errors, by the name of the op, and of merged errors (ARITHMETIC.md 3).
        constants: Backward constants of every op with weights, from the deepest trained one up.
        adapter: The widths of what is trained, None where they stay.
    """

    def __init__(self, graph: Graph, plan: TrainingPlan, seed: int = DEFAULT_SEED) -> None:
        self.network = ReferenceNetwork(graph)
        for op in graph.ops:
            if op.name in plan.trained:
                self.network.hold(op, held_rows(graph, plan, op), held_bits(graph, plan, op))
        self.plan = plan
        self.random = RandomGenerator(seed)
        self.gains: dict[str, int] = {}
        self._steps = backward_steps(graph, plan)
        self.constants = {step.op.name: step.constants for step in self._steps if step.constants is not None}
        self._loss_tensor = loss_tensor(graph, plan.loss)
        self._loss = loss_constants(graph, plan.loss)
        self._rows = {
            op.name: frozenset(plan.channels_of(op.name, graph.row_shape(op)[0]))
            for op in graph.ops
            if op.kind is OpKind.GATHER
        }
        self.adapter: WidthAdapter | None = None
        if plan.adaptation is not None:
            self.adapter = WidthAdapter(self.network, plan, self.constants, self.gains, self.random)
        self.scaling = ErrorScaling(graph, plan)
        self.held = HeldGradients(graph, plan, self.random, self.update, self._observe, self._octave)

    def step(self, sample: Inputs, label: int | Int8Array) -> bool:
        """Learns from one sample.

        Args:
            sample: int8, or int32 ids, the input's shape without batch.
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
        self.scaling.schedule.advance()
        error = gradients.loss_error(self.plan.loss, outputs, wanted, self._loss, self.plan.error_bits)
        if error is not None:
            self._backward(values, self.scaling.apply(error, wanted))
        learnt = self.held.finish_sample(tuple(step.op for step in self._steps), error is not None)
        if self.adapter is not None and learnt:
            self.adapter.end_step(self.scaling.schedule.rate)
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
        """Returns the trained weights, packed, and biases, as the device holds them (ARITHMETIC.md 2 and 10)."""
        blocks = [] if self.adapter is None else [self.adapter.header()]
        for op in self.network.graph.ops:
            if op.name in self.plan.trained:
                weights = self.network.weights[op.name]
                learning = weights[list(self.plan.channels_of(op.name, len(weights)))]
                packed = pack_rows(learning, self.network.bits[op.name]).tobytes()
                blocks.append(packed + bytes(-len(packed) % 4) + self.network.biases[op.name].astype("<i4").tobytes())
        used = sum(map(len, blocks))
        return b"".join([*blocks, bytes(block_bytes(self.network.graph, self.plan) - used if self.adapter else 0)])

    def keep(self) -> Kept:
        """Returns what learns, as the best weights are kept."""
        names = self.plan.trained
        network = self.network
        return Kept(
            {name: network.weights[name].copy() for name in names},
            {name: network.biases[name].copy() for name in names},
            {} if self.adapter is None else self.adapter.kept(),
        )

    def roll_back(self, kept: Kept) -> None:
        """Goes back to what learnt (ARITHMETIC.md 8); what is held from sample to sample is dropped."""
        for name in self.plan.trained:
            self.network.weights[name][:] = kept.weights[name]
            self.network.biases[name][:] = kept.biases[name]
        if self.adapter is not None:
            self.adapter.restore(kept.widths)
        self.held.forget()

    def _backward(self, values: dict[int, Int8Array], loss_error: ScaledError) -> None:
        loss_exponent = loss_error.exponent
        shaped = loss_error.values.reshape(self.network.graph.tensors[self._loss_tensor].shape[1:])
        errors = {self._loss_tensor: ScaledError(shaped, loss_exponent)}
        for step in self._steps:
            op = step.op
            error = errors.pop(op.output)
            octave = self._octave(op)
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
        return ScaledError(
            moved_error(self.network, op, passage.position, values[passage.tensor], error.values, self.plan.error_bits),
            error.exponent,
        )

    def _arrive(
        self, errors: dict[int, ScaledError], op: Op, passage: Passage, arriving: ScaledError, loss_exponent: int
    ) -> None:
        arriving = ScaledError(arriving.values, arriving.exponent - passage.moved)
        if passage.merge is not None:
            name, there = gain_of_merge(op, passage), errors[passage.tensor]
            gain = self.gains.get(name, GAIN_UNSET)
            arriving, self.gains[name] = gradients.merge(
                there, arriving, passage.merge, loss_exponent, gain, self.plan.error_bits
            )
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
            acc = _product(scaled, self.network.seen_weights(op)).reshape(in_shape)
        elif op.kind is OpKind.DEPTHWISE_CONV_2D:
            acc = gradients.depthwise_input(scaled, self.network.seen_weights(op), window, in_shape)
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
        acc = round_shift(acc, passage.dropped_bits)
        acc = acc.reshape(-1, int(np.prod(shape))).sum(axis=0).reshape(shape)
        return self._rescale(gain_of_sum(op, passage), acc, error, loss_exponent)

    def _rescale(self, name: str, acc: IntArray, error: ScaledError, loss_exponent: int) -> ScaledError:
        total_shift = loss_exponent - error.exponent
        gain = self.gains.get(name, GAIN_UNSET)
        values, shift, self.gains[name] = gradients.scale_input_error(acc, total_shift, gain, self.plan.error_bits)
        return ScaledError(values, error.exponent - shift)

    def weight_gradients(self, op: Op, value: Inputs, error: ScaledError) -> tuple[IntArray, IntArray]:
        """Returns the integer gradients of weights (channels, depth) and biases (channels,), (0,) of a table.

        That of weights has `gradient_bits(op)` fewer fraction bits than the error.
        """
        if op.kind is OpKind.GATHER:
            return gradients.table(value, error.values, len(self.network.weights[op.name])), np.zeros(0, np.int64)
        errors = error.values.reshape(-1, error.values.shape[-1])
        bias, dropped = errors.sum(axis=0), self.gradient_bits(op)
        if not dropped:
            return self._weight_sums(op, value, errors), bias
        shifts = gradients.gradient_shifts(errors)
        sums = self._weight_sums(op, value, round_shifts(errors, shifts))
        return round_shifts(sums, (dropped - shifts)[:, None]), bias

    def gradient_bits(self, op: Op) -> int:
        """Returns the bits that the gradient of weights drops: those of wide errors that meet inputs in many places."""
        return 0 if op.kind in (OpKind.FULLY_CONNECTED, OpKind.GATHER) else self.plan.error_bits - 8

    def _weight_sums(self, op: Op, value: Inputs, errors: IntArray) -> IntArray:
        """Returns the sums over all positions of errors (positions, channels) times inputs."""
        centred = value.astype(np.int64) - self.network.graph.tensors[op.inputs[0]].zero_point
        if op.kind is OpKind.TRANSPOSE_CONV:
            window = self.network.constants[op.name].window
            assert window is not None
            image = errors.reshape(self.network.graph.tensors[op.output].shape[1:])
            return gradients.transpose_conv_weights(image, centred, window)
        if op.kind is OpKind.DEPTHWISE_CONV_2D:
            windows = self.network.windows(op, centred[None], fill=0)
            spread = kernels.repeat_channels(windows, errors.shape[1]).reshape(len(errors), -1, errors.shape[1])
            return np.asarray(np.einsum("pkc,pc->ck", spread, errors))
        rows = self.network.input_rows(op, value[None])[0]
        return _product(errors.T, rows.reshape(-1, rows.shape[-1]))

    def learn(self, op: Op, value: Inputs, error: ScaledError) -> None:
        """Updates weights and biases of an op in place.

        Args:
            op: With weights.
            value: Its input, without batch.
            error: At its output, masked.
        """
        if op.kind is OpKind.GATHER:
            self._learn_rows_read(op, value, error)
            return
        weight_gradient, bias_gradient = self.weight_gradients(op, value, error)
        frozen = np.ones(len(weight_gradient), bool)
        frozen[list(self.plan.channels_of(op.name, len(frozen)))] = False
        weight_gradient[frozen] = 0
        exponent = error.exponent - self.gradient_bits(op)
        # With one position a wide error is multiplied with the step first, where an update follows at once.
        at_once = not self.plan.options.holds_gradients
        wide = at_once and self.plan.error_bits > 8 and op.kind is OpKind.FULLY_CONNECTED
        centred = self.network.input_rows(op, value[None])[0] if wide else None
        for channel in map(int, np.flatnonzero(np.any(weight_gradient != 0, axis=1) | (bias_gradient != 0))):
            if centred is None or frozen[channel]:
                self.held.learn(op, Place(channel, 0), Block(weight_gradient[channel], exponent))
            else:
                self._observe(op, Place(channel, 0), Block(weight_gradient[channel], exponent))
                self._learn_row(op, centred, error, channel)
            self.held.learn(op, Place(channel, 1), Block(bias_gradient[channel : channel + 1], error.exponent))

    def update(self, op: Op, place: Place, gradient: Block) -> None:
        """Updates a channel's row or its bias.

        Args:
            op: With weights.
            place: Which channel, and which of both.
            gradient: With the exponent of its errors.
        """
        c = self.constants[op.name]
        multiplier = c.bias_step if place.part else c.weight_step
        assert multiplier is not None
        values = self.network.biases[op.name] if place.part else self.network.weights[op.name]
        bits = self.network.bits[op.name]
        limit = c.bias_limit if place.part else top(bits)
        row = slice(place.channel, place.channel + 1)
        exponent = gradient.exponent - (0 if place.part else low_bits(bits))
        step = self._updates(gradient.values, multiplier, place.channel, exponent)
        values[row] = subtract(values[row], step, limit)

    def _observe(self, op: Op, place: Place, gradient: Block) -> None:
        if self.adapter is not None:
            self.adapter.observe(op, place.channel, gradient.values, gradient.exponent)

    def _octave(self, op: Op) -> int:
        return 0 if self.adapter is None else self.adapter.octaves.get(op.name, 0)

    def _learn_row(self, op: Op, centred: IntArray, error: ScaledError, channel: int) -> None:
        """Updates a row of FULLY_CONNECTED from errors of 16 bits (ARITHMETIC.md 6)."""
        multiplier, weights = self.constants[op.name].weight_step, self.network.weights[op.name]
        assert multiplier is not None
        index = channel if multiplier.mantissa.size > 1 else 0
        dropped, bits = self.plan.error_bits - 8, self.network.bits[op.name]
        shift = int(multiplier.shift[index]) + error.exponent - dropped - low_bits(bits)
        mantissa, shift = step_multiplier(int(multiplier.mantissa[index]), shift)
        factor = round_shift(error.values.reshape(-1)[channel] * mantissa, dropped)
        step = updates(centred * factor, 1, shift, generator_for(self.plan.rounding, self.random))
        row = slice(channel, channel + 1)
        weights[row] = subtract(weights[row], step, top(bits))

    def _learn_rows_read(self, op: Op, ids: Inputs, error: ScaledError) -> None:
        """Updates the rows of a table that a sample read, each once, in the order of their first reading."""
        gradient, _ = self.weight_gradients(op, ids, error)
        for row in dict.fromkeys(ids.reshape(-1).tolist()):
            if row in self._rows[op.name]:
                self.held.learn(op, Place(row, 0), Block(gradient[row], error.exponent))

    def _updates(self, gradient: IntArray, multiplier: StepMultiplier, channel: int, exponent: int) -> IntArray:
        index = channel if multiplier.mantissa.size > 1 else 0
        shift = int(multiplier.shift[index]) + exponent
        random = generator_for(self.plan.rounding, self.random)
        return updates(gradient, int(multiplier.mantissa[index]), shift, random)


def _product(left: IntArray, right: IntArray) -> IntArray:
    """Multiplies matrices in float64, which is exact up to 2**53, far above any sum, and fast."""
    product: IntArray = (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)
    return product
