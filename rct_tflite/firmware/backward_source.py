"""The backward half of model.c: tables, structs and calls of every op that a training step comes by."""

import math

from rct_tflite.firmware.adaptation_source import adapts, bound_grad
from rct_tflite.firmware.forward_source import KERNELS, repeated_calls
from rct_tflite.firmware.option_source import HELD_FULLY_CONNECTED, add_held
from rct_tflite.firmware.source import ModelSource, Names
from rct_tflite.firmware.tables import struct_text
from rct_tflite.planning.lifetimes import in_execution_order, moves_nothing
from rct_tflite.reference.backward import (
    BackwardConstants,
    BackwardStep,
    Merge,
    Passage,
    StepMultiplier,
    backward_steps,
    gain_of_merge,
    gain_of_sum,
)
from rct_tflite.reference.constants import mask_bounds, masks_errors
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.reference.tables import slope_bits, slope_table
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, ConcatenationOptions, Op, OpKind, TableOptions
from rct_tflite.spec.quantization import Rounding


def add_backward(names: Names, source: ModelSource) -> None:
    """Adds the whole backward pass to the source of model.c."""
    graph = names.graph
    plan = names.plan
    steps = backward_steps(graph, plan)
    read = loss_tensor(graph, plan.loss)
    if read in names.memory.exponents:
        source.backward.append(f"{names.exponent(read)} = backward.exponent;")
    if names.memory.repeats and plan.adaptation is not None:
        source.backward.append("rct_bound_op_t bound; /* an op with its present width */")
    ops = {op.name: op for op in graph.ops}
    for number, step in enumerate(steps, start=len(graph.ops) + 1):
        for repeated in names.memory.repeats.get(number, ()):
            source.backward += repeated_calls(names, source, ops[repeated])
        _Backward(names, source, step, number).add()


class _Backward:
    """One op."""

    def __init__(self, names: Names, source: ModelSource, step: BackwardStep, number: int) -> None:
        self._names = names
        self._graph = names.graph
        self._source = source
        self._step = step
        self._number = number
        self._op: Op = step.op
        self._name = names.ops[step.op.name]
        self._error = names.error(step.op.output)
        self._count = names.graph.tensors[step.op.output].size

    def add(self) -> None:
        op = self._op
        kept = op.output in self._names.memory.exponents
        if kept:
            self._line(f"backward.exponent = {self._names.exponent(op.output)};")
        self._mask()
        ordered = in_execution_order(self._step, self._names.memory.errors)
        if op.kind is OpKind.GATHER:
            self._gather()
        elif not ordered:
            self._grad_call("NULL")
        changed = False
        for passage in ordered:
            if changed:
                self._line(f"backward.exponent = {self._names.exponent(op.output)};")
            self._pass(passage)
            changed = passage.changes_exponent

    def _mask(self) -> None:
        if self._op.output in self._names.memory.masks:
            self._line(f"rct_apply_mask(MASK_{self._op.output}, {self._count}, {self._error});")
        elif masks_errors(self._op):
            low, high = mask_bounds(self._graph, self._op)
            output = self._names.kept(self._op.output)
            self._line(f"rct_mask({output}, {self._count}, {low}, {high}, {self._error});")

    def _pass(self, passage: Passage) -> None:
        """Adds the call that hands the error to one input, and what becomes of it there."""
        target = self._names.error(passage.tensor)
        if passage.merge is None:
            self._hand(passage, target)
            if passage.moved:
                self._line(f"backward.exponent += {-passage.moved};")
            if passage.tensor in self._names.memory.exponents:
                self._line(f"{self._names.exponent(passage.tensor)} = backward.exponent;")
            return
        arriving = self._error
        if not moves_nothing(self._op, passage):
            arriving = f"PART_{passage.tensor}_{self._number}"
            self._hand(passage, arriving)
        self._merge(passage, passage.merge, arriving, target)

    def _merge(self, passage: Passage, merge: Merge, arriving: str, target: str) -> None:
        struct = self._source.add_struct(
            "rct_merge_t",
            f"merge_{self._name}_{passage.position}",
            ratio=f"{{{merge.ratios[0]}, {merge.ratios[1]}}}",
            exponent=f"{{{merge.exponents[0]}, {merge.exponents[1]}}}",
            gain=self._names.gain(gain_of_merge(self._op, passage)),
        )
        count, exponent = self._graph.tensors[passage.tensor].size, self._names.exponent(passage.tensor)
        self._line(f"rct_merge_errors({struct}, {arriving}, {count}, &backward, {target}, &{exponent});")

    def _hand(self, passage: Passage, target: str) -> None:
        kind = self._op.kind
        if moves_nothing(self._op, passage):
            if target != self._error:
                self._line(f"rct_copy({target}, {self._error}, {self._count * self._names.plan.error_bits // 8});")
        elif self._op.has_weights:
            self._grad_call(target)
        elif kind in PAIR_KINDS:
            self._pair(passage, target)
        elif kind in TABLE_KINDS:
            self._table(target)
        elif kind is OpKind.CONCATENATION:
            self._concatenation(passage.position, target)
        elif kind is OpKind.MAX_POOL_2D:
            source = self._names.kept(self._op.inputs[0])
            self._line(f"rct_max_pool_2d_grad(&op_{self._name}, {source}, {self._error}, {target});")
        else:
            kernel = {OpKind.MEAN: "rct_mean", OpKind.PAD: "rct_pad"}.get(kind, "rct_average_pool_2d")
            self._line(f"{kernel}_grad(&op_{self._name}, {self._error}, {target});")

    def _line(self, statement: str) -> None:
        self._source.backward.append(statement)

    def _pair(self, passage: Passage, target: str) -> None:
        op, graph = self._op, self._graph
        if not passage.rescales:
            self._line(f"rct_negate_errors({self._error}, {self._count}, {target});")
            return
        other = op.inputs[1 - passage.position]
        multiplies = op.kind is OpKind.MUL
        grad = self._source.add_struct(
            "rct_pair_grad_t",
            f"grad_{self._name}_{passage.position}",
            count=self._count,
            operand=graph.tensors[passage.tensor].size,
            other=graph.tensors[other].size if multiplies else 0,
            other_zero_point=graph.tensors[other].zero_point if multiplies else 0,
            negative="true" if op.kind is OpKind.SUB and passage.position == 1 else "false",
            gain=self._names.gain(gain_of_sum(op, passage)),
            sums="SUMS",
            **_dropped(passage.dropped_bits),
        )
        factor = self._names.kept(other) if multiplies else "NULL"
        self._line(f"rct_pair_grad({grad}, {factor}, {self._error}, &backward, {target});")

    def _table(self, target: str) -> None:
        op = self._op
        assert isinstance(op.options, TableOptions)
        width = self._names.plan.error_bits
        slopes, bits = slope_table(op.kind, op.options.alpha, self._graph.tensors[op.inputs[0]], slope_bits(width))
        self._source.add_table(f"slopes_{self._name}", f"int{width}_t", f"{op.name}: 2**{bits} * derivative", slopes)
        source = self._names.kept(op.inputs[0])
        self._line(f"rct_table_grad(slopes_{self._name}, {source}, {self._error}, {self._count}, {target});")

    def _concatenation(self, position: int, target: str) -> None:
        op, graph = self._op, self._graph
        assert isinstance(op.options, ConcatenationOptions)
        rows = math.prod(graph.tensors[op.output].shape[: op.options.axis])
        bytes_each = self._names.plan.error_bits // 8
        widths = [graph.tensors[index].size // rows * bytes_each for index in op.inputs]
        blocks = self._source.add_struct(
            "rct_blocks_t",
            f"grad_{self._name}_{position}",
            rows=rows,
            width=widths[position],
            from_stride=sum(widths),
            to_stride=widths[position],
        )
        source = self._error
        if bytes_each > 1:
            source, target = (f"(int8_t *)(void *){place}" for place in (source, target))
        self._line(f"rct_copy_blocks({blocks}, {source} + {sum(widths[:position])}, {target});")

    def _gather(self) -> None:
        assert self._step.constants is not None
        assert self._step.constants.weight_step is not None
        grad = self._source.add_struct(
            "rct_gather_grad_t",
            f"grad_{self._name}",
            rows=f"ROWS_{self._name.upper()}",
            step=self._multiplier("weight", self._step.constants.weight_step),
            stochastic="true" if self._names.plan.rounding is Rounding.STOCHASTIC else "false",
            sums="SUMS",
        )
        self._line(f"rct_gather_grad(&op_{self._name}, {grad}, IDS, {self._error}, &backward);")

    def _grad_call(self, target: str) -> None:
        assert self._step.constants is not None
        grad = self._grad(self._step.constants)
        source = self._names.kept(self._op.inputs[0])
        parts = [part.op for part in self._names.plan.partial]
        kernel = KERNELS[self._op.kind] + ("_split" if self._op.name in parts else "")
        if self._step.constants.weight_step is not None and self._op.kind is OpKind.FULLY_CONNECTED:
            kernel = HELD_FULLY_CONNECTED if self._names.plan.options.holds_gradients else kernel
        called, before, after = bound_grad(self._names, self._op, grad)
        call = f"{kernel}_grad({called}, {source}, {self._error}, &backward, {target});"
        self._source.backward += [*before, call, *after]

    def _grad(self, c: BackwardConstants) -> str:
        name, ratio = self._name, "NULL"
        if c.ratio is not None:
            ratio = f"ratio_{name}"
            comment = f"{self._op.name}: scale of each channel, 2**14 = the largest"
            self._source.add_table(ratio, "int16_t", comment, c.ratio)
        learn = "NULL"
        if c.weight_step is not None and c.bias_step is not None:
            learn = self._learn(c, c.weight_step, c.bias_step)
        return self._source.add_struct(
            "rct_grad_t",
            f"grad_{name}",
            scale=struct_text(ratio=ratio, guard_bits=c.guard_bits, **_dropped(c.dropped_bits)),
            learn=learn,
            gain=self._names.gain(self._op.name),
            row=self._names.row(self._op),
            sums="SUMS",
        )

    def _learn(self, c: BackwardConstants, weights: StepMultiplier, bias: StepMultiplier) -> str:
        stochastic = self._names.plan.rounding is Rounding.STOCHASTIC
        moves = adapts(self._names, self._op)
        if not moves:
            channels, _ = self._graph.row_shape(self._op)
            arguments = f"BIAS_{self._name.upper()}, {channels}, {c.bias_limit}"
            self._source.checks.append(f"rct_biases_are_within({arguments})")
        fields = dict[str, object](
            rows="NULL" if moves else f"ROWS_{self._name.upper()}",
            bias="NULL" if moves else f"BIAS_{self._name.upper()}",
            weight_step=self._multiplier("weight", weights),
            bias_step=self._multiplier("bias", bias),
            bias_limit=c.bias_limit,
            stochastic="true" if stochastic else "false",
            biases_only="false" if self._names.plan.learns_weights(self._op.name) else "true",
        )
        if self._names.plan.options.holds_gradients:
            return add_held(self._names, self._source, self._op, struct_text(**fields))
        return self._source.add_struct("rct_learn_t", f"learn_{self._name}", **fields)

    def _multiplier(self, what: str, step: StepMultiplier) -> str:
        mantissa, shift = f"step_mantissa_{what}_{self._name}", f"step_shift_{what}_{self._name}"
        self._source.add_table(mantissa, "int16_t", f"{self._op.name}: {what} update", step.mantissa)
        self._source.add_table(shift, "int8_t", f"{self._op.name}: {what} update", step.shift)
        return struct_text(mantissa=mantissa, shift=shift, per_channel=int(step.mantissa.size > 1))


def _dropped(bits: int) -> dict[str, int]:
    """Returns the field of dropped bits; errors of 8 bits never drop any."""
    return {"dropped_bits": bits} if bits else {}
