"""The arena: every buffer of inference and of a training step, its lifetime and its place."""

from collections.abc import Sequence
from dataclasses import dataclass

from rct_tflite.reference.constants import forward_constants, ops_in_backward
from rct_tflite.reference.packing import row_bytes
from rct_tflite.spec.graph import Graph, Op, OpKind, Tensor
from rct_tflite.spec.training_plan import TrainingPlan

ALIGNMENT = 4


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena that is in use from step `first` to step `last`.

    Steps count the forward ops, then the loss, then the backward ops from the last to the deepest.
    """

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Placement:
    """A buffer and its byte offset in the arena."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True)
class ParameterSlot:
    """Where an op's packed rows and biases lie in the parameter block (bytes)."""

    op: str
    rows: int
    bias: int


@dataclass(frozen=True)
class MemoryPlan:
    """Everything that the firmware holds in RAM for the network, in bytes.

    Attributes:
        placements: Of activations ("act:<tensor>"), errors ("err:<op>") and scratch ("row", "sums").
        arena_bytes: Size of the arena.
        slots: Parameter block, one entry per trained op in the order of the graph.
        parameter_bytes: Size of the parameter block.
        state_bytes: Gains, random state, exponents.
    """

    placements: tuple[Placement, ...]
    arena_bytes: int
    slots: tuple[ParameterSlot, ...]
    parameter_bytes: int
    state_bytes: int

    def offset(self, name: str) -> int:
        """Returns the offset of a buffer in the arena."""
        return next(p.offset for p in self.placements if p.buffer.name == name)

    @property
    def ram_bytes(self) -> int:
        """Arena, parameters and state together, without the stack and the application."""
        return self.arena_bytes + self.parameter_bytes + self.state_bytes


def plan_memory(graph: Graph, plan: TrainingPlan) -> MemoryPlan:
    """Places all buffers: the largest first, each at the lowest offset where nothing alive overlaps it."""
    placements = place(_Lifetimes(graph, plan).buffers())
    slots, parameter_bytes = _parameter_slots(graph, plan)
    gains = sum(op.has_weights for op in ops_in_backward(graph, plan))
    return MemoryPlan(
        placements=placements,
        arena_bytes=max((_aligned(p.offset + p.buffer.size) for p in placements), default=0),
        slots=slots,
        parameter_bytes=parameter_bytes,
        state_bytes=4 * gains + 12,
    )


def place(buffers: Sequence[Buffer]) -> tuple[Placement, ...]:
    """Assigns offsets, aligned to 4 bytes; no two buffers whose lifetimes meet overlap.

    Example:
        >>> [p.offset for p in place([Buffer("a", 8, 0, 1), Buffer("b", 4, 1, 2), Buffer("c", 6, 2, 2)])]
        [0, 8, 0]
    """
    placed: list[Placement] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first, b.name)):
        busy = sorted(
            (p.offset, p.offset + p.buffer.size)
            for p in placed
            if p.buffer.first <= buffer.last and buffer.first <= p.buffer.last
        )
        offset = 0
        for start, end in busy:
            if offset + buffer.size <= start:
                break
            offset = max(offset, _aligned(end))
        placed.append(Placement(buffer, offset))
    order = {buffer.name: i for i, buffer in enumerate(buffers)}
    return tuple(sorted(placed, key=lambda p: order[p.buffer.name]))


def storage_of(graph: Graph, tensor: int) -> int:
    """Returns the tensor whose bytes `tensor` shares: RESHAPE moves nothing."""
    for op in graph.ops:
        if op.output == tensor and op.kind is OpKind.RESHAPE:
            return storage_of(graph, op.inputs[0])
    return tensor


def error_owner(graph: Graph, op: Op) -> Op:
    """Returns the op under whose name the error at `op`'s output is stored: RESHAPE hands its own on."""
    for above in graph.ops:
        if above.inputs[0] == op.output and above.kind is OpKind.RESHAPE:
            return error_owner(graph, above)
    return op


class _Lifetimes:
    """Collects the buffers of one network."""

    def __init__(self, graph: Graph, plan: TrainingPlan) -> None:
        self._graph = graph
        self._backward = ops_in_backward(graph, plan)
        self._trained = plan.trained
        self._loss = len(graph.ops)

    def buffers(self) -> list[Buffer]:
        last = self._loss + len(self._backward)
        result = [*self._activations(), *self._errors()]
        convolutions = [op for op in self._graph.ops if op.kind is OpKind.CONV_2D]
        row = max((self._depth(op) for op in convolutions if self._graph.bits_of(op) != 8), default=0)
        if row:
            result.append(Buffer("row", row, 0, last))
        if self._backward:
            # The loss needs a sum per class, a convolution one per weight of a row, FULLY_CONNECTED none.
            depths = [self._depth(op) for op in self._backward if op in convolutions]
            count = max(self._graph.tensors[self._graph.output].size, *depths, 0)
            result.append(Buffer("sums", 4 * count, self._loss, last if depths else self._loss))
        return result

    def _activations(self) -> list[Buffer]:
        spans: dict[int, list[int]] = {}
        for step, tensor in self._uses():
            spans.setdefault(storage_of(self._graph, tensor), []).append(step)
        return [self._buffer("act", t, min(steps), max(steps)) for t, steps in spans.items()]

    def _uses(self) -> list[tuple[int, int]]:
        """Lists (step, tensor) of every read and write of an activation."""
        uses = [(0, self._graph.input), (self._loss, self._graph.output)]
        for step, op in enumerate(self._graph.ops):
            uses += [(step, op.inputs[0]), (step, op.output)]
        for op in self._backward:
            step = self._backward_step(op)
            if op.name in self._trained or op.kind is OpKind.MAX_POOL_2D:
                uses.append((step, op.inputs[0]))
            if forward_constants(self._graph, op).masks_low:
                uses.append((step, op.output))
        return uses

    def _errors(self) -> list[Buffer]:
        """Lists the error at each op's output: written by the op above (or the loss), read at its own step."""
        spans: dict[str, list[int]] = {}
        for op in self._backward:
            owner = error_owner(self._graph, op)
            born = self._loss if owner is self._graph.ops[-1] else self._backward_step(owner) - 1
            spans.setdefault(owner.name, []).extend([born, self._backward_step(op)])
        outputs = {op.name: op.output for op in self._graph.ops}
        return [
            Buffer(f"err:{name}", self._graph.tensors[outputs[name]].size, min(steps), max(steps))
            for name, steps in spans.items()
        ]

    def _backward_step(self, op: Op) -> int:
        return self._loss + len(self._backward) - self._backward.index(op)

    def _buffer(self, kind: str, tensor: int, first: int, last: int) -> Buffer:
        value: Tensor = self._graph.tensors[tensor]
        return Buffer(f"{kind}:{tensor}", value.size, first, last)

    def _depth(self, op: Op) -> int:
        weights = self._graph.tensors[op.inputs[1]]
        return weights.size // weights.shape[0]


def _parameter_slots(graph: Graph, plan: TrainingPlan) -> tuple[tuple[ParameterSlot, ...], int]:
    slots, offset = [], 0
    for op in graph.ops:
        if op.name in plan.trained:
            weights = graph.tensors[op.inputs[1]]
            channels = weights.shape[0]
            bias = _aligned(offset + channels * row_bytes(weights.size // channels, graph.bits_of(op)))
            slots.append(ParameterSlot(op.name, offset, bias))
            offset = bias + 4 * channels
    return tuple(slots), offset


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
