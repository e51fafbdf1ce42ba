"""The forward half of model.c: tables, structs and calls of every op."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import UnsupportedLayerError
from rct_tflite.firmware.adaptation_source import adapts, bound_op
from rct_tflite.firmware.source import ModelSource, Names
from rct_tflite.firmware.tables import struct_text
from rct_tflite.reference.constants import ForwardConstants, forward_constants
from rct_tflite.reference.packing import held_bits, held_rows, pack_rows, row_bytes, widest_bits
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, ConcatenationOptions, Op, OpKind, PadOptions

MAX_WINDOW = 255
"""Filter sizes and strides are bytes in rct_window_t."""

MAX_SIZE = 65535
"""All other sizes of the runtime's tables have 16 bits."""

MAX_CLASSES = 4096
"""The sum of more exponentials would not fit TFLite-Micro's SOFTMAX."""

KERNELS = {
    OpKind.FULLY_CONNECTED: "rct_fully_connected",
    OpKind.CONV_2D: "rct_conv_2d",
    OpKind.DEPTHWISE_CONV_2D: "rct_depthwise_conv_2d",
    OpKind.TRANSPOSE_CONV: "rct_transpose_conv",
    OpKind.MAX_POOL_2D: "rct_max_pool_2d",
    OpKind.AVERAGE_POOL_2D: "rct_average_pool_2d",
    OpKind.ADD: "rct_add",
    OpKind.SUB: "rct_add",
    OpKind.MUL: "rct_multiply",
}


def add_forward(names: Names, source: ModelSource, op: Op) -> None:
    """Adds what the forward pass of one op needs to the source of model.c.

    Raises:
        UnsupportedLayerError: If a size does not fit the runtime's tables.
    """
    _Forward(names, source, op, names.operand).add()


def repeated_calls(names: Names, source: ModelSource, op: Op) -> list[str]:
    """Returns the calls of an op in the backward pass, on what is kept there; its tables are in the source already."""
    again = replace(source, tables=[], structs=[], reset=[], forward=[])
    _Forward(names, again, op, names.kept).add()
    return again.forward


class _Forward:
    """One op."""

    def __init__(self, names: Names, source: ModelSource, op: Op, place: Callable[[int], str]) -> None:
        self._names = names
        self._place = place
        self._graph = names.graph
        self._source = source
        self._op = op
        self._c: ForwardConstants = forward_constants(names.graph, op)
        self._name = names.ops[op.name]
        self._input = names.graph.tensors[op.inputs[0]]
        self._output = names.graph.tensors[op.output]

    def add(self) -> None:
        self._check_sizes()
        kind = self._op.kind
        operands = [self._place(index) for index in self._op.inputs]
        output = self._place(self._op.output)
        if kind is OpKind.GATHER:
            self._struct("rct_gather_t", weights=self._weights(), count=self._input.size)
            self._call("rct_gather", f"&op_{self._name}", "IDS", output)
        elif self._op.has_weights:
            part = self._names.plan.channels_of(self._op.name, self._output.shape[-1])
            split = "_split" if 0 < len(part) < self._output.shape[-1] else ""
            self._weighted()
            called = bound_op(self._names, self._op)
            self._call(KERNELS[kind] + split, called, operands[0], self._names.row(self._op), output)
        elif kind in PAIR_KINDS:
            self._call(KERNELS[kind], self._pair(), *operands, output)
        elif kind in TABLE_KINDS:
            self._source.add_table(f"table_{self._name}", "int8_t", f"{self._op.name}: {kind.name}", self._table())
            self._call("rct_table", f"table_{self._name}", operands[0], self._output.size, output)
        elif kind is OpKind.CONCATENATION:
            self._concatenation(operands, output)
        elif kind is OpKind.MEAN:
            self._call("rct_mean", self._mean(), operands[0], output)
        elif kind is OpKind.SOFTMAX:
            self._call("rct_softmax", self._softmax(), operands[0], output)
        elif kind is OpKind.PAD:
            self._call("rct_pad", self._pad(), operands[0], output)
        elif kind is not OpKind.RESHAPE:
            self._call(KERNELS[kind], self._pool(), operands[0], output)

    def _call(self, kernel: str, *arguments: object) -> None:
        self._source.forward.append(f"{kernel}({', '.join(map(str, arguments))});")

    def _struct(self, ctype: str, **fields: object) -> str:
        return self._source.add_struct(ctype, f"op_{self._name}", **fields)

    def _weighted(self) -> None:
        window = {"window": self._window()} if self._c.window else {}
        ctype = "rct_conv_2d_t" if self._c.window else "rct_fully_connected_t"
        weights, zero_point = self._weights(), self._input.zero_point
        self._struct(ctype, **window, weights=weights, input_zero_point=zero_point, requant=self._requant())

    def _pool(self) -> str:
        return self._struct("rct_pool_2d_t", window=self._window(), act_min=self._c.act_min, act_max=self._c.act_max)

    def _pair(self) -> str:
        multiplier, shift = self._c.multiplier.tolist(), self._c.shift.tolist()
        operands = []
        for position, index in enumerate(self._op.inputs):
            tensor = self._graph.tensors[index]
            if tensor.data is not None:
                self._source.add_table(f"constant_{index}", "int8_t", f"{self._op.name}: {tensor.name}", tensor.data)
            scale = (multiplier[position], shift[position]) if len(multiplier) == 3 else (0, 0)
            operands.append(
                struct_text(count=tensor.size, zero_point=tensor.zero_point, multiplier=scale[0], shift=scale[1])
            )
        return self._struct(
            "rct_pair_t",
            first=operands[0],
            second=operands[1],
            subtract=_boolean(self._op.kind is OpKind.SUB),
            count=self._output.size,
            multiplier=multiplier[-1],
            shift=shift[-1],
            zero_point=self._output.zero_point,
            act_min=self._c.act_min,
            act_max=self._c.act_max,
        )

    def _mean(self) -> str:
        _, height, width, channels = self._input.shape
        return self._struct(
            "rct_mean_t",
            positions=height * width,
            channels=channels,
            input_zero_point=self._input.zero_point,
            multiplier=int(self._c.multiplier[0]),
            shift=int(self._c.shift[0]),
            zero_point=self._output.zero_point,
        )

    def _softmax(self) -> str:
        classes = self._input.shape[-1]
        self._source.add_table(f"exps_{self._name}", "int32_t", f"{self._op.name}: 2**31 * exp(-x)", self._table())
        rows = self._input.size // classes
        return self._struct("rct_softmax_t", exp_table=f"exps_{self._name}", rows=rows, classes=classes)

    def _table(self) -> npt.NDArray[np.int64]:
        assert self._c.table is not None
        return self._c.table

    def _concatenation(self, operands: list[str], output: str) -> None:
        assert isinstance(self._op.options, ConcatenationOptions)
        axis, offset = self._op.options.axis, 0
        rows = math.prod(self._output.shape[:axis])
        stride = self._output.size // rows
        for position, operand in enumerate(operands):
            width = self._graph.tensors[self._op.inputs[position]].size // rows
            blocks = self._source.add_struct(
                "rct_blocks_t",
                f"op_{self._name}_{position}",
                rows=rows,
                width=width,
                from_stride=width,
                to_stride=stride,
            )
            self._call("rct_copy_blocks", blocks, operand, f"{output} + {offset}")
            offset += width

    def _pad(self) -> str:
        assert isinstance(self._op.options, PadOptions)
        missing = 4 - len(self._input.shape)
        if missing < 0:
            raise UnsupportedLayerError(
                f"Layer '{self._op.name}' (PAD) must have at most 4 dimensions. Received: shape {self._input.shape}."
            )
        # The batch and what is missing come first: an image of (height, width, channels).
        shape, out_shape = ((1,) * missing + tensor.shape for tensor in (self._input, self._output))
        before = [0] * missing + [first for first, _ in self._op.options.cells]
        return self._struct(
            "rct_pad_t",
            height=shape[1],
            width=shape[2],
            channels=shape[3],
            out_width=out_shape[2],
            out_channels=out_shape[3],
            out_count=self._output.size,
            first=(before[1] * out_shape[2] + before[2]) * out_shape[3] + before[3],
            value=self._input.zero_point,
        )

    def _weights(self) -> str:
        op, name = self._op, self._name
        bits = held_bits(self._graph, self._names.plan, op)
        weights = self._graph.tensors[op.inputs[1]]
        channels, depth = self._graph.row_shape(op)
        rows = pack_rows(held_rows(self._graph, self._names.plan, op), bits)
        shape = " x ".join(map(str, weights.shape))
        self._source.add_table(f"rows_{name}", "uint8_t", f"{op.name}: weights {shape}, {bits} bits", rows)
        if op.has_bias:
            bias = self._graph.tensors[op.inputs[2]].data
            assert bias is not None
            self._source.add_table(f"bias_{name}", "int32_t", f"{op.name}: biases", bias)
            self._source.add_table(f"multiplier_{name}", "int32_t", f"{op.name}: requantisation", self._c.multiplier)
            self._source.add_table(f"shift_{name}", "int8_t", f"{op.name}: requantisation", self._c.shift)
        where, split = self._parameters(name, channels)
        row = row_bytes(depth, bits)
        return struct_text(
            rows=where[0], bias=where[1], channels=channels, depth=depth, row_bytes=row, bits=bits, split=split
        )

    def _parameters(self, name: str, channels: int) -> tuple[tuple[str, str], str]:
        """Returns where rows and biases lie, and what says which rows learn where only some do."""
        plan, op, source = self._names.plan, self._op, self._source
        rows, bias = f"rows_{name}", f"bias_{name}" if op.has_bias else "NULL"
        learning = plan.channels_of(op.name, channels)
        if adapts(self._names, op):  # those of the export: they are bound to others at each call
            split = self._split(name, channels) if 0 < len(learning) < channels else "NULL"
            return (rows, bias), split
        if op.name in plan.trained and op.has_bias:
            bias = f"BIAS_{name.upper()}"
            source.reset.append(f"rct_copy({bias}, bias_{name}, sizeof bias_{name});")
        if not learning:
            return (rows, bias), "NULL"
        rows = f"ROWS_{name.upper()}"
        if len(learning) == channels:
            source.reset.append(f"rct_copy({rows}, rows_{name}, sizeof rows_{name});")
            return (rows, bias), "NULL"
        source.reset.append(f"rct_copy_rows({rows}, &op_{name}.weights);")
        return (rows, bias), self._split(name, channels)

    def _split(self, name: str, channels: int) -> str:
        """Adds which rows learn; returns the address."""
        learning = self._names.plan.channels_of(self._op.name, channels)
        places = np.full(channels, -1)
        places[list(learning)] = np.arange(len(learning))
        self._source.add_table(f"places_{name}", "int16_t", f"{self._op.name}: which row learns, -1: none", places)
        return self._source.add_struct("rct_split_t", f"split_{name}", frozen=f"rows_{name}", places=f"places_{name}")

    def _requant(self) -> str:
        return struct_text(
            multiplier=f"multiplier_{self._name}",
            shift=f"shift_{self._name}",
            per_channel=int(self._c.multiplier.size > 1),
            zero_point=self._output.zero_point,
            act_min=self._c.act_min,
            act_max=self._c.act_max,
        )

    def _window(self) -> str:
        w = self._c.window
        assert w is not None
        _, in_h, in_w, in_channels = self._input.shape
        _, out_h, out_w, out_channels = self._output.shape
        return struct_text(
            in_h=in_h,
            in_w=in_w,
            in_channels=in_channels,
            out_h=out_h,
            out_w=out_w,
            out_channels=out_channels,
            filter_h=w.filter_h,
            filter_w=w.filter_w,
            stride_h=w.stride_h,
            stride_w=w.stride_w,
            pad_top=w.pad_top,
            pad_left=w.pad_left,
        )

    def _check_sizes(self) -> None:
        sizes = [*self._input.shape, *self._output.shape]
        if self._op.has_weights:
            channels, depth = self._graph.row_shape(self._op)
            sizes += [channels, depth, row_bytes(depth, widest_bits(self._graph, self._names.plan, self._op))]
        w = self._c.window
        steps = [w.filter_h, w.filter_w, w.stride_h, w.stride_w] if w else []
        classes = self._input.shape[-1] if self._op.kind is OpKind.SOFTMAX else 0
        for what, largest, limit in (
            ("axis, row of weights or number of rows", max(sizes), MAX_SIZE),
            ("window or stride", max(steps, default=0), MAX_WINDOW),
            ("number of classes", classes, MAX_CLASSES),
        ):
            if largest > limit:
                raise UnsupportedLayerError(
                    f"Layer '{self._op.name}' is too large for the runtime. Expected no {what} above {limit}. "
                    f"Received: {largest}. Split the layer, or pool before it."
                )


def _boolean(value: bool) -> str:
    return "true" if value else "false"
