"""What the template of model.c loops over, and the names that its parts share."""

import re
from dataclasses import dataclass, field

import numpy.typing as npt

from rct_tflite.firmware.tables import Table, comment_text, format_struct, struct_text, table
from rct_tflite.planning.lifetimes import unpacks_rows
from rct_tflite.planning.memory import MemoryPlan
from rct_tflite.spec.graph import Graph, Op
from rct_tflite.spec.training_plan import TrainingPlan


@dataclass(frozen=True)
class Place:
    """A named address."""

    name: str
    expression: str
    comment: str


@dataclass(frozen=True)
class Struct:
    """A constant struct with its initialiser."""

    ctype: str
    name: str
    fields: str

    @property
    def value(self) -> str:
        """The initialiser, one line per field."""
        return format_struct(self.fields)


@dataclass
class ModelSource:
    """What the template of model.c loops over."""

    network: str
    runtime_version: int
    learns: bool
    arena_bytes: int
    parameter_bytes: int
    gains: int
    exponents: int
    error_bits: int
    input_bytes: int
    input_count: int
    classes: int
    trace_bytes: int
    golden_count: int
    input: str
    output: str
    logits: str
    loss_kernel: str
    loss_error: str
    target: str
    adapts: bool = False
    ids: str = ""
    includes: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    exported: list[Struct] = field(default_factory=list)
    begin: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    backward: list[str] = field(default_factory=list)

    def add_table(self, name: str, ctype: str, comment: str, values: npt.ArrayLike) -> None:
        """Adds a constant array."""
        self.tables.append(table(name, ctype, comment, values))

    def add_struct(self, ctype: str, name: str, **fields: object) -> str:
        """Adds a constant struct; returns its address."""
        self.structs.append(Struct(ctype, name, struct_text(**fields)))
        return f"&{name}"


@dataclass(frozen=True, eq=False)
class Names:
    """The network, and how its parts are called in C."""

    graph: Graph
    plan: TrainingPlan
    memory: MemoryPlan
    ops: dict[str, str]

    def operand(self, tensor: int) -> str:
        """Returns the address of a tensor's bytes: in the arena, or a constant of the file."""
        if self.graph.tensors[tensor].data is not None:
            return f"constant_{tensor}"
        return f"ACTIVATION_{self.memory.activations[tensor]}"

    def kept(self, tensor: int) -> str:
        """Returns the address of a tensor's bytes in the backward pass, which may have computed them again."""
        return f"AGAIN_{self.memory.again[tensor]}" if tensor in self.memory.again else self.operand(tensor)

    def error(self, tensor: int) -> str:
        """Returns the address of the error at a tensor."""
        return f"ERROR_{self.owner(self.memory.errors[tensor])}"

    def owner(self, tensor: int) -> str:
        """Returns the name of the op that writes a tensor, in capitals."""
        return next(self.ops[op.name].upper() for op in self.graph.ops if op.output == tensor)

    def gain(self, name: str) -> str:
        """Returns the address of a gain, NULL where there is none."""
        return f"&gains[{self.memory.gains.index(name)}]" if name in self.memory.gains else "NULL"

    def exponent(self, tensor: int) -> str:
        """Returns the place of the exponent of the error at a tensor."""
        return f"exponents[{self.memory.exponents.index(tensor)}]"

    def row(self, op: Op) -> str:
        """Returns the scratch buffer for an unpacked row, where the op needs one."""
        return "ROW" if unpacks_rows(self.graph, self.plan, op) else "NULL"


def names_of(graph: Graph, plan: TrainingPlan, memory: MemoryPlan) -> Names:
    """Turns op names into endings of C identifiers; every identifier has a prefix that says what it is."""
    names: dict[str, str] = {}
    for op in graph.ops:
        base = name = re.sub(r"\W", "_", op.name, flags=re.ASCII).lower()
        number = 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[op.name] = name
    return Names(graph, plan, memory, names)


def places_of(names: Names) -> list[Place]:
    """Returns the address of every buffer of the arena and of the parameter block."""
    graph, places = names.graph, []
    for placement in names.memory.placements:
        buffer = placement.buffer
        kind, _, key = buffer.name.partition(":")
        expression, tensor = f"(arena.bytes + {placement.offset})", key.partition(":")[0]
        if kind == "act":
            name, what = f"ACTIVATION_{tensor}", f"activation {graph.tensors[int(tensor)].name}"
        elif kind == "again":
            name, what = f"AGAIN_{tensor}", f"activation {graph.tensors[int(tensor)].name}, computed again"
        elif kind == "err":
            name, what = f"ERROR_{names.owner(int(tensor))}", f"error at {graph.tensors[int(tensor)].name}"
        elif kind == "part":
            name, what = f"PART_{key.replace(':', '_')}", f"a part of the error at {graph.tensors[int(tensor)].name}"
        elif kind == "mask":
            name, what = f"MASK_{tensor}", f"where {graph.tensors[int(tensor)].name} lets errors pass"
            expression = f"((uint8_t *)arena.bytes + {placement.offset})"
        else:
            name, what = buffer.name.upper(), "scratch"
            if kind == "sums":
                expression = f"((int32_t *)(void *){expression})"
        if kind in ("err", "part") and names.plan.error_bits > 8:
            expression = f"((rct_error_t *)(void *){expression})"
        comment = f"{what}: {buffer.size} bytes, steps {buffer.first} to {buffer.last}"
        places.append(Place(name, expression, comment_text(comment)))
    if graph.takes_ids:
        places.append(Place("IDS", f"((uint16_t *)(void *){names.operand(graph.input)})", "the input as ids"))
    if names.plan.adaptation is not None:
        return places  # the runtime finds what moves
    biased = [op.name for op in graph.ops if op.has_bias]
    for slot in names.memory.slots:
        name = names.ops[slot.op].upper()
        rows, bias = f"(parameters.bytes + {slot.rows})", f"(parameters.bytes + {slot.bias})"
        places.append(Place(f"ROWS_{name}", rows, comment_text(f"weights of {slot.op}")))
        if slot.op in biased:
            cast = f"((int32_t *)(void *){bias})"
            places.append(Place(f"BIAS_{name}", cast, comment_text(f"biases of {slot.op}")))
    return places
