"""Runs single kernels on guarded memory, with tables made from the reference's constants."""

import ctypes
import mmap
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from rct_tflite.reference.constants import exp_table
from rct_tflite.reference.gradients import GAIN_UNSET, ScaledError
from rct_tflite.reference.packing import pack_rows, unpack_rows
from rct_tflite.reference.trainer import ReferenceTrainer
from rct_tflite.spec.graph import OpKind
from rct_tflite.spec.quantization import Rounding
from rct_tflite.spec.templates import templates_folder
from tests.runtime import tables

KERNELS = templates_folder() / "runtime" / "kernels"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
FORWARD = {
    OpKind.FULLY_CONNECTED: "rct_fully_connected",
    OpKind.CONV_2D: "rct_conv_2d",
    OpKind.DEPTHWISE_CONV_2D: "rct_depthwise_conv_2d",
    OpKind.TRANSPOSE_CONV: "rct_transpose_conv",
    OpKind.MAX_POOL_2D: "rct_max_pool_2d",
    OpKind.AVERAGE_POOL_2D: "rct_average_pool_2d",
}


def build_library(folder: Path, *flags: str, wide: bool = False) -> Path:
    """Compiles the kernels, those for weights of more than 8 bits if `wide`; warnings are errors, undefined behaviour
    traps."""
    runtime = shutil.copytree(KERNELS.parent, folder / "runtime")
    if wide:
        shutil.copyfile(runtime / "options" / "wide.h", runtime / "kernels" / "wide.h")
    gcc = shutil.which("gcc")
    trap = ["-fsanitize-undefined-trap-on-error"] if gcc else ["-fsanitize-trap=undefined"]
    compiler = [gcc] if gcc else [sys.executable, "-m", "ziglang", "cc"]
    sources = [*sorted((runtime / "kernels").glob("*.c")), Path(__file__).with_name("table_sizes.c")]
    library = folder / "librct.so"
    command = [
        *compiler,
        *WARNINGS,
        "-O1",
        "-g",
        "-fPIC",
        "-shared",
        "-fsanitize=undefined",
        *trap,
        f"-I{runtime}",
        *flags,
    ]
    subprocess.run([*command, *map(str, sources), "-o", str(library)], check=True)
    return library


class GuardedMemory:
    """Buffers with an inaccessible page before and after: an access outside of a buffer ends the process.

    A buffer lies against the page behind it or, where `at_end` is False, against the page before it.
    """

    slots = 32
    slot_bytes = 64 * mmap.PAGESIZE

    def __init__(self):
        stride = self.slot_bytes + mmap.PAGESIZE
        self._map = mmap.mmap(-1, mmap.PAGESIZE + self.slots * stride)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        for page in range(base, base + self.slots * stride + 1, stride):
            assert mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        self._starts = [mmap.PAGESIZE + slot * stride for slot in range(self.slots)]
        self.used = 0
        self.at_end = True

    def reset(self, at_end: bool) -> None:
        self.used, self.at_end = 0, at_end

    def place(self, values: np.ndarray) -> np.ndarray:
        """A copy of `values` in the next slot."""
        assert 0 < values.nbytes <= self.slot_bytes
        start = self._starts[self.used] + (self.slot_bytes - values.nbytes if self.at_end else 0)
        self.used += 1
        view = np.frombuffer(self._map, values.dtype, values.size, start).reshape(values.shape)
        view[...] = values
        return view

    def garbage(self, count: int, dtype) -> np.ndarray:
        """Scratch whose content must not matter."""
        return self.place(np.full(count, 0x5A, dtype))


class Runtime:
    """The compiled kernels and the memory that they work on."""

    def __init__(self, library: Path):
        self.library = ctypes.CDLL(str(library))
        self.library.rct_argmax.restype = ctypes.c_uint16
        self.library.rct_softmax_cross_entropy.restype = ctypes.c_bool
        self.memory = GuardedMemory()

    def call(self, name: str, *arguments):
        """Calls a kernel: arrays by address (None is NULL), tables by reference."""
        return getattr(self.library, name)(*(_argument(a) for a in arguments))


class DeviceOp:
    """One op of a trainer's graph on the C side, with its own copy of weights, biases and gain."""

    def __init__(self, runtime: Runtime, trainer: ReferenceTrainer, op, at_end=True):
        self.runtime, self.trainer, self.op = runtime, trainer, op
        runtime.memory.reset(at_end)
        network = trainer.network
        self.constants = network.constants[op.name]
        self.source, self.result = (network.graph.tensors[i] for i in (op.inputs[0], op.output))
        self.place = runtime.memory.place
        self.kept = []
        self.table = self._weighted() if op.has_weights else self._pool()
        self.gain = self.place(np.array([GAIN_UNSET], np.int32))
        self.grad = self._grad() if op.name in trainer.constants else None

    def forward(self, value: np.ndarray) -> np.ndarray:
        output = self.runtime.memory.garbage(self.result.size, np.int8)
        scratch = [self.row] if self.op.has_weights else []
        self.runtime.call(FORWARD[self.op.kind], self.table, self.place(value), *scratch, output)
        return output.reshape(self.result.shape[1:])

    def backward(self, value, error: ScaledError, loss_exponent: int, random: int, wants_input_error: bool):
        """Input error (or None) with its exponent, and the random state afterwards."""
        state = tables.Backward(error.exponent, loss_exponent, random)
        count = self.source.size
        dtype, ending = {8: (np.int8, ""), 16: (np.int16, "_16")}[self.trainer.plan.error_bits]
        input_error = self.runtime.memory.garbage(count, dtype) if wants_input_error else None
        arrays = [self.place(value), self.place(error.values.astype(dtype))]
        kernel = f"{FORWARD[self.op.kind]}_grad{ending}"
        self.runtime.call(kernel, self.table, self.grad, *arrays, state, input_error)
        if input_error is None:
            assert state.exponent == error.exponent
            return None, int(state.random)
        return ScaledError(input_error.reshape(self.source.shape[1:]), state.exponent), int(state.random)

    def pool_backward(self, value, error: np.ndarray) -> np.ndarray:
        input_error = self.runtime.memory.garbage(self.source.size, np.int8)
        arrays = [self.place(value)] if self.op.kind is OpKind.MAX_POOL_2D else []
        arrays.append(self.place(error.astype(np.int8)))
        self.runtime.call(FORWARD[self.op.kind] + "_grad", self.table, *arrays, input_error)
        return input_error.reshape(self.source.shape[1:])

    def weights(self) -> np.ndarray:
        return unpack_rows(self.rows, self.table.weights.depth, self.table.weights.bits)

    def _address(self, values, dtype) -> int:
        return address(self.place(np.asarray(values, dtype)))

    def _window(self) -> tables.Window:
        w = self.constants.window
        return tables.Window(
            *self.source.shape[1:], *self.result.shape[1:],
            w.filter_h, w.filter_w, w.stride_h, w.stride_w, w.pad_top, w.pad_left,
        )  # fmt: skip

    def _weighted(self):
        network, op = self.trainer.network, self.op
        integers, bits = network.weights[op.name], network.graph.bits_of(op)
        channels, depth = integers.shape
        self.rows = self.place(pack_rows(integers, bits))
        self.bias = self.place(network.biases[op.name].astype(np.int32))
        self.row = self.runtime.memory.garbage(depth, np.int8)
        weights = tables.Weights(address(self.rows), address(self.bias), channels, depth, self.rows.shape[1], bits)
        c = self.constants
        requant = tables.Requant(
            self._address(c.multiplier, np.int32),
            self._address(c.shift, np.int8),
            c.multiplier.size > 1,
            self.result.zero_point,
            c.act_min,
            c.act_max,
        )
        if op.kind is OpKind.FULLY_CONNECTED:
            return tables.FullyConnected(weights, self.source.zero_point, requant)
        return tables.Conv2D(self._window(), weights, self.source.zero_point, requant)

    def _pool(self) -> tables.Pool2D:
        return tables.Pool2D(self._window(), self.constants.act_min, self.constants.act_max)

    def _grad(self) -> tables.Grad:
        c = self.trainer.constants[self.op.name]
        ratio = None if c.ratio is None else self._address(c.ratio, np.int16)
        learn = None
        if c.weight_step is not None:
            steps = [
                tables.StepMultiplier(
                    self._address(s.mantissa, np.int16), self._address(s.shift, np.int8), s.shift.size > 1
                )
                for s in (c.weight_step, c.bias_step)
            ]
            stochastic = self.trainer.plan.rounding is Rounding.STOCHASTIC
            learn = tables.Learn(address(self.rows), address(self.bias), *steps, c.bias_limit, stochastic)
            self.kept.append(learn)
        sums = self.runtime.memory.garbage(self.table.weights.depth, np.int32)
        scale = tables.ErrorScale(ratio, c.guard_bits, c.dropped_bits)
        return tables.Grad(
            scale, learn and ctypes.addressof(learn), address(self.gain), address(self.row), address(sums)
        )


def loss_table(runtime: Runtime, logits) -> tables.Loss:
    """The table of the loss on a logits tensor."""
    entries = exp_table(logits)
    return tables.Loss(address(runtime.memory.place(entries.astype(np.uint16))), entries.size, logits.size)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _argument(value):
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(address(value))
    if isinstance(value, ctypes.Structure):
        return ctypes.byref(value)
    return value
