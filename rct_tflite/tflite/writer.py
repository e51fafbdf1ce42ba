"""Writes the trained integers, scales and zero points into a `.tflite`, exactly."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rct_tflite.errors import ModelFileError, QuantizationError
from rct_tflite.spec.graph import LEARNING_KINDS, OpKind, TrainingMetadata
from rct_tflite.spec.network import INPUT, TrainedLayer, TrainedNetwork, TrainedWeights
from rct_tflite.spec.quantization import AffineQuantization, round_scale, top
from rct_tflite.tflite.attributes import constant_input, schema_options, version_of
from rct_tflite.tflite.flatfile import int_tuple, load_model, pack_model, schema, text
from rct_tflite.tflite.metadata import METADATA_NAME, encode_metadata, training_for
from rct_tflite.tflite.reader import parameter_positions
from rct_tflite.tflite.wide import WIDE_NAME, encode_wide

INPUT_NAME = "input"
DESCRIPTION = "rct-tflite"

_KEPT_METADATA = (b"min_runtime_version",)
_PER_CHANNEL_DENSE_VERSION = 12
"""Version of TFLite's FULLY_CONNECTED that knows one scale per output channel."""
_TRANSPOSE_WITH_BIAS_VERSION = 3
"""Version of TFLite's TRANSPOSE_CONV that reads a bias."""
_KEEPS = (OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D, OpKind.RESHAPE, OpKind.CONCATENATION, OpKind.PAD)
"""Ops that move values: their result has their inputs' quantisation."""


def write_exact(converted: bytes, network: TrainedNetwork, training: TrainingMetadata) -> bytes:
    """Makes a file of exactly the trained numbers from what TFLiteConverter wrote.

    The converter stores scales in float32 after arithmetic of its own, merges equal constants and drops zero
    biases. Here each layer gets its own constants, a bias, its name, and the 12-bit scales; the integers must be
    the trained ones already. What has no weights is written from the network alone.

    Args:
        converted: The converter's file, with the ops that have weights in the network's order.
        network: The network that it was made from.
        training: Stored in the file; see `metadata.training_for()` for what is completed.

    Returns:
        The file's bytes: equal arguments give equal bytes, constants are aligned to 16 bytes.

    Raises:
        ModelFileError: If the converter wrote other ops or other integers than the network's.
        QuantizationError: If a number does not fit the `.tflite` quantisation.
    """
    training = training_for(network, training)
    model = load_model(converted)
    writer = _Writer(model)
    writer.add_network(network)
    writer.add_metadata(METADATA_NAME.encode(), encode_metadata(training))
    wide = [weights.wide for layer in network.layers if (weights := layer.weights) and weights.wide is not None]
    if wide:
        writer.add_metadata(WIDE_NAME.encode(), encode_wide(wide))
    return pack_model(writer.finish())


def bias_integers(layer: TrainedLayer, source: AffineQuantization) -> npt.NDArray[np.int32]:
    """Rounds a layer's bias to its accumulator's scale, `input scale * weight scale`.

    Raises:
        QuantizationError: If a bias does not fit int32.
    """
    weights = _weights_of(layer)
    rounded = np.rint(weights.bias / (source.scale * weights.scales))
    limits = np.iinfo(np.int32)
    if not (np.isfinite(rounded) & (rounded >= limits.min) & (rounded <= limits.max)).all():
        raise QuantizationError(
            f"The bias of layer {layer.name!r} does not fit int32. Expected at most {limits.max} steps. "
            f"Received: {np.abs(rounded).max():.3g} steps. Check the training for an exploded or collapsed layer."
        )
    return rounded.astype(np.int32)


def _weights_of(layer: TrainedLayer) -> TrainedWeights:
    if layer.weights is None:
        raise ModelFileError(f"Layer {layer.name!r} of kind {layer.kind.name} has no weights. Received: None.")
    return layer.weights


@dataclass
class _Writer:
    """Builds tensors, buffers and ops anew, beside the converter's, in the order of execution."""

    model: Any
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    metadata: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.model.subgraphs or []) != 1:
            raise ModelFileError("The converter wrote no single subgraph. Expected one.")
        self.converted = self.model.subgraphs[0]
        self._new_buffer(None)  # buffer 0 is the empty one by TFLite's rule
        for entry in self.model.metadata or []:
            if entry.name in _KEPT_METADATA:
                self.add_metadata(entry.name, self.model.buffers[entry.buffer].data.tobytes())

    def add_network(self, network: TrainedNetwork) -> None:
        numbers = {INPUT: self._input(network)}
        weighted = iter(_weighted_ops(self.model, network))
        for place, layer in enumerate(network.layers):
            sources = network.sources(place)
            grids = [network.quantization(source) for source in sources]
            inputs = [numbers[source] for source in sources]
            raw = None
            if layer.weights is not None:
                raw = next(weighted)
                self._check_integers(layer, raw)
                inputs = self._weighted_inputs(layer, inputs[0], grids[0])
            else:
                _check_kept(layer, grids)
                constant = constant_input(layer)
                if constant is not None:
                    inputs.append(self._constant(f"{layer.name}/{constant[0]}", constant[1], None))
            numbers[place] = self._activation(layer.name, layer.output_shape, layer.output)
            self._operator(layer, raw, inputs, numbers[place])

    def add_metadata(self, name: bytes, content: bytes) -> None:
        buffer = self._new_buffer(np.frombuffer(content, np.uint8))
        self.metadata.append(schema().MetadataT(name=name, buffer=buffer))

    def finish(self) -> Any:
        fb = schema()
        subgraph = fb.SubGraphT(
            tensors=self.tensors,
            inputs=[0],
            outputs=[int(self.operators[-1].outputs[0])],
            operators=self.operators,
            name="main",
        )
        return fb.ModelT(
            version=self.model.version,
            operatorCodes=self.codes,
            subgraphs=[subgraph],
            description=DESCRIPTION,
            buffers=self.buffers,
            metadata=self.metadata,
        )

    def _new_buffer(self, data: npt.NDArray[np.uint8] | None) -> int:
        self.buffers.append(schema().BufferT(data=data))
        return len(self.buffers) - 1

    def _new_tensor(self, tensor: Any) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _activation(self, name: str, shape: tuple[int, ...], quantization: AffineQuantization) -> int:
        fb = schema()
        exact = _quantization(name, np.array([quantization.scale]), quantization.zero_point)
        tensor = fb.TensorT(shape=[1, *shape], type=fb.TensorType.INT8, name=name, quantization=exact, hasRank=True)
        return self._new_tensor(tensor)

    def _input(self, network: TrainedNetwork) -> int:
        if not network.takes_ids:
            return self._activation(INPUT_NAME, network.input_shape, network.input)
        fb, shape = schema(), [1, *network.input_shape]
        return self._new_tensor(fb.TensorT(shape=shape, type=fb.TensorType.INT32, name=INPUT_NAME, hasRank=True))

    def _constant(self, name: str, values: npt.NDArray[np.generic], quantization: Any) -> int:
        fb = schema()
        little_endian = values.astype(values.dtype.newbyteorder("<"))
        buffer = self._new_buffer(np.frombuffer(little_endian.tobytes(), np.uint8))
        kind = {1: fb.TensorType.INT8, 4: fb.TensorType.INT32}[values.dtype.itemsize]
        shape = list(values.shape)
        return self._new_tensor(
            fb.TensorT(shape=shape, type=kind, buffer=buffer, name=name, quantization=quantization, hasRank=True)
        )

    def _weighted_inputs(self, layer: TrainedLayer, source: int, grid: AffineQuantization) -> list[int]:
        """Adds the weights and the bias of a layer; returns what its op reads, in the op's order."""
        if layer.kind is OpKind.GATHER:
            return [self._integers(layer, 0), source]
        if layer.kind is not OpKind.TRANSPOSE_CONV:
            return [source, *self._weights(layer, grid)]
        shape = self._constant(f"{layer.name}/shape", np.array((1, *layer.output_shape), np.int32), None)
        weights, bias = self._weights(layer, grid)
        return [shape, weights, source, bias]

    def _weights(self, layer: TrainedLayer, source: AffineQuantization) -> tuple[int, int]:
        """Adds the weights and the bias of a layer; returns their tensors."""
        weights = _weights_of(layer)
        own = self._integers(layer, weights.integers.ndim - 1 if layer.kind is OpKind.DEPTHWISE_CONV_2D else 0)
        # The product of two 12-bit mantissas is exact in float32, so it is not rounded to 12 bits.
        products = _schema_quantization(source.scale * weights.scales, 0)
        return own, self._constant(f"{layer.name}/bias", bias_integers(layer, source), products)

    def _integers(self, layer: TrainedLayer, axis: int) -> int:
        """Adds the weights of a layer, whose output channels are along `axis`; returns their tensor."""
        weights = _weights_of(layer)
        if weights.scales.size not in (1, weights.integers.shape[axis]):
            raise QuantizationError(
                f"Layer {layer.name!r} must have one scale, or one per output channel. "
                f"Expected 1 or {weights.integers.shape[axis]}. Received: {weights.scales.size}."
            )
        limit, integers = top(weights.bits), weights.integers if weights.wide is None else weights.wide
        if np.abs(integers.astype(np.int32)).max() > limit:
            raise QuantizationError(
                f"Layer {layer.name!r} has weights out of range. Expected {-limit} to {limit} at {weights.bits} bits. "
                f"Received: {integers.min()} to {integers.max()}."
            )
        exact = _quantization(f"{layer.name}/weights", weights.scales, 0, axis)
        return self._constant(f"{layer.name}/weights", weights.integers, exact)

    def _operator(self, layer: TrainedLayer, raw: Any, inputs: list[int], output: int) -> None:
        if raw is None:
            version = version_of(layer)
            options, options_type = schema_options(layer)
        else:
            version = int(self.model.operatorCodes[raw.opcodeIndex].version)
            options, options_type = raw.builtinOptions, raw.builtinOptionsType
        if layer.kind is OpKind.FULLY_CONNECTED and _weights_of(layer).scales.size > 1:
            version = max(version, _PER_CHANNEL_DENSE_VERSION)
        if layer.kind is OpKind.TRANSPOSE_CONV:
            version = max(version, _TRANSPOSE_WITH_BIAS_VERSION)
        self.operators.append(
            schema().OperatorT(
                opcodeIndex=self._code(layer.kind, version),
                inputs=inputs,
                outputs=[output],
                builtinOptions=options,
                builtinOptionsType=options_type,
            )
        )

    def _code(self, kind: OpKind, version: int) -> int:
        for index, code in enumerate(self.codes):
            if code.builtinCode == kind.value:
                code.version = max(code.version, version)
                return index
        # All our kinds are below 127, where old and new readers look at different fields for the same number.
        self.codes.append(
            schema().OperatorCodeT(deprecatedBuiltinCode=kind.value, builtinCode=kind.value, version=version)
        )
        return len(self.codes) - 1

    def _check_integers(self, layer: TrainedLayer, raw: Any) -> None:
        """Raises an error unless the converter wrote the trained integers as a constant."""
        trained = _weights_of(layer).integers
        tensor = self.converted.tensors[int_tuple(raw.inputs)[parameter_positions(layer.kind)[0]]]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.type != schema().TensorType.INT8:
            raise ModelFileError(
                f"The converter did not write the weights of layer {layer.name!r} as an int8 constant. "
                f"Expected {trained.size} integers. Received: type {tensor.type}, "
                f"{0 if data is None else len(data)} bytes. Use the TensorFlow version that pyproject.toml pins."
            )
        written = np.frombuffer(data.tobytes(), np.int8)
        if int_tuple(tensor.shape) != trained.shape or written.size != trained.size:
            raise ModelFileError(
                f"The converter wrote the weights of layer {layer.name!r} in another shape. "
                f"Expected {trained.shape}. Received: {int_tuple(tensor.shape)}."
            )
        differ = int(np.count_nonzero(written.reshape(trained.shape) != trained))
        if differ:
            raise ModelFileError(
                f"The converter changed the weights of layer {layer.name!r}. Expected the trained integers. "
                f"Received: {differ} of {trained.size} differ. Use the TensorFlow version that pyproject.toml pins."
            )


def _check_kept(layer: TrainedLayer, grids: list[AffineQuantization]) -> None:
    if layer.kind in _KEEPS and any(grid != layer.output for grid in grids):
        raise QuantizationError(
            f"Layer {layer.name!r} must keep its input's quantisation. Expected {layer.output}. Received: {grids}."
        )


def _weighted_ops(model: Any, network: TrainedNetwork) -> list[Any]:
    """Returns the converter's op of each layer with weights: in the order of its signature's inputs."""
    entries = [entry for signature in model.signatureDefs or [] for entry in signature.inputs]
    inputs = [int(entry.tensorIndex) for entry in sorted(entries, key=lambda entry: text(entry.name))]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    weighted = {kind.value for kind in LEARNING_KINDS}
    source_of = {OpKind.TRANSPOSE_CONV.value: 2, OpKind.GATHER.value: 1}
    found = [raw for raw in model.subgraphs[0].operators or [] if codes[raw.opcodeIndex] in weighted]

    def order(raw: Any) -> int:
        source = int_tuple(raw.inputs)[source_of.get(codes[raw.opcodeIndex], 0)]
        return inputs.index(source) if source in inputs else len(inputs)

    found.sort(key=order)
    kinds = [codes[raw.opcodeIndex] for raw in found]
    if kinds != [layer.kind.value for layer in network.layers if layer.weights is not None]:
        raise _other_ops(kinds, network)
    return found


def _other_ops(kinds: list[int], network: TrainedNetwork) -> ModelFileError:
    known = {kind.value: kind.name for kind in OpKind}
    return ModelFileError(
        "The converter wrote other ops with weights than the network has. "
        f"Expected {[layer.kind.name for layer in network.layers if layer.weights is not None]}. "
        f"Received: {[known[kind] for kind in kinds]}. "
        "Use the TensorFlow version that pyproject.toml pins."
    )


def _quantization(name: str, scales: npt.NDArray[np.float64], zero_point: int, axis: int = 0) -> Any:
    """Returns the schema's quantisation, once each scale is known to be exact in the file."""
    for scale in scales.tolist():
        if round_scale(scale) != scale or float(np.float32(scale)) != scale:
            raise QuantizationError(
                f"A scale of {name!r} is not rounded to 12 significant bits. "
                f"Expected {round_scale(scale)!r}. Received: {scale!r}. Use spec.quantization.round_scale()."
            )
    return _schema_quantization(scales, zero_point, axis)


def _schema_quantization(scales: npt.NDArray[np.float64], zero_point: int, axis: int = 0) -> Any:
    return schema().QuantizationParametersT(
        scale=scales.astype(np.float32), zeroPoint=np.full(scales.size, zero_point, np.int64), quantizedDimension=axis
    )
