"""The arena: every buffer of inference and of a training step, its lifetime and its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rct_tflite.planning.extras import Extra, extras_of
from rct_tflite.planning.lifetimes import Buffer, Lifetimes
from rct_tflite.reference.adaptation import block_bytes, header_bytes
from rct_tflite.reference.packing import held_bits, room_bytes
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.training_plan import TrainingPlan

ALIGNMENT = 4


@dataclass(frozen=True)
class Placement:
    """A buffer and its byte offset in the arena."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True)
class ParameterSlot:
    """Where an op's packed rows that learn, and its biases, lie in the parameter block (bytes), and at which width."""

    op: str
    rows: int
    bias: int
    channels: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class MemoryPlan:
    """Everything that the firmware holds in RAM for the network, in bytes.

    Attributes:
        placements: Of activations ("act:<tensor>"), errors ("err:<tensor>"), errors that are added to another one
            ("part:<tensor>:<step>") and scratch ("row", "sums").
        arena_bytes: Size of the arena.
        slots: Parameter block, one entry per trained op in the order of the graph, at the exported widths.
        parameter_bytes: Size of the parameter block.
        state_bytes: Gains, random state, exponents.
        activations: Per computed tensor, the one under whose name its bytes are placed.
        errors: Per tensor with an error, the one under whose name the error is placed.
        exponents: Tensors whose error's exponent is kept in RAM.
        gains: Names of the gains.
        masks: Tensors of whose activation a bit each is kept ("mask:<tensor>").
        again: Tensors that the backward pass computes again, and the one under whose name that copy is placed
            ("again:<tensor>").
        repeats: Names of the ops that do so, by the step before which they run.
        extras: What options of the plan hold beside all that.
        header_bytes: Start of the parameter block, where widths that change are kept; 0 where they stay.
    """

    placements: tuple[Placement, ...]
    arena_bytes: int
    slots: tuple[ParameterSlot, ...]
    parameter_bytes: int
    state_bytes: int
    activations: Mapping[int, int]
    errors: Mapping[int, int]
    exponents: tuple[int, ...]
    gains: tuple[str, ...]
    masks: frozenset[int] = frozenset()
    again: Mapping[int, int] = field(default_factory=dict)
    repeats: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    extras: tuple[Extra, ...] = ()
    header_bytes: int = 0

    def offset(self, name: str) -> int:
        """Returns the offset of a buffer in the arena."""
        return next(p.offset for p in self.placements if p.buffer.name == name)

    @property
    def ram_bytes(self) -> int:
        """Arena, parameters, state and extras together, without the stack and the application."""
        return self.arena_bytes + self.parameter_bytes + self.state_bytes + sum(extra.size for extra in self.extras)


def plan_memory(graph: Graph, plan: TrainingPlan) -> MemoryPlan:
    """Finds all buffers of inference and of a training step, and places them."""
    lifetimes = Lifetimes(graph, plan)
    placements = place(lifetimes.buffers())
    saving = Lifetimes(graph, plan, saves_masks=True, steps=lifetimes.steps)
    if saving.masks:
        smaller = place(saving.buffers())
        if _end(smaller) < _end(placements):  # else the masks would cost instructions for nothing
            lifetimes, placements = saving, smaller
    placed = {placement.buffer.name for placement in placements}
    slots, parameter_bytes = parameter_slots(graph, plan)
    return MemoryPlan(
        placements=placements,
        arena_bytes=_end(placements),
        slots=slots,
        parameter_bytes=parameter_bytes,
        state_bytes=4 * (max(len(lifetimes.gains), 1) + len(lifetimes.exponents)) + 12 if plan.trained else 0,
        activations=lifetimes.activations,
        errors=lifetimes.errors,
        exponents=tuple(lifetimes.exponents),
        gains=tuple(lifetimes.gains),
        masks=lifetimes.masks,
        again={tensor: owner for tensor, owner in lifetimes.again.items() if f"again:{owner}" in placed},
        repeats={step: tuple(op.name for op in ops) for step, ops in lifetimes.repeats.items()},
        extras=extras_of(graph, plan, parameter_bytes),
        header_bytes=header_bytes(plan),
    )


def place(buffers: Sequence[Buffer]) -> tuple[Placement, ...]:
    """Assigns offsets, aligned to 4 bytes; no two buffers whose lifetimes meet overlap.

    Each goes to the lowest offset where nothing alive overlaps it: the largest first or, where that takes less, the
    one that lives longest first, or by size times life.

    Example:
        >>> [p.offset for p in place([Buffer("a", 8, 0, 1), Buffer("b", 4, 1, 2), Buffer("c", 6, 2, 2)])]
        [0, 8, 0]
    """
    orders = [
        sorted(buffers, key=lambda b: (-b.size, b.first, b.name)),
        sorted(buffers, key=lambda b: (b.first - b.last, -b.size, b.name)),
        sorted(buffers, key=lambda b: (-b.size * (b.last - b.first + 1), b.first, b.name)),
    ]
    placed = min((_first_fit(order) for order in orders), key=_end)
    order = {buffer.name: i for i, buffer in enumerate(buffers)}
    return tuple(sorted(placed, key=lambda p: order[p.buffer.name]))


def _first_fit(buffers: Sequence[Buffer]) -> tuple[Placement, ...]:
    placed: list[Placement] = []
    for buffer in buffers:
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
    return tuple(placed)


def _end(placements: Sequence[Placement]) -> int:
    return max((_aligned(p.offset + p.buffer.size) for p in placements), default=0)


def parameter_slots(graph: Graph, plan: TrainingPlan) -> tuple[tuple[ParameterSlot, ...], int]:
    """Returns where what learns of each op lies in the parameter block, and the size of the block in bytes."""
    learning = {
        op.name: plan.channels_of(op.name, graph.row_shape(op)[0]) for op in graph.ops if op.name in plan.trained
    }
    bits = {op.name: held_bits(graph, plan, op) for op in graph.ops if op.name in plan.trained}
    slots, end = slots_at(graph, learning, bits, header_bytes(plan))
    return slots, end if plan.adaptation is None else block_bytes(graph, plan)


def slots_at(
    graph: Graph, learning: Mapping[str, tuple[int, ...]], bits: Mapping[str, int], start: int
) -> tuple[tuple[ParameterSlot, ...], int]:
    """Returns where rows and biases of each op lie, and where the last ones end.

    Args:
        graph: The network.
        learning: Channels whose weights learn, by the name of the op.
        bits: Width of each op.
        start: Bytes before the first one.
    """
    slots, offset = [], start
    for op in graph.ops:
        if op.name in learning:
            channels, depth = graph.row_shape(op)
            bias = offset + room_bytes(len(learning[op.name]), depth, bits[op.name])
            slots.append(ParameterSlot(op.name, offset, bias, learning[op.name], bits[op.name]))
            offset = bias + (4 * channels if op.has_bias else 0)
    return tuple(slots), offset


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
