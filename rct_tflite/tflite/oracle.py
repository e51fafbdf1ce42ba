"""TFLite-Micro itself, from its wheel: what every engine of ours must equal, bit for bit.

`tf.lite.Interpreter` is not an oracle: it rounds once where TFLite-Micro rounds twice.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError, ToolchainError
from rct_tflite.spec.graph import Graph, Inputs, Op
from rct_tflite.tflite.flatfile import import_wheel, load_model
from rct_tflite.tflite.reader import read_graph

_ARENA_BASE = 1 << 18
"""Bytes for the interpreter's own structures beside the tensors; far more than any chain of ops needs."""

_PROBE_TIMEOUT_S = 300


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What TFLite-Micro computed for one op: int8, (samples, 1, ...)."""

    op: Op
    values: npt.NDArray[np.int8]


@dataclass(frozen=True)
class ArenaUse:
    """How much arena a model takes in TFLite-Micro's reference kernels on this 64-bit host.

    Attributes:
        smallest_bytes: Smallest arena that sets up and runs, to 16 bytes.
        allocated_bytes: What TFLite-Micro's allocator reports as used; set-up needs a little more for a moment.
    """

    smallest_bytes: int
    allocated_bytes: int


def run_micro(model: bytes, inputs: Inputs) -> npt.NDArray[np.int8]:
    """Runs samples through TFLite-Micro.

    Args:
        model: A `.tflite` that `read_graph()` accepts.
        inputs: int8, or int32 ids, (samples, ...) in the input's shape, with or without its batch axis of 1.

    Returns:
        int8, (samples, ...) in the output's shape without the batch axis.

    Raises:
        DataError: If the inputs do not fit the model.
        ToolchainError: If the wheel is not installed or cannot run the model.
    """
    graph = read_graph(model)
    samples = _samples(graph, inputs)
    interpreter = _interpreter(model, preserve=False)
    outputs = np.empty((len(samples), *graph.tensors[graph.output].shape), np.int8)
    for index, sample in enumerate(samples):
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        outputs[index] = interpreter.get_output(0)
    return outputs[:, 0]


def layer_outputs(model: bytes, inputs: Inputs) -> tuple[LayerOutput, ...]:
    """Runs samples through TFLite-Micro and keeps what each op wrote.

    Args:
        model: A `.tflite` that `read_graph()` accepts.
        inputs: (samples, ...), as for `run_micro()`.

    Returns:
        One entry per op, in the order of execution.

    Raises:
        DataError, ToolchainError: As `run_micro()`.
    """
    graph = read_graph(model)
    samples = _samples(graph, inputs)
    # The graph numbers tensors anew, the interpreter uses the file's numbers.
    indices = [int(raw.outputs[0]) for raw in load_model(model).subgraphs[0].operators]
    shapes = [graph.tensors[op.output].shape for op in graph.ops]
    outputs = [np.empty((len(samples), *shape), np.int8) for shape in shapes]
    interpreter = _interpreter(model, preserve=True)
    for number, sample in enumerate(samples):
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        for output, index in zip(outputs, indices, strict=True):
            output[number] = interpreter.GetTensor(index, 0)["tensor_data"]
    return tuple(LayerOutput(op, values) for op, values in zip(graph.ops, outputs, strict=True))


def arena_use(model: bytes) -> ArenaUse:
    """Measures the arena that a model needs, by trying sizes.

    Each size is tried in a forked process of its own, as TFLite-Micro may die of an arena that is too small;
    a size counts as working if the outputs equal those of an ample arena.

    Args:
        model: A `.tflite` that `read_graph()` accepts.

    Returns:
        Figures of reference kernels and 64-bit pointers. A 32-bit core needs less, CMSIS-NN's scratch buffers more.

    Raises:
        ToolchainError: If the wheel is not installed or cannot run the model.
    """
    graph = read_graph(model)
    ample, ids = _ample_arena(graph), graph.id_limit if graph.takes_ids else 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        # The probe forks, so it must not be this process with its threads; one thread for its NumPy.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        probe = Path(__file__).with_name("arena_probe.py")
        try:
            run = subprocess.run(
                [sys.executable, str(probe), str(path), str(ample), str(ids)],
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"TFLite-Micro did not measure the arena of the model within {_PROBE_TIMEOUT_S} s. "
                "Expected a few seconds. Export again when the computer is less busy."
            ) from error
    if run.returncode != 0:
        raise ToolchainError(
            "TFLite-Micro could not measure the arena of the model. Expected a result of the probe process. "
            f"Received: exit status {run.returncode}, {run.stderr.strip()[-300:]!r}."
        )
    return ArenaUse(**json.loads(run.stdout))


def arena_bytes(model: bytes) -> int:
    """Returns the smallest arena that works, in bytes; see `arena_use()`."""
    return arena_use(model).smallest_bytes


def _ample_arena(graph: Graph) -> int:
    """Returns far more than needed; a multiple of 16, so that the allocator's figure holds no rest of alignment."""
    return _ARENA_BASE + 2 * sum(tensor.size * tensor.dtype.itemsize + 64 for tensor in graph.tensors) // 16 * 16


def _interpreter(model: bytes, preserve: bool) -> Any:
    runtime = import_wheel("python.tflite_micro.runtime")
    modes = runtime.InterpreterConfig
    mode = modes.kPreserveAllTensors if preserve else modes.kAllocationRecording
    try:
        # `intrepreter_config` is how the wheel spells it.
        return runtime.Interpreter.from_bytes(
            model, arena_size=_ample_arena(read_graph(model)), intrepreter_config=mode
        )
    except RuntimeError as error:
        raise ToolchainError(
            f"TFLite-Micro cannot set up this model. Expected ops and types that it runs. Received: {error}."
        ) from error


def _samples(graph: Graph, inputs: Inputs) -> Inputs:
    """Returns the samples as (samples, 1, ...)."""
    shape, dtype = graph.tensors[graph.input].shape, graph.tensors[graph.input].dtype
    if inputs.dtype != dtype or inputs.shape[1:] not in (shape, shape[1:]):
        raise DataError(
            f"The inputs do not fit the model. Expected {dtype} of shape (samples, {', '.join(map(str, shape[1:]))}). "
            f"Received: {inputs.dtype} of shape {inputs.shape}."
        )
    graph.check_ids(inputs)
    return inputs.reshape(len(inputs), *shape).copy()
