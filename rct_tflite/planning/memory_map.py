"""Where everything lies in a target's memories, what is left, and what to cut if it does not fit."""

from dataclasses import dataclass, replace

from rct_tflite.planning.memory import MemoryPlan, plan_memory
from rct_tflite.reference.packing import held_bits
from rct_tflite.spec.graph import Graph
from rct_tflite.spec.target import Region, Target
from rct_tflite.spec.training_plan import TrainingPlan


@dataclass(frozen=True)
class Piece:
    """One use of a memory, in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class MemoryUse:
    """One memory that the firmware is linked into.

    Attributes:
        name: "flash" or "ram".
        origin: First address.
        size: Bytes that it has.
        regions: Names of the part's memories that it lies in; empty for a core.
        pieces: What lies in it, from its start; the stack at its end comes last.
    """

    name: str
    origin: int
    size: int
    regions: tuple[str, ...]
    pieces: tuple[Piece, ...]

    @property
    def used(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)

    @property
    def free(self) -> int:
        """Bytes that are left; negative by as many as are missing."""
        return self.size - self.used


@dataclass(frozen=True)
class MemoryMap:
    """The memories of a target.

    Attributes:
        flash: Code, tables and weights.
        ram: Arena, trained parameters, state, application and stack.
        unused: Memories of the part that nothing is linked into.
        cuts: What to do about what does not fit, the most effective first; empty if all fits.
    """

    flash: MemoryUse
    ram: MemoryUse
    unused: tuple[Region, ...]
    cuts: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether everything has its place."""
        return self.flash.free >= 0 and self.ram.free >= 0


def map_memory(
    target: Target, flash: tuple[Piece, ...], ram: tuple[Piece, ...], graph: Graph, plan: TrainingPlan
) -> MemoryMap:
    """Lays the pieces into the memories of a target.

    Args:
        target: Its memories.
        flash: What lies in flash.
        ram: What lies in RAM.
        graph: The network, for the cuts.
        plan: What learns, for the cuts.
    """
    uses = {}
    for name, memory, pieces in (("flash", target.flash, flash), ("ram", target.ram, ram)):
        end = memory.origin + memory.size
        names = tuple(r.name for r in target.regions if _inside(r, memory.origin, end))
        uses[name] = MemoryUse(name, memory.origin, memory.size, names, pieces)
    used = {name for use in uses.values() for name in use.regions}
    unused = tuple(region for region in target.regions if region.name not in used)
    cuts = (*_ram_cuts(graph, plan, -uses["ram"].free), *_flash_cuts(graph, plan, -uses["flash"].free))
    return MemoryMap(uses["flash"], uses["ram"], unused, cuts)


def _inside(region: Region, origin: int, end: int) -> bool:
    return region.memory.origin < end and origin < region.memory.origin + region.memory.size


def _ram_cuts(graph: Graph, plan: TrainingPlan, missing: int) -> list[str]:
    if missing <= 0:
        return []
    now = plan_memory(graph, plan)
    cuts = []
    for count in range(len(plan.trained) - 1, 0, -1):
        saved = now.ram_bytes - plan_memory(graph, replace(plan, trained=plan.trained[-count:])).ram_bytes
        if saved >= missing or count == 1:
            enough = "enough" if saved >= missing else f"not enough, {missing - saved} B are still missing"
            cuts.append(f"Train the last {count} of {len(plan.trained)} layers: saves {saved} B ({enough}).")
            break
    return [*cuts, _largest_buffer(graph, now)]


def _largest_buffer(graph: Graph, memory: MemoryPlan) -> str:
    buffer = max((placement.buffer for placement in memory.placements), key=lambda b: b.size)
    kind, _, name = buffer.name.partition(":")
    told = f"activation '{graph.tensors[int(name)].name}'" if kind == "act" else f"buffer '{buffer.name}'"
    return f"Make the {told} smaller: {buffer.size} B, the largest of the arena."


def _flash_cuts(graph: Graph, plan: TrainingPlan, missing: int) -> list[str]:
    weighted = [op for op in graph.ops if op.has_weights]
    if missing <= 0 or not weighted:
        return []
    op = max(weighted, key=lambda op: graph.tensors[op.inputs[1]].size * held_bits(graph, plan, op))
    values, bits = graph.tensors[op.inputs[1]].size, held_bits(graph, plan, op)
    saved = values * (bits - bits // 2) // 8
    return [
        f"Store the weights of '{op.name}' in {bits // 2} instead of {bits} bits: "
        f"saves {saved} of the {missing} B that are missing."
    ]
