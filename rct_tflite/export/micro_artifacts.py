"""A folder of plain files that puts one network into a TensorFlow Lite Micro project."""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import DataError, ModelFileError, OutputFolderError
from rct_tflite.spec.graph import Graph, Inputs, OpKind, Tensor
from rct_tflite.spec.templates import templates_folder
from rct_tflite.tflite.flatfile import Span
from rct_tflite.tflite.oracle import ArenaUse, arena_use, run_micro
from rct_tflite.tflite.patch import WeightPlace, find_weights
from rct_tflite.tflite.reader import unique_identifiers

MAX_VECTORS = 4
"""Samples that become test vectors."""

_WHEEL = "tflite-micro"
_FILES = {
    "model.h": "{}_model.h",
    "model.cc": "{}_model.cc",
    "tflm.h": "{}_tflm.h",
    "tflm.cc": "{}_tflm.cc",
    "weights.h": "{}_weights.h",
    "weights.c": "{}_weights.c",
    "test_vectors.h": "{}_test_vectors.h",
    "self_test.c": "{}_self_test.c",
    "README.md": "README.md",
}
_METHODS = {
    OpKind.ADD: "AddAdd",
    OpKind.AVERAGE_POOL_2D: "AddAveragePool2D",
    OpKind.CONCATENATION: "AddConcatenation",
    OpKind.CONV_2D: "AddConv2D",
    OpKind.DEPTHWISE_CONV_2D: "AddDepthwiseConv2D",
    OpKind.FULLY_CONNECTED: "AddFullyConnected",
    OpKind.GATHER: "AddGather",
    OpKind.HARD_SWISH: "AddHardSwish",
    OpKind.LEAKY_RELU: "AddLeakyRelu",
    OpKind.LOGISTIC: "AddLogistic",
    OpKind.MAX_POOL_2D: "AddMaxPool2D",
    OpKind.MEAN: "AddMean",
    OpKind.MUL: "AddMul",
    OpKind.PAD: "AddPad",
    OpKind.QUANTIZE: "AddQuantize",
    OpKind.RELU: "AddRelu",
    OpKind.RELU6: "AddRelu6",
    OpKind.RESHAPE: "AddReshape",
    OpKind.SOFTMAX: "AddSoftmax",
    OpKind.SUB: "AddSub",
    OpKind.TANH: "AddTanh",
    OpKind.TRANSPOSE_CONV: "AddTransposeConv",
}
_TYPED = (
    OpKind.ADD,
    OpKind.AVERAGE_POOL_2D,
    OpKind.CONV_2D,
    OpKind.DEPTHWISE_CONV_2D,
    OpKind.FULLY_CONNECTED,
    OpKind.MAX_POOL_2D,
    OpKind.MUL,
    OpKind.PAD,
    OpKind.SOFTMAX,
    OpKind.TRANSPOSE_CONV,
)
"""Kinds with a registration of CMSIS-NN's int8 kernel alone."""
_BYTES_A_ROW = 16
_INTEGERS_A_ROW = 16
_SCALES_A_ROW = 6
_ALLOCATOR_SLACK = 512
"""Bytes: alignment and bookkeeping of the scratch buffers."""


@dataclass(frozen=True)
class MicroArtifacts:
    """What was written.

    Attributes:
        name: Prefix of the files and of the C names.
        files: Their names in the folder, sorted.
        arena: Measured with TFLite-Micro's reference kernels on this host.
        arena_bytes: The arena that the files ask for: measured, and a margin for CMSIS-NN.
        test_vectors: Number of recorded samples.
    """

    name: str
    files: tuple[str, ...]
    arena: ArenaUse
    arena_bytes: int
    test_vectors: int


def write_micro_artifacts(folder: Path, graph: Graph, model: bytes, samples: Inputs) -> MicroArtifacts:
    """Writes the folder; equal arguments give equal bytes.

    Args:
        folder: Made if needed. It may hold an earlier result of the same network, nothing else.
        graph: What `read_graph()` read from `model`; its name names the files.
        model: The `.tflite`.
        samples: int8, or int32 ids, (samples, ...) in the input's shape. The first four become test vectors.

    Returns:
        What was written, with the measured arena.

    Raises:
        OutputFolderError: If the folder holds other files or cannot be written.
        DataError: If there are no samples or they do not fit the model.
        ToolchainError: If the tflite-micro wheel is not installed.
    """
    if len(samples) == 0:
        raise DataError("The test vectors need samples. Expected at least one. Received: none.")
    name = unique_identifiers([graph.name])[0]
    vectors = samples[:MAX_VECTORS]
    outputs = run_micro(model, vectors)
    arena = arena_use(model)
    arena_bytes = -(-(arena.smallest_bytes + arena_margin(graph)) // 16) * 16
    values = {
        "name": name,
        "prefix": name.upper(),
        **_model_values(graph, model),
        **_input_values(graph),
        **_tensor_values("output", graph.tensors[graph.output]),
        **_arena_values(arena, arena_bytes),
        **_vector_values(vectors, outputs),
    }
    files = {f"{name}.tflite": model}
    for template, pattern in _FILES.items():
        files[pattern.format(name)] = _render(f"glue/{template}.j2", values).encode()
    _write(folder, files)
    return MicroArtifacts(name, tuple(sorted(files)), arena, arena_bytes, len(vectors))


def arena_margin(graph: Graph) -> int:
    """Bounds what CMSIS-NN takes beyond the reference kernels, in bytes.

    Scratch is shared between ops, so the largest counts: a convolution unrolls up to four windows of int8 or two of
    int16, an average pool sums a pixel in int32. On Helium each dense layer also keeps an int32 sum per unit.
    """
    scratch = sums = 0
    for op in graph.ops:
        if op.kind in (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.TRANSPOSE_CONV):
            window = int(np.prod(graph.tensors[op.inputs[1]].shape[1:]))
            scratch = max(scratch, 4 * (-(-window // 16) * 16))
        elif op.kind is OpKind.AVERAGE_POOL_2D:
            scratch = max(scratch, 4 * graph.tensors[op.output].shape[-1])
        elif op.kind is OpKind.FULLY_CONNECTED:
            sums += 4 * graph.tensors[op.output].size
    return scratch + sums + _ALLOCATOR_SLACK


def _model_values(graph: Graph, model: bytes) -> dict[str, Any]:
    kinds = sorted({op.kind for op in graph.ops}, key=lambda kind: kind.name)
    places = find_weights(model)
    if [place.op.kind for place in places] != [op.kind for op in graph.ops if op.has_weights]:
        raise ModelFileError("The graph was not read from this .tflite. Expected the result of read_graph(model).")
    per_channel = any(graph.tensors[op.inputs[1]].quantization.scales.size > 1 for op in _dense(graph))
    return {
        "model_bytes": len(model),
        "model_rows": _rows([f"0x{byte:02x}" for byte in model], _BYTES_A_ROW),
        "ops": [kind.name for kind in kinds],
        "op_count": len(kinds),
        "plain_calls": [f"{_METHODS[kind]}()" for kind in kinds],
        "typed_calls": [f"{_METHODS[kind]}({_typed_registration(kind)})" for kind in kinds],
        "layers": [_layer_values(graph, place) for place in places],
        "arduino_note": _ARDUINO_NOTES[per_channel],
    }


_ARDUINO_NOTES = {
    False: "Its ops are among those of TFLM of 2023, on which Arduino's ports rest.",
    True: "**This network has dense layers with one scale per channel, which needs a TFLM of September 2024 or later:\n"
    "older ports refuse it or give wrong results.** Train with `per_channel=False` for them.",
}


def _dense(graph: Graph) -> list[Any]:
    return [op for op in graph.ops if op.kind is OpKind.FULLY_CONNECTED]


def _typed_registration(kind: OpKind) -> str:
    """Returns the registration of CMSIS-NN's int8 kernel alone, nothing where there is none."""
    return f"tflite::Register_{kind.name}_INT8()" if kind in _TYPED else ""


def _layer_values(graph: Graph, place: WeightPlace) -> dict[str, Any]:
    quantization = graph.tensors[place.op.inputs[1]].quantization
    assert quantization is not None
    trainable = any(layer.name == place.op.name and layer.trainable for layer in graph.training.layers)
    bias = place.bias or Span(0, 0)
    return {
        "label": json.dumps(place.op.name),
        "weights_offset": place.weights.offset,
        "weights_bytes": place.weights.length,
        "bias_offset": bias.offset,
        "bias_bytes": bias.length,
        "scale_rows": _rows([_c_float(scale) for scale in quantization.scales], _SCALES_A_ROW),
        "scale_count": quantization.scales.size,
        "bits": graph.bits_of(place.op),
        "trainable": int(trainable),
    }


def _input_values(graph: Graph) -> dict[str, Any]:
    """Returns what is said of the input: int8 with a scale, or ids of 32 bits without."""
    tensor = graph.tensors[graph.input]
    if not graph.takes_ids:
        values, ids = _tensor_values("input", tensor), 0
    else:
        values, ids = {"input_shape": str(tensor.shape), "input_bytes": 4 * tensor.size}, graph.id_limit
    ctype, member, kind = ("int32_t", "i32", "kTfLiteInt32") if ids else ("int8_t", "int8", "kTfLiteInt8")
    fields = {"input_ctype": ctype, "input_member": member, "input_type": kind}
    return {**values, **fields, "input_count": tensor.size, "input_ids": ids}


def _tensor_values(role: str, tensor: Tensor) -> dict[str, Any]:
    assert tensor.quantization is not None
    scale = tensor.quantization.scales[0]
    return {
        f"{role}_shape": str(tensor.shape),
        f"{role}_bytes": tensor.size,
        f"{role}_scale": _c_float(scale),
        f"{role}_scale_text": str(scale),
        f"{role}_zero_point": tensor.zero_point,
    }


def _arena_values(arena: ArenaUse, arena_bytes: int) -> dict[str, Any]:
    return {
        "arena_measured": arena.smallest_bytes,
        "arena_allocated": arena.allocated_bytes,
        "arena_bytes": arena_bytes,
        "arena_margin": arena_bytes - arena.smallest_bytes,
        "oracle_version": f"{_WHEEL} {importlib.metadata.version(_WHEEL)}",
    }


def _vector_values(inputs: Inputs, outputs: npt.NDArray[np.int8]) -> dict[str, Any]:
    return {
        "vectors": len(inputs),
        "vector_inputs": [_rows(map(str, sample.ravel().tolist()), _INTEGERS_A_ROW, 8) for sample in inputs],
        "vector_outputs": [_rows(map(str, sample.ravel().tolist()), _INTEGERS_A_ROW, 8) for sample in outputs],
    }


def _c_float(value: np.float32) -> str:
    """Returns a C float literal that reads back as the same float."""
    literal = repr(float(str(np.float32(value))))
    return f"{literal}f"


def _rows(items: Any, per_row: int, indent: int = 4) -> str:
    """Lays out the elements of a C initialiser."""
    cells = list(items)
    rows = [", ".join(cells[start : start + per_row]) for start in range(0, len(cells), per_row)]
    return "\n".join(f"{' ' * indent}{row}," for row in rows)


def _render(template: str, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(values)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted({path.name for path in folder.iterdir()} - files.keys())
        if others:
            raise OutputFolderError(
                "The output folder holds other files. Expected an empty folder, or an earlier result of this network. "
                f"Received: {others[:5]}. Choose another folder."
            )
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise OutputFolderError(f"Cannot write the output folder. Received: {error}. Choose another folder.") from error
