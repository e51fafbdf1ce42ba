"""What the parts of a `.tflite` must agree on, beyond what each of them says."""

from rct_tflite.errors import ModelFileError, UnsupportedLayerError
from rct_tflite.spec.graph import Graph, OpKind, Tensor

_MOVES = (OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D, OpKind.RESHAPE, OpKind.CONCATENATION, OpKind.PAD, OpKind.RELU6)
"""Ops that move bytes: input and output have one quantisation."""
_FIXED_OUTPUT = {
    OpKind.SOFTMAX: (1 / 256, -128),
    OpKind.LOGISTIC: (1 / 256, -128),
    OpKind.TANH: (1 / 128, 0),
}
"""Scale and zero point that TFLite gives the output of these ops."""


def check_quantization(name: str, kind: OpKind, sources: list[Tensor], target: Tensor) -> None:
    """Refuses scales that TFLite-Micro's kernel of this kind does not work with."""
    found = (target.scale, target.zero_point)
    wanted = _FIXED_OUTPUT.get(kind, found)
    if found != wanted:
        raise UnsupportedLayerError(
            f"Op {name!r} ({kind.name}) must have scale {wanted[0]} and zero point {wanted[1]} at its output. "
            f"Received: {found}."
        )
    for source in sources if kind in _MOVES else sources[1:] if kind is OpKind.GATHER else []:
        if (source.scale, source.zero_point) != found:
            raise UnsupportedLayerError(
                f"Op {name!r} must keep its input's scale and zero point. "
                f"Received: ({source.scale}, {source.zero_point}) and {found}."
            )


def check_read(graph: Graph) -> None:
    """Refuses an op whose output nothing reads."""
    read = {index for op in graph.ops for index in op.inputs} | {graph.output}
    unread = [op.name for op in graph.ops if op.output not in read]
    if unread or graph.input not in read:
        raise UnsupportedLayerError(
            f"Every tensor must lead to the output. Received: {unread or ['the input']}, which is never read. "
            "Export the model without it."
        )


def check_layers(graph: Graph) -> None:
    """Checks that the metadata speaks of ops that are there."""
    weighted = [op.name for op in graph.ops if op.has_weights]
    unknown = [layer.name for layer in graph.training.layers if layer.name not in weighted]
    if unknown:
        raise ModelFileError(
            f"The metadata names layers that the file does not hold. Expected some of {weighted}. Received: {unknown}."
        )
