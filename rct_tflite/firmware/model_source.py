"""Turns a graph, what learns in it and its memory plan into the generated model.c."""

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.firmware.tables import Table, comment_text, format_struct, table
from rct_tflite.planning.memory import MemoryPlan, error_owner, storage_of
from rct_tflite.reference.constants import (
    BackwardConstants,
    ForwardConstants,
    StepMultiplier,
    backward_constants,
    exp_table,
    forward_constants,
    ops_in_backward,
)
from rct_tflite.reference.network import ReferenceNetwork
from rct_tflite.reference.packing import pack_rows, row_bytes
from rct_tflite.reference.random import DEFAULT_SEED
from rct_tflite.spec.graph import Graph, Op, OpKind
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.training_plan import TrainingPlan

MAX_WINDOW = 255
"""Filter sizes and strides are bytes in rct_window_t."""

MAX_SIZE = 65535
"""All other sizes of the runtime's tables have 16 bits."""

RUNTIME_VERSION = 1
"""Must equal RCT_RUNTIME_VERSION of rct.h: the generated code refuses another one."""

_KERNELS = {
    OpKind.FULLY_CONNECTED: "rct_fully_connected",
    OpKind.CONV_2D: "rct_conv_2d",
    OpKind.MAX_POOL_2D: "rct_max_pool_2d",
    OpKind.AVERAGE_POOL_2D: "rct_average_pool_2d",
}
_STRUCTS = {
    OpKind.FULLY_CONNECTED: "rct_fully_connected_t",
    OpKind.CONV_2D: "rct_conv_2d_t",
    OpKind.MAX_POOL_2D: "rct_pool_2d_t",
    OpKind.AVERAGE_POOL_2D: "rct_pool_2d_t",
}


@dataclass(frozen=True)
class Place:
    """A named address."""

    name: str
    expression: str
    comment: str


@dataclass(frozen=True)
class Struct:
    """A constant struct with its initialiser."""

    ctype: str
    name: str
    fields: str

    @property
    def value(self) -> str:
        """The initialiser, one line per field."""
        return format_struct(self.fields)


@dataclass
class ModelSource:
    """What the template of model.c loops over."""

    network: str
    runtime_version: int
    arena_bytes: int
    parameter_bytes: int
    gains: int
    input_bytes: int
    classes: int
    trace_bytes: int
    golden_count: int
    input: str
    output: str
    loss_error: str
    tables: list[Table] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    backward: list[str] = field(default_factory=list)


def model_source(
    graph: Graph, plan: TrainingPlan, memory: MemoryPlan, golden_inputs: npt.NDArray[np.int8]
) -> ModelSource:
    """Describes model.c.

    Args:
        graph: The network.
        plan: What learns.
        memory: Where everything lies.
        golden_inputs: int8 (n, *input shape without batch); their outputs are the reference's.
    """
    return _Writer(graph, plan, memory).write(golden_inputs)


class _Writer:
    """Walks the graph forth and back."""

    def __init__(self, graph: Graph, plan: TrainingPlan, memory: MemoryPlan) -> None:
        self._graph = graph
        self._plan = plan
        self._memory = memory
        self._backward_ops = ops_in_backward(graph, plan)
        self._backward = backward_constants(graph, plan)
        self._gains = [op.name for op in self._backward_ops[1:] if op.has_weights]
        self._names = _unique_names(graph)
        self._source = ModelSource(
            network=comment_text(graph.name),
            runtime_version=RUNTIME_VERSION,
            arena_bytes=memory.arena_bytes,
            parameter_bytes=memory.parameter_bytes,
            gains=max(len(self._gains), 1),
            input_bytes=graph.tensors[graph.input].size,
            classes=graph.tensors[graph.output].size,
            trace_bytes=sum(graph.tensors[op.output].size for op in graph.ops),
            golden_count=0,
            input=self._activation(graph.input),
            output=self._activation(graph.output),
            loss_error=self._error(graph.ops[-1]),
        )

    def write(self, golden_inputs: npt.NDArray[np.int8]) -> ModelSource:
        self._places()
        for op in self._graph.ops:
            self._check_sizes(op)
            if op.kind is not OpKind.RESHAPE:
                self._forward_op(op)
            output = self._graph.tensors[op.output]
            self._source.forward.append(f"rct_trace({self._activation(op.output)}, {output.size});")
        self._loss()
        for op in reversed(self._backward_ops):
            self._backward_op(op)
        for index in range(self._source.gains):
            self._source.reset.append(f"gains[{index}] = RCT_GAIN_UNSET;")
        self._source.reset.append(f"backward.random = {DEFAULT_SEED}u;")
        self._golden(golden_inputs)
        return self._source

    def _places(self) -> None:
        for placement in self._memory.placements:
            buffer = placement.buffer
            kind, _, key = buffer.name.partition(":")
            expression = f"(arena.bytes + {placement.offset})"
            if kind == "act":
                tensor = int(key)
                name, what = self._activation(tensor), f"activation {self._graph.tensors[tensor].name}"
            elif kind == "err":
                name, what = f"ERROR_{self._names[key].upper()}", f"error at the output of {key}"
            else:
                name, what = buffer.name.upper(), "scratch"
                if kind == "sums":
                    expression = f"((int32_t *)(void *){expression})"
            comment = f"{what}: {buffer.size} bytes, steps {buffer.first} to {buffer.last}"
            self._source.places.append(Place(name, expression, comment_text(comment)))
        for slot in self._memory.slots:
            name = self._names[slot.op]
            rows, bias = f"(parameters.bytes + {slot.rows})", f"(parameters.bytes + {slot.bias})"
            self._source.places.append(Place(f"ROWS_{name.upper()}", rows, comment_text(f"weights of {slot.op}")))
            cast = f"((int32_t *)(void *){bias})"
            self._source.places.append(Place(f"BIAS_{name.upper()}", cast, comment_text(f"biases of {slot.op}")))

    def _forward_op(self, op: Op) -> None:
        name = self._names[op.name]
        c = forward_constants(self._graph, op)
        window = f".window = {self._window(op, c)}, " if c.window else ""
        if op.has_weights:
            weights = self._weights(op, c)
            zero_point = self._graph.tensors[op.inputs[0]].zero_point
            value = (
                f"{{{window}.weights = {weights}, .input_zero_point = {zero_point}, .requant = {self._requant(op, c)}}}"
            )
        else:
            value = f"{{{window}.act_min = {c.act_min}, .act_max = {c.act_max}}}"
        self._source.structs.append(Struct(_STRUCTS[op.kind], f"op_{name}", value))
        row = f"{self._row(op)}, " if op.has_weights else ""
        source, result = self._activation(op.inputs[0]), self._activation(op.output)
        self._source.forward.append(f"{_KERNELS[op.kind]}(&op_{name}, {source}, {row}{result});")

    def _check_sizes(self, op: Op) -> None:
        tensors = [self._graph.tensors[index] for index in (op.inputs[0], op.output)]
        sizes = [size for tensor in tensors for size in tensor.shape]
        if op.has_weights:
            weights = self._graph.tensors[op.inputs[1]]
            sizes.append(weights.size // weights.shape[0])
        window = forward_constants(self._graph, op).window
        steps = [window.filter_h, window.filter_w, window.stride_h, window.stride_w] if window else []
        for what, largest, limit in (
            ("axis or row of weights", max(sizes), MAX_SIZE),
            ("window or stride", max(steps, default=0), MAX_WINDOW),
        ):
            if largest > limit:
                raise UnsupportedLayerError(
                    f"Layer '{op.name}' is too large for the runtime. Expected no {what} above {limit}. "
                    f"Received: {largest}. Split the layer, or pool before it."
                )

    def _weights(self, op: Op, c: ForwardConstants) -> str:
        name, bits = self._names[op.name], self._graph.bits_of(op)
        weights, bias = self._graph.tensors[op.inputs[1]], self._graph.tensors[op.inputs[2]]
        assert weights.data is not None
        assert bias.data is not None
        channels = weights.shape[0]
        depth = weights.size // channels
        rows = pack_rows(weights.data.reshape(channels, depth).astype(np.int16), bits)
        shape = " x ".join(map(str, weights.shape))
        self._add(f"rows_{name}", "uint8_t", f"{op.name}: weights {shape}, {bits} bits", rows)
        self._add(f"bias_{name}", "int32_t", f"{op.name}: biases", bias.data)
        self._add(f"multiplier_{name}", "int32_t", f"{op.name}: requantisation", c.multiplier)
        self._add(f"shift_{name}", "int8_t", f"{op.name}: requantisation", c.shift)
        where = (f"rows_{name}", f"bias_{name}")
        if op.name in self._plan.trained:
            where = (f"ROWS_{name.upper()}", f"BIAS_{name.upper()}")
            self._source.reset.append(f"rct_copy({where[0]}, rows_{name}, sizeof rows_{name});")
            self._source.reset.append(f"rct_copy({where[1]}, bias_{name}, sizeof bias_{name});")
        return (
            f"{{.rows = {where[0]}, .bias = {where[1]}, .channels = {channels}, .depth = {depth}, "
            f".row_bytes = {row_bytes(depth, bits)}, .bits = {bits}}}"
        )

    def _requant(self, op: Op, c: ForwardConstants) -> str:
        name = self._names[op.name]
        return (
            f"{{.multiplier = multiplier_{name}, .shift = shift_{name}, .per_channel = {int(c.multiplier.size > 1)}, "
            f".zero_point = {self._graph.tensors[op.output].zero_point}, "
            f".act_min = {c.act_min}, .act_max = {c.act_max}}}"
        )

    def _window(self, op: Op, c: ForwardConstants) -> str:
        w = c.window
        assert w is not None
        _, in_h, in_w, in_channels = self._graph.tensors[op.inputs[0]].shape
        _, out_h, out_w, out_channels = self._graph.tensors[op.output].shape
        return (
            f"{{.in_h = {in_h}, .in_w = {in_w}, .in_channels = {in_channels}, "
            f".out_h = {out_h}, .out_w = {out_w}, .out_channels = {out_channels}, "
            f".filter_h = {w.filter_h}, .filter_w = {w.filter_w}, "
            f".stride_h = {w.stride_h}, .stride_w = {w.stride_w}, "
            f".pad_top = {w.pad_top}, .pad_left = {w.pad_left}}}"
        )

    def _loss(self) -> None:
        entries = exp_table(self._graph.tensors[self._graph.output])
        self._add("exp_table", "uint16_t", "2**15 * exp(-scale * distance)", entries)
        value = f"{{.exp_table = exp_table, .exp_entries = {entries.size}, .classes = {self._source.classes}}}"
        self._source.structs.append(Struct("rct_loss_t", "loss", value))

    def _backward_op(self, op: Op) -> None:
        if op.kind is OpKind.RESHAPE:
            return
        calls = self._source.backward
        name, error = self._names[op.name], self._error(op)
        c = forward_constants(self._graph, op)
        if c.masks_low:
            high = c.act_max if c.masks_high else 128
            output = self._graph.tensors[op.output]
            calls.append(f"rct_mask({self._activation(op.output)}, {output.size}, {c.act_min}, {high}, {error});")
        deepest = op is self._backward_ops[0]
        passed = "NULL" if deepest else self._error(self._graph.ops[self._graph.ops.index(op) - 1])
        source = self._activation(op.inputs[0])
        if op.has_weights:
            self._grad(op, self._backward[op.name])
            calls.append(f"{_KERNELS[op.kind]}_grad(&op_{name}, &grad_{name}, {source}, {error}, &backward, {passed});")
        elif op.kind is OpKind.MAX_POOL_2D:
            calls.append(f"rct_max_pool_2d_grad(&op_{name}, {source}, {error}, {passed});")
        else:
            calls.append(f"rct_average_pool_2d_grad(&op_{name}, {error}, {passed});")

    def _grad(self, op: Op, c: BackwardConstants) -> None:
        name = self._names[op.name]
        ratio = "NULL"
        if c.ratio is not None:
            ratio = f"ratio_{name}"
            self._add(ratio, "int16_t", f"{op.name}: scale of each channel, 2**14 = the largest", c.ratio)
        learn = "NULL"
        if c.weight_step is not None and c.bias_step is not None:
            learn = f"&learn_{name}"
            self._learn(op, c, c.weight_step, c.bias_step)
        gain = f"&gains[{self._gains.index(op.name)}]" if op.name in self._gains else "NULL"
        value = (
            f"{{.scale = {{.ratio = {ratio}, .guard_bits = {c.guard_bits}}}, .learn = {learn}, .gain = {gain}, "
            f".row = {self._row(op)}, .sums = SUMS}}"
        )
        self._source.structs.append(Struct("rct_grad_t", f"grad_{name}", value))

    def _learn(self, op: Op, c: BackwardConstants, weights: StepMultiplier, bias: StepMultiplier) -> None:
        name = self._names[op.name]
        stochastic = "true" if self._plan.rounding is Rounding.STOCHASTIC else "false"
        value = (
            f"{{.rows = ROWS_{name.upper()}, .bias = BIAS_{name.upper()}, "
            f".weight_step = {self._step(op, 'weight', weights)}, .bias_step = {self._step(op, 'bias', bias)}, "
            f".bias_limit = {c.bias_limit}, .stochastic = {stochastic}}}"
        )
        self._source.structs.append(Struct("rct_learn_t", f"learn_{name}", value))

    def _step(self, op: Op, what: str, step: StepMultiplier) -> str:
        name = self._names[op.name]
        mantissa, shift = f"step_mantissa_{what}_{name}", f"step_shift_{what}_{name}"
        self._add(mantissa, "int16_t", f"{op.name}: {what} update", step.mantissa)
        self._add(shift, "int8_t", f"{op.name}: {what} update", step.shift)
        per_channel = int(step.mantissa.size > 1)
        return f"{{.mantissa = {mantissa}, .shift = {shift}, .per_channel = {per_channel}}}"

    def _golden(self, inputs: npt.NDArray[np.int8]) -> None:
        outputs = ReferenceNetwork(self._graph).run(inputs)
        self._add("golden_inputs", "int8_t", "samples of the self-test", inputs)
        self._add("golden_outputs", "int8_t", "what TFLite-Micro answers to them", outputs)
        self._source.golden_count = len(inputs)

    def _add(self, name: str, ctype: str, comment: str, values: npt.ArrayLike) -> None:
        self._source.tables.append(table(name, ctype, comment, values))

    def _row(self, op: Op) -> str:
        needs_row = op.kind is OpKind.CONV_2D and self._graph.bits_of(op) != 8
        return "ROW" if needs_row else "NULL"

    def _activation(self, tensor: int) -> str:
        return f"ACTIVATION_{storage_of(self._graph, tensor)}"

    def _error(self, op: Op) -> str:
        return f"ERROR_{self._names[error_owner(self._graph, op).name].upper()}"


def _unique_names(graph: Graph) -> dict[str, str]:
    """Turns op names into endings of C identifiers; every identifier has a prefix that says what it is."""
    names: dict[str, str] = {}
    for op in graph.ops:
        base = name = re.sub(r"\W", "_", op.name, flags=re.ASCII).lower()
        number = 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[op.name] = name
    return names
