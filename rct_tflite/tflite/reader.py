"""Reads a `.tflite` file into a `Graph`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.spec.graph import (
    PAIR_KINDS,
    WEIGHTED_KINDS,
    Conv2DOptions,
    Graph,
    Op,
    OpKind,
    Tensor,
    TrainingMetadata,
)
from rct_tflite.spec.quantization import EXPORT_BITS
from rct_tflite.tflite.flatfile import int_tuple, load_model, schema, text
from rct_tflite.tflite.graph_checks import check_layers, check_quantization, check_read
from rct_tflite.tflite.metadata import METADATA_NAME, decode_metadata
from rct_tflite.tflite.options import (
    OPTION_CLASSES,
    output_shape,
    read_options,
    transposed_input_shape,
    unsupported_attribute,
)
from rct_tflite.tflite.tensors import ABSENT, TensorReader, buffer_of, check_rank
from rct_tflite.tflite.wide import WIDE_NAME, WideLayer, decode_wide

_SUPPORTED = "int8 " + ", ".join(kind.name for kind in OpKind) + " with one input, one output and batch 1"
_NEGATIVE_IDS = {"LESS", "SELECT", "SELECT_V2"}
"""What Keras's Embedding puts before GATHER, so that negative ids count from the end."""
_NOT_IN_C = re.compile(r"[^0-9A-Za-z_]+")
_POOLS = (OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D)
_IMAGES = (*_POOLS, OpKind.MEAN)
"""Ops without weights that read (1, height, width, channels)."""
_ARITY = {
    **dict.fromkeys(WEIGHTED_KINDS, (2, 3)),
    **dict.fromkeys(PAIR_KINDS, (2,)),
    OpKind.TRANSPOSE_CONV: (3, 4),
    OpKind.RESHAPE: (1, 2),
    OpKind.PAD: (2,),
    OpKind.MEAN: (2,),
    OpKind.GATHER: (2,),
    OpKind.CONCATENATION: tuple(range(1, 65)),
}
"""Numbers of inputs of the kinds that do not read exactly one."""


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
    return _Reader(_only_subgraph(model), model, _read_training(model)).read(name or "model")


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


def _metadata(model: Any, name: str) -> bytes | None:
    """Returns an entry of the metadata table, None where there is none."""
    for entry in model.metadata or []:
        if text(entry.name) == name:
            content = buffer_of(model, int(entry.buffer))
            return b"" if content is None else content.tobytes()
    return None


def _read_training(model: Any) -> TrainingMetadata | None:
    content = _metadata(model, METADATA_NAME)
    return None if content is None else decode_metadata(content)


@dataclass
class _Reader:
    """Walks the ops once, in order, and numbers the tensors anew; `known` has the new numbers of computed ones."""

    subgraph: Any
    model: Any
    training: TrainingMetadata | None
    known: dict[int, int] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = TensorReader(self.model, self.subgraph)

    def read(self, name: str) -> GraphSource:
        self._check_supported()
        inputs, outputs = int_tuple(self.subgraph.inputs), int_tuple(self.subgraph.outputs)
        if len(inputs) != 1 or len(outputs) != 1:
            raise UnsupportedLayerError(
                f"A network must have one input and one output. Received: {len(inputs)} inputs, {len(outputs)} outputs."
            )
        takes_ids = self.reader.raw(inputs[0]).type == schema().TensorType.INT32
        self.known[inputs[0]] = self._add(
            self.reader.ids(inputs[0]) if takes_ids else self.reader.activation(inputs[0])
        )
        ops = [
            self._read_op(raw, kind, op_name)
            for raw, kind, op_name in zip(self.subgraph.operators, self._kinds(), self._op_names(), strict=True)
        ]
        output = self.known.get(outputs[0])
        if output != ops[-1].output:
            raise UnsupportedLayerError(f"The last op does not write the output. Supported: {_SUPPORTED}.")
        graph = Graph(name, tuple(self.tensors), tuple(ops), 0, output, self.training or TrainingMetadata())
        check_layers(graph)
        check_read(graph)
        graph = replace(graph, wide=self._read_wide(graph))
        return GraphSource(graph, tuple(self.buffers))

    def _read_wide(self, graph: Graph) -> Mapping[str, npt.NDArray[np.int16]]:
        ops, layers = {op.name: op for op in graph.ops}, []
        for layer in graph.training.layers:
            if layer.bits > EXPORT_BITS:
                seen = graph.tensors[ops[layer.name].inputs[1]].data
                assert seen is not None
                layers.append(WideLayer(layer.name, layer.bits, seen))
        return decode_wide(_metadata(self.model, WIDE_NAME), layers)

    def _kinds(self) -> Iterator[OpKind]:
        return (OpKind(self._code(raw)) for raw in self.subgraph.operators)

    def _code(self, raw: Any) -> int:
        if not 0 <= raw.opcodeIndex < len(self.model.operatorCodes):
            raise ModelFileError(f"The .tflite file is damaged: there is no operator code {raw.opcodeIndex}.")
        code = self.model.operatorCodes[raw.opcodeIndex]
        return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))

    def _output_name(self, raw: Any) -> str:
        outputs = int_tuple(raw.outputs)
        return text(self.reader.raw(outputs[0]).name) if outputs else ""

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
            elif any(problem.split()[0] in _NEGATIVE_IDS for problem in problems):
                hint = (
                    " Ids must not be negative: convert tf.gather(table, ids) in place of keras.layers.Embedding, "
                    "or quantise the model with rct.quantize() and export that."
                )
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
        for index, dtype in self._typed_inputs(raw, kind):
            if index != ABSENT and self.reader.raw(index).type != dtype:
                found = _name_in(fb.TensorType, self.reader.raw(index).type)
                return f"{kind.name} on {found} {text(self.reader.raw(index).name)!r}"
        attribute = unsupported_attribute(kind, raw.builtinOptions)
        return None if attribute is None else f"{kind.name} with {attribute}"

    def _check_arity(self, raw: Any, kind: OpKind) -> None:
        inputs, outputs = int_tuple(raw.inputs), int_tuple(raw.outputs)
        allowed = _ARITY.get(kind, (1,))
        if len(inputs) not in allowed or len(outputs) != 1:
            raise ModelFileError(
                f"Op {kind.name} has a wrong number of tensors. Expected {_counts(allowed)} inputs and one output. "
                f"Received: {len(inputs)} and {len(outputs)}."
            )
        wanted = OPTION_CLASSES.get(kind)
        if wanted is not None and type(raw.builtinOptions).__name__ != wanted:
            raise ModelFileError(f"Op {kind.name} {self._output_name(raw)!r} has no options. Export the model again.")

    def _typed_inputs(self, raw: Any, kind: OpKind) -> list[tuple[int, int]]:
        """Pairs inputs with the type that they must have: int8 but for biases and ids."""
        fb = schema()
        if kind in WEIGHTED_KINDS:
            types = (fb.TensorType.INT8, fb.TensorType.INT8, fb.TensorType.INT32)
            return list(zip(_weighted_inputs(raw, kind), types, strict=True))
        indices = int_tuple(raw.inputs)
        if kind is OpKind.GATHER:
            return [(indices[0], fb.TensorType.INT8), (indices[1], fb.TensorType.INT32)]
        count = len(indices) if kind in PAIR_KINDS or kind is OpKind.CONCATENATION else 1
        return [(index, fb.TensorType.INT8) for index in indices[:count]]

    def _read_op(self, raw: Any, kind: OpKind, name: str) -> Op:
        inputs, weights, channels = self._read_inputs(raw, kind, name)
        sources = [self.tensors[index] for index in inputs]
        target = self.reader.activation(int_tuple(raw.outputs)[0])
        integers = self.reader.integers(int_tuple(raw.inputs)[1], name) if kind in (OpKind.PAD, OpKind.MEAN) else None
        options = read_options(kind, name, raw.builtinOptions, len(target.shape), integers)
        if kind in _IMAGES:
            check_rank(name, sources[0], 4)
        if kind is OpKind.TRANSPOSE_CONV:
            assert weights is not None
            assert isinstance(options, Conv2DOptions)
            check_rank(name, target, 4)
            expected = (1, *target.shape[1:3], channels)
            if transposed_input_shape(options, weights, target) != sources[0].shape:
                expected = ()
        else:
            expected = output_shape(options, sources, weights, channels, target)
        if target.shape != expected:
            raise ModelFileError(
                f"The output of op {name!r} has a shape that does not follow from its input. "
                f"Expected {expected or 'operands that fit together'}. Received: {target.shape}."
            )
        if all(source.data is not None for source in sources):
            raise UnsupportedLayerError(f"Op {name!r} reads constants alone. Export the model with its result instead.")
        check_quantization(name, kind, sources, target)
        self.known[int_tuple(raw.outputs)[0]] = output = self._add(target)
        return Op(kind, name, tuple(inputs), output, options)

    def _read_inputs(self, raw: Any, kind: OpKind, name: str) -> tuple[list[int], Tensor | None, int]:
        """Returns the op's inputs, numbered anew, its weights, and their output channels."""
        if kind is OpKind.GATHER:
            return self._read_table(raw, name), None, 0
        if kind not in WEIGHTED_KINDS:
            return [self._operand(index, kind, name) for index, _ in self._typed_inputs(raw, kind)], None, 0
        source, weights_index, bias_index = _weighted_inputs(raw, kind)
        inputs = [self._operand(source, kind, name)]
        reads = self.tensors[inputs[0]]
        weights = self.reader.weights(weights_index, kind, name, reads)
        channels = weights.shape[-1 if kind is OpKind.DEPTHWISE_CONV_2D else 0]
        inputs.append(self._add(weights, self.reader.raw(weights_index).buffer))
        bias = self.reader.bias(bias_index, name, reads, weights, channels)
        inputs.append(self._add(bias, 0 if bias_index == ABSENT else self.reader.raw(bias_index).buffer))
        return inputs, weights, channels

    def _read_table(self, raw: Any, name: str) -> list[int]:
        """Returns the ids and the table that a GATHER reads, numbered anew."""
        table, ids = int_tuple(raw.inputs)
        if ids not in int_tuple(self.subgraph.inputs):
            raise UnsupportedLayerError(
                f"Op {name!r} (GATHER) reads ids that are computed or constant. Expected those of the network's input. "
                f"Received: {text(self.reader.raw(ids).name)!r}. Export the model with ids as its input."
            )
        tensor = self.reader.table(table, name)
        return [self.known[ids], self._add(tensor, self.reader.raw(table).buffer)]

    def _operand(self, index: int, kind: OpKind, name: str) -> int:
        """Returns the new number of a computed tensor, or of a constant that stands beside one."""
        if index in self.known:
            return self.known[index]
        tensor = self.reader.operand(index)
        if tensor.data is None or kind not in PAIR_KINDS:
            raise UnsupportedLayerError(
                f"Op {name!r} reads tensor {tensor.name!r}, which no op before it writes. Supported: {_SUPPORTED}."
            )
        return self._add(tensor, self.reader.raw(index).buffer)

    def _add(self, tensor: Tensor, buffer: int = 0) -> int:
        self.tensors.append(tensor)
        self.buffers.append(buffer)
        return len(self.tensors) - 1


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


def _weighted_inputs(raw: Any, kind: OpKind) -> tuple[int, int, int]:
    """Returns input, weights and bias: TRANSPOSE_CONV reads (output shape, weights, input, bias)."""
    indices = (*int_tuple(raw.inputs), ABSENT)
    if kind is OpKind.TRANSPOSE_CONV:
        return indices[2], indices[1], indices[3]
    return indices[0], indices[1], indices[2]


def parameter_positions(kind: OpKind) -> tuple[int, ...]:
    """Returns where among the inputs of an op in the file its weights and, where it can have one, its bias are."""
    match kind:
        case OpKind.GATHER:
            return (0,)
        case OpKind.TRANSPOSE_CONV:
            return (1, 3)
    return (1, 2)


def _counts(allowed: tuple[int, ...]) -> str:
    return str(allowed) if len(allowed) < 3 else f"{allowed[0]} to {allowed[-1]}"


def _name_in(enumeration: Any, value: int) -> str:
    """Returns the name of a value of one of the schema's enumerations."""
    return next((name for name, number in vars(enumeration).items() if number == value), f"unknown {value}")
