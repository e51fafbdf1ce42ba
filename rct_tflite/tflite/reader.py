"""Reads a `.tflite` file into a `Graph`."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.spec.graph import Graph, Op, OpKind, Tensor, TensorQuantization, TrainingMetadata
from rct_tflite.spec.quantization import ACTIVATION_MAX, ACTIVATION_MIN
from rct_tflite.tflite.flatfile import int_tuple, load_model, schema, text
from rct_tflite.tflite.metadata import METADATA_NAME, decode_metadata
from rct_tflite.tflite.options import OPTION_CLASSES, output_shape, read_options, unsupported_attribute

_SUPPORTED = "int8 " + ", ".join(kind.name for kind in OpKind) + " in a chain with one input, one output and batch 1"
_NOT_IN_C = re.compile(r"[^0-9A-Za-z_]+")
_LARGEST_TENSOR = 1 << 31
_WEIGHTED = (OpKind.CONV_2D, OpKind.FULLY_CONNECTED)
_ABSENT = -1
"""The index of an optional input that is not there."""


@dataclass(frozen=True, eq=False)
class GraphSource:
    """A graph and, per tensor of it, the file's buffer that holds its constant, 0 where there is none."""

    graph: Graph
    buffers: tuple[int, ...]


def read_graph(data: bytes | Path, name: str | None = None) -> Graph:
    """Reads a `.tflite` file: ours, or any int8 file with the ops of `OpKind`.

    With our metadata the ops carry the names of the Keras layers, else a unique C identifier made of the
    output tensor's name. An absent bias becomes zeros. A RESHAPE's shape input is dropped.

    Args:
        data: The file's bytes or its path.
        name: Name of the graph. Default: the path's stem, or "model".

    Returns:
        The graph, whose tensors are renumbered in the order of use.

    Raises:
        ModelFileError: If the file is damaged or contradicts itself.
        UnsupportedLayerError: If it holds ops or types that we do not run; the message lists each of them.
    """
    return read_source(data, name).graph


def read_source(data: bytes | Path, name: str | None = None) -> GraphSource:
    """Reads a graph together with the places of its constants; see `read_graph()`."""
    if isinstance(data, Path):
        name = name or data.stem
        data = _read_bytes(data)
    model = load_model(data)
    return _Reader(_only_subgraph(model), model, _read_metadata(model)).read(name or "model")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"Cannot read the model file. Expected a .tflite, or a folder of 'rct-tflite export'. Received: {error}. "
            "Check the path."
        ) from error


def _only_subgraph(model: Any) -> Any:
    subgraphs = model.subgraphs or []
    if len(subgraphs) != 1:
        raise UnsupportedLayerError(
            f"The model has control flow or is empty. Expected one subgraph. Received: {len(subgraphs)}."
        )
    subgraph = subgraphs[0]
    if not subgraph.operators or not subgraph.tensors or model.buffers is None or model.operatorCodes is None:
        raise ModelFileError("The .tflite file holds no ops. Expected at least one. Export the model again.")
    return subgraph


def _read_metadata(model: Any) -> TrainingMetadata | None:
    for entry in model.metadata or []:
        if text(entry.name) == METADATA_NAME:
            content = _buffer(model, int(entry.buffer))
            return decode_metadata(b"" if content is None else content.tobytes())
    return None


def _buffer(model: Any, index: int) -> npt.NDArray[np.uint8] | None:
    if not 0 <= index < len(model.buffers or []):
        raise ModelFileError(f"The .tflite file is damaged: there is no buffer {index}. Export it again.")
    data: npt.NDArray[np.uint8] | None = model.buffers[index].data
    return data


@dataclass
class _Reader:
    """Walks the ops once, in order, and numbers the tensors anew."""

    subgraph: Any
    model: Any
    training: TrainingMetadata | None
    tensors: list[Tensor] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)

    def read(self, name: str) -> GraphSource:
        self._check_supported()
        inputs, outputs = int_tuple(self.subgraph.inputs), int_tuple(self.subgraph.outputs)
        if len(inputs) != 1 or len(outputs) != 1:
            raise UnsupportedLayerError(
                f"A network must have one input and one output. Received: {len(inputs)} inputs, {len(outputs)} outputs."
            )
        flow, current = inputs[0], self._add(self._activation(inputs[0]))
        ops: list[Op] = []
        for raw, kind, op_name in zip(self.subgraph.operators, self._kinds(), self._op_names(), strict=True):
            if int_tuple(raw.inputs)[0] != flow:
                raise UnsupportedLayerError(
                    f"The network is not a chain: op {op_name!r} does not read the op before it. "
                    f"Supported: {_SUPPORTED}."
                )
            ops.append(self._read_op(raw, kind, op_name, current))
            flow, current = int_tuple(raw.outputs)[0], ops[-1].output
        if flow != outputs[0]:
            raise UnsupportedLayerError(f"The last op does not write the output. Supported: {_SUPPORTED}.")
        graph = Graph(name, tuple(self.tensors), tuple(ops), 0, current, self.training or TrainingMetadata())
        _check_layers(graph)
        return GraphSource(graph, tuple(self.buffers))

    def _kinds(self) -> Iterator[OpKind]:
        return (OpKind(self._code(raw)) for raw in self.subgraph.operators)

    def _code(self, raw: Any) -> int:
        if not 0 <= raw.opcodeIndex < len(self.model.operatorCodes):
            raise ModelFileError(f"The .tflite file is damaged: there is no operator code {raw.opcodeIndex}.")
        code = self.model.operatorCodes[raw.opcodeIndex]
        return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))

    def _raw_tensor(self, index: int) -> Any:
        if not 0 <= index < len(self.subgraph.tensors):
            raise ModelFileError(f"The .tflite file is damaged: there is no tensor {index}. Export it again.")
        return self.subgraph.tensors[index]

    def _output_name(self, raw: Any) -> str:
        outputs = int_tuple(raw.outputs)
        return text(self._raw_tensor(outputs[0]).name) if outputs else ""

    def _op_names(self) -> list[str]:
        names = [self._output_name(raw) for raw in self.subgraph.operators]
        if self.training is None:
            return unique_identifiers(names)
        if len(set(names)) != len(names):
            raise ModelFileError(f"Layer names must differ. Received: {names}. Export the model again.")
        return names

    def _check_supported(self) -> None:
        """Raises one error that names every op we cannot run."""
        problems = []
        for raw in self.subgraph.operators:
            problem = self._problem(raw)
            if problem is not None:
                problems.append(f"{problem} (tensor {self._output_name(raw)!r})")
        if problems:
            hint = ""
            if any(problem.startswith(("SHAPE ", "STRIDED_SLICE ", "PACK ")) for problem in problems):
                hint = " Export with a fixed batch: keras.Input(batch_shape=(1, ...))."
            raise UnsupportedLayerError(
                f"The model holds ops that are not supported. Expected: {_SUPPORTED}. "
                f"Received: {'; '.join(problems)}.{hint} Change the model or quantise it fully to int8."
            )

    def _problem(self, raw: Any) -> str | None:
        fb = schema()
        code = self._code(raw)
        if code not in [kind.value for kind in OpKind]:
            return _name_in(fb.BuiltinOperator, code)
        kind = OpKind(code)
        self._check_arity(raw, kind)
        expected = (fb.TensorType.INT8, fb.TensorType.INT8, fb.TensorType.INT32)
        indices = int_tuple(raw.inputs)[: 3 if kind in _WEIGHTED else 1]
        for index, dtype in zip(indices, expected, strict=False):
            if index != _ABSENT and self._raw_tensor(index).type != dtype:
                found = _name_in(fb.TensorType, self._raw_tensor(index).type)
                return f"{kind.name} on {found} {text(self._raw_tensor(index).name)!r}"
        attribute = unsupported_attribute(kind, raw.builtinOptions)
        return None if attribute is None else f"{kind.name} with {attribute}"

    def _check_arity(self, raw: Any, kind: OpKind) -> None:
        inputs, outputs = int_tuple(raw.inputs), int_tuple(raw.outputs)
        allowed = {OpKind.RESHAPE: (1, 2)}.get(kind, (2, 3) if kind in _WEIGHTED else (1,))
        if len(inputs) not in allowed or len(outputs) != 1:
            raise ModelFileError(
                f"Op {kind.name} has a wrong number of tensors. Expected {allowed} inputs and one output. "
                f"Received: {len(inputs)} and {len(outputs)}."
            )
        wanted = OPTION_CLASSES.get(kind)
        if wanted is not None and type(raw.builtinOptions).__name__ != wanted:
            raise ModelFileError(f"Op {kind.name} {self._output_name(raw)!r} has no options. Export the model again.")

    def _read_op(self, raw: Any, kind: OpKind, name: str, source: int) -> Op:
        options = read_options(kind, name, raw.builtinOptions)
        inputs = [source]
        weights = None
        if kind in _WEIGHTED:
            indices = (*int_tuple(raw.inputs), _ABSENT)
            weights = self._weights(indices[1], kind, name, self.tensors[source])
            inputs.append(self._add(weights, self._raw_tensor(indices[1]).buffer))
            bias = self._bias(indices[2], name, self.tensors[source], weights)
            buffer = 0 if indices[2] == _ABSENT else self._raw_tensor(indices[2]).buffer
            inputs.append(self._add(bias, buffer))
        elif kind is not OpKind.RESHAPE:
            _check_rank(name, self.tensors[source], 4)
        target = self._activation(int_tuple(raw.outputs)[0])
        expected = output_shape(options, self.tensors[source], weights, target)
        if target.shape != expected:
            raise ModelFileError(
                f"The output of op {name!r} has a shape that does not follow from its input. "
                f"Expected {expected}. Received: {target.shape}."
            )
        if weights is None:
            _check_same_quantization(name, self.tensors[source], target)
        return Op(kind, name, tuple(inputs), self._add(target), options)

    def _add(self, tensor: Tensor, buffer: int = 0) -> int:
        self.tensors.append(tensor)
        self.buffers.append(buffer)
        return len(self.tensors) - 1

    def _tensor(self, index: int, dtype: type[np.generic]) -> Tensor:
        """Reads name, shape, quantisation and, for a constant, data."""
        raw = self._raw_tensor(index)
        name, shape = text(raw.name), int_tuple(raw.shape)
        size = math.prod(shape)
        if any(extent < 1 for extent in shape) or size >= _LARGEST_TENSOR:
            raise ModelFileError(f"Tensor {name!r} has an impossible shape. Received: {shape}.")
        if raw.isVariable or raw.sparsity is not None:
            raise UnsupportedLayerError(f"Tensor {name!r} is a variable or sparse. Export the model without state.")
        raw_data = _buffer(self.model, int(raw.buffer))
        data = None
        if raw_data is not None and len(raw_data):
            if len(raw_data) != size * np.dtype(dtype).itemsize:
                raise ModelFileError(
                    f"Constant {name!r} has the wrong length. Expected shape {shape} of {np.dtype(dtype)}. "
                    f"Received: {len(raw_data)} bytes."
                )
            data = np.frombuffer(raw_data.tobytes(), np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
            data.flags.writeable = False
        return Tensor(name, shape, np.dtype(dtype), _quantization(name, raw.quantization), data)

    def _activation(self, index: int) -> Tensor:
        tensor = self._tensor(index, np.int8)
        if self._raw_tensor(index).type != schema().TensorType.INT8 or tensor.quantization is None:
            raise UnsupportedLayerError(f"Tensor {tensor.name!r} is not quantised to int8. Supported: {_SUPPORTED}.")
        if tensor.data is not None or tensor.quantization.scales.size != 1:
            raise ModelFileError(f"Activation {tensor.name!r} must be computed and have one scale.")
        if tensor.shape[:1] != (1,):
            raise UnsupportedLayerError(
                f"Tensor {tensor.name!r} must have batch 1. Received: shape {tensor.shape}. "
                "Export with keras.Input(batch_shape=(1, ...))."
            )
        return tensor

    def _weights(self, index: int, kind: OpKind, name: str, source: Tensor) -> Tensor:
        tensor = self._tensor(index, np.int8)
        if tensor.data is None or tensor.quantization is None:
            raise UnsupportedLayerError(f"The weights of op {name!r} are computed at run time. Expected a constant.")
        rank = 4 if kind is OpKind.CONV_2D else 2
        _check_rank(name, tensor, rank)
        if kind is OpKind.CONV_2D:
            _check_rank(name, source, 4)
        depth = source.shape[-1] if kind is OpKind.CONV_2D else source.size
        quantization = tensor.quantization
        if tensor.shape[-1] != depth:
            raise UnsupportedLayerError(
                f"The weights of op {name!r} do not cover its input. Grouped convolutions and batches are not "
                f"supported. Expected depth {depth}. Received: shape {tensor.shape}."
            )
        scales = quantization.scales.size
        if scales not in (1, tensor.shape[0]) or (scales > 1 and quantization.axis != 0):
            raise ModelFileError(f"The weights of op {name!r} must have one scale, or one per output channel.")
        if quantization.zero_points.any():
            raise UnsupportedLayerError(f"The weights of op {name!r} must be symmetric, with zero point 0.")
        return tensor

    def _bias(self, index: int, name: str, source: Tensor, weights: Tensor) -> Tensor:
        units = weights.shape[0]
        if index == _ABSENT:
            assert weights.quantization is not None
            scales = (source.scale * weights.quantization.scales.astype(np.float64)).astype(np.float32)
            quantization = TensorQuantization(scales, np.zeros(scales.size, np.int64))
            return Tensor(f"{name}/bias", (units,), np.dtype(np.int32), quantization, np.zeros(units, np.int32))
        tensor = self._tensor(index, np.int32)
        if tensor.shape != (units,) or tensor.data is None:
            raise ModelFileError(
                f"The bias of op {name!r} must be a constant of shape {(units,)}. Received: {tensor.shape}."
            )
        return tensor


def unique_identifiers(names: list[str]) -> list[str]:
    """Turns names into distinct C identifiers.

    Example:
        >>> unique_identifiers(["net/conv1;Relu", "net/conv1;Relu", "3x3"])
        ['net_conv1_Relu', 'net_conv1_Relu_1', 'op_3x3']
    """
    taken: set[str] = set()
    identifiers = []
    for name in names:
        stem = _NOT_IN_C.sub("_", name).strip("_") or "op"
        stem = f"op_{stem}" if stem[0].isdigit() else stem
        identifier, number = stem, 0
        while identifier in taken:
            number += 1
            identifier = f"{stem}_{number}"
        taken.add(identifier)
        identifiers.append(identifier)
    return identifiers


def _name_in(enumeration: Any, value: int) -> str:
    """Returns the name of a value of one of the schema's enumerations."""
    return next((name for name, number in vars(enumeration).items() if number == value), f"unknown {value}")


def _quantization(name: str, raw: Any) -> TensorQuantization | None:
    if raw is None or raw.scale is None or len(raw.scale) == 0:
        return None
    scales = np.array(raw.scale, np.float32)
    points = np.zeros(scales.size, np.int64) if raw.zeroPoint is None else np.array(raw.zeroPoint, np.int64)
    if not (np.isfinite(scales).all() and (scales > 0).all()) or points.size != scales.size:
        raise ModelFileError(f"Tensor {name!r} has damaged scales. Expected positive numbers and as many zero points.")
    if points.min() < ACTIVATION_MIN or points.max() > ACTIVATION_MAX:
        raise ModelFileError(f"Tensor {name!r} has a zero point out of int8. Received: {points.tolist()}.")
    return TensorQuantization(scales, points, int(raw.quantizedDimension))


def _check_rank(name: str, tensor: Tensor, rank: int) -> None:
    if len(tensor.shape) != rank:
        raise UnsupportedLayerError(
            f"Tensor {tensor.name!r} of op {name!r} must have {rank} dimensions. Received: shape {tensor.shape}."
        )


def _check_same_quantization(name: str, source: Tensor, target: Tensor) -> None:
    if (source.scale, source.zero_point) != (target.scale, target.zero_point):
        raise UnsupportedLayerError(
            f"Op {name!r} must keep its input's scale and zero point. Received: ({source.scale}, {source.zero_point}) "
            f"and ({target.scale}, {target.zero_point})."
        )


def _check_layers(graph: Graph) -> None:
    """Checks that the metadata speaks of ops that are there."""
    weighted = [op.name for op in graph.ops if op.has_weights]
    unknown = [layer.name for layer in graph.training.layers if layer.name not in weighted]
    if unknown:
        raise ModelFileError(
            f"The metadata names layers that the file does not hold. Expected some of {weighted}. Received: {unknown}."
        )
