"""Does it fit? The planned memory against the target's, before anything is compiled."""

from dataclasses import dataclass

from rct_tflite.errors import FitError
from rct_tflite.planning.extras import WIDTHS, Extra
from rct_tflite.planning.flash import code_bytes, split_bytes, step_table_bytes
from rct_tflite.planning.memory import MemoryPlan
from rct_tflite.reference.packing import row_bytes
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.quantization import EXPORT_BITS
from rct_tflite.spec.target import Target

APPLICATION_RAM_BYTES = 256
"""Static data of the application, rounded up; the linker checks the exact figure."""


@dataclass(frozen=True)
class MemoryNeed:
    """What the network asks of a target, in bytes; `flash_code` is estimated, the linker checks the exact figure."""

    arena: int
    parameters: int
    state: int
    stack: int
    application: int
    flash_weights: int
    flash_code: int
    extras: tuple[Extra, ...] = ()

    @property
    def ram(self) -> int:
        """All RAM."""
        options = sum(extra.size for extra in self.extras)
        return self.arena + self.parameters + self.state + options + self.stack + self.application

    @property
    def flash(self) -> int:
        """All flash."""
        return self.flash_weights + self.flash_code


def memory_need(graph: Graph, memory: MemoryPlan, target: Target) -> MemoryNeed:
    """Adds up what the planned network needs on a target."""
    weights, learning = 0, {slot.op: slot.bits for slot in memory.slots}
    for op in graph.ops:
        if op.has_weights:
            channels, depth = graph.row_shape(op)
            row = row_bytes(depth, learning.get(op.name, min(graph.bits_of(op), EXPORT_BITS)))
            weights += channels * (row + (4 if op.has_bias else 0))
    tables = sum(step_table_bytes(graph, op) for op in graph.ops if op.name in learning)
    tables += split_bytes(graph, {slot.op: slot.channels for slot in memory.slots})
    return MemoryNeed(
        arena=memory.arena_bytes,
        parameters=memory.parameter_bytes,
        state=memory.state_bytes,
        stack=target.stack_bytes,
        application=APPLICATION_RAM_BYTES,
        flash_weights=weights,
        flash_code=code_bytes(graph, learning) + tables,
        extras=memory.extras,
    )


def check_fit(graph: Graph, memory: MemoryPlan, target: Target, ram: int | None = None) -> MemoryNeed:
    """Returns the need, if the target can meet it.

    Args:
        graph: The network.
        memory: Its plan.
        target: Its memories.
        ram: Bytes that the user allows, where that is less than the target has.

    Raises:
        FitError: If RAM or flash is too small: by how much, which tensor is the largest, what to do.
    """
    need = memory_need(graph, memory, target)
    room = target.ram.size if ram is None else min(ram, target.ram.size)
    if need.ram > room:
        whose = f"target '{target.name}' has" if room == target.ram.size else "--ram allows"
        largest = max(memory.placements, key=lambda p: p.buffer.size).buffer
        raise FitError(
            f"The model needs {need.ram} B of RAM; {whose} {room} B ({need.ram - room} B too little). "
            f"Arena {need.arena} B, trained parameters {need.parameters} B, {_extras(need)}stack {need.stack} B. "
            f"The largest buffer is {_describe(graph, largest.name)} with {largest.size} B. "
            f"{_leave_out(need)}Train fewer layers (--train last:1), make that tensor smaller, "
            "or choose a larger target."
        )
    if need.flash > target.flash.size:
        op = max((op for op in graph.ops if op.has_weights), key=lambda op: graph.tensors[op.inputs[1]].size)
        raise FitError(
            f"The model needs {need.flash} B of flash; target '{target.name}' has {target.flash.size} B "
            f"({need.flash - target.flash.size} B too little). The largest weights are those of '{op.name}' with "
            f"{graph.tensors[op.inputs[1]].size} values at {graph.bits_of(op)} bits. "
            "Use fewer bits or a smaller layer, or choose a larger target."
        )
    return need


def _extras(need: MemoryNeed) -> str:
    return "".join(f"{extra.name} {extra.size} B, " for extra in need.extras)


def _leave_out(need: MemoryNeed) -> str:
    names = [extra.name for extra in need.extras]
    budget = "Lower --budget. " if WIDTHS in names else ""
    return f"{budget}Leave options out ({', '.join(names)}). " if names else ""


def _describe(graph: Graph, buffer: str) -> str:
    kind, _, key = buffer.partition(":")
    what = {"act": "activation", "err": "the error at", "part": "a part of the error at"}.get(kind)
    if what is None:
        return f"the scratch buffer '{buffer}'"
    return f"{what} '{graph.tensors[int(key.split(':')[0])].name}'"
