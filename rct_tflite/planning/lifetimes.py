"""Which buffers a step needs, how long each lives, and which tensors share one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rct_tflite.reference.backward import BackwardStep, Passage, backward_steps, gain_of_merge, gain_of_sum
from rct_tflite.reference.constants import masks_errors
from rct_tflite.reference.losses import loss_tensor
from rct_tflite.reference.packing import held_bits
from rct_tflite.spec.graph import PAIR_KINDS, TABLE_KINDS, Graph, Op, OpKind
from rct_tflite.spec.quantization import EXPORT_BITS
from rct_tflite.spec.training_plan import TrainingPlan


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena that is in use from step `first` to step `last`.

    Steps count the forward ops, then the loss, then the backward ops from the last to the deepest.
    """

    name: str
    size: int
    first: int
    last: int


def in_execution_order(step: BackwardStep, errors: Mapping[int, int]) -> list[Passage]:
    """Returns an op's passages, the one that works in place last: it destroys what the others read.

    Args:
        step: The op.
        errors: From `Lifetimes`: under which tensor the error at each tensor is stored.
    """
    home = errors[step.op.output]
    return sorted(step.passages, key=lambda passage: errors[passage.tensor] == home)


def moves_nothing(op: Op, passage: Passage) -> bool:
    """Whether the error at an input is that at the output, number by number."""
    if op.kind in (OpKind.RESHAPE, OpKind.QUANTIZE):
        return True
    plain = op.kind is OpKind.ADD or (op.kind is OpKind.SUB and passage.position == 0)
    return plain and not passage.rescales


def unpacks_rows(graph: Graph, plan: TrainingPlan, op: Op) -> bool:
    """Whether an op's kernels unpack a row into scratch: those of FULLY_CONNECTED read packed weights in place."""
    if not op.has_bias or op.kind is OpKind.FULLY_CONNECTED:
        return False
    narrowest = widest = held_bits(graph, plan, op)
    if plan.adaptation is not None and op.name in plan.adaptation.layers:
        narrowest, widest = plan.adaptation.min_bits, plan.adaptation.max_bits
    return not narrowest == widest == EXPORT_BITS


def _computed_again(graph: Graph, plan: TrainingPlan) -> dict[int, int]:
    """Returns the tensors that a plan computes again, each with the one that owns its bytes: RESHAPE moves nothing."""
    again: dict[int, int] = {}
    for op in graph.ops:
        if op.kind is OpKind.RESHAPE:
            if op.inputs[0] in again:
                again[op.output] = again[op.inputs[0]]
        elif op.name in plan.recomputed:
            again[op.output] = op.output
    return again


class Lifetimes:
    """Collects the buffers of one network.

    Args:
        graph: The network.
        plan: What learns.
        saves_masks: Whether activations that the backward pass reads only to clear errors are kept as a bit each.
        steps: `backward_steps()` of both, where they are known.

    Attributes:
        steps: The backward pass.
        masks: Tensors of whose activation a bit each is kept.
        activations: Per computed tensor, the tensor under which its bytes are stored: RESHAPE moves nothing, and ops
            work in place over an operand that nothing else reads any more.
        again: Tensors that the backward pass computes again, and the tensor under which that copy is stored.
        repeats: The ops that do so, by the step before which they run. They are that step's own op or lie below it:
            none of them has learnt from this sample yet, so they give the bytes of the forward pass.
        errors: Per tensor with an error, the tensor under which the error is stored.
        exponents: Tensors whose error's exponent must be kept while other ops run, in order of need.
        gains: Names of the gains, in the order of the graph and then of need.
    """

    def __init__(
        self,
        graph: Graph,
        plan: TrainingPlan,
        saves_masks: bool = False,
        steps: tuple[BackwardStep, ...] | None = None,
    ) -> None:
        self._graph = graph
        self._plan = plan
        self._error_bytes = plan.error_bits // 8
        self._reads = loss_tensor(graph, plan.loss)
        self._takes_target = bool(plan.trained) and not plan.loss.takes_class
        self._loss = len(graph.ops)
        self._holds = plan.options.holds_gradients
        self.steps = backward_steps(graph, plan) if steps is None else steps
        self.again = _computed_again(graph, plan)
        self.masks: frozenset[int] = frozenset()
        self.repeats: dict[int, tuple[Op, ...]] = {}
        if saves_masks:
            self.masks = self._only_masking()
        self.repeats = self._all_repeats()
        self._uses = list(self._all_uses())
        self.activations = self._shared_activations()
        self.errors = self._shared_errors()
        self.exponents = self._kept_exponents()
        self.gains = self._gains()

    def buffers(self) -> list[Buffer]:
        """Returns every buffer of inference and of a training step."""
        graph = self._graph
        last = self._loss + len(self.steps)
        result = [*self._activation_buffers(), *self._mask_buffers(), *self._error_buffers(), *self._part_buffers()]
        row = max((graph.row_shape(op)[1] for op in graph.ops if unpacks_rows(graph, self._plan, op)), default=0)
        if row:
            result.append(Buffer("row", row, 0, last))
        if self._plan.adaptation is not None:
            shifts = max(graph.row_shape(op)[0] for op in graph.ops if op.name in self._plan.trained)
            result.append(Buffer("shifts", shifts, 0, max(self.repeats, default=self._loss - 1)))
        if self._takes_target:
            result.append(Buffer("target", graph.tensors[graph.output].size, 0, self._loss))
        if self.steps:
            result.append(self._sums(last))
        return result

    def _all_uses(self) -> Iterator[tuple[int, int]]:
        """Yields (step, tensor) of every read and write of an activation."""
        graph = self._graph
        yield from ((0, graph.input), (self._loss, self._reads), (self._loss, graph.output))
        if graph.takes_ids and self._plan.trained:
            yield self._loss, graph.input  # a training step looks again whether they are rows of the table
        for number, op in enumerate(graph.ops):
            yield from ((number, tensor) for tensor in (*graph.sources(op), op.output))
        for number, ops in self.repeats.items():
            yield from ((number, tensor) for op in ops for tensor in (*graph.sources(op), op.output))
        for number, step in enumerate(self.steps, start=self._loss + 1):
            op = step.op
            if self._plan.learns_weights(op.name) or op.kind is OpKind.MAX_POOL_2D or op.kind in TABLE_KINDS:
                yield number, op.inputs[0]
            if op.kind is OpKind.MUL:
                others = {op.inputs[1 - passage.position] for passage in step.passages}
                yield from ((number, tensor) for tensor in others & set(graph.sources(op)))
            if masks_errors(op) and op.output not in self.masks:
                yield number, op.output

    def _is_copy(self, step: int, tensor: int) -> bool:
        return step > self._loss and tensor in self.again

    def _all_repeats(self) -> dict[int, tuple[Op, ...]]:
        """Lists what is computed again: before it is first read, after what it reads and is not kept either."""
        self.repeats = {}
        made = {op.output: op for op in self._graph.ops}
        first: dict[int, int] = {}
        for step, tensor in sorted(self._all_uses()):
            wanted = [tensor] if self._is_copy(step, tensor) else []
            while wanted:
                number = wanted.pop()
                if number not in first:
                    first[number] = step
                    wanted += [source for source in self._graph.sources(made[number]) if source in self.again]
        repeats: dict[int, tuple[Op, ...]] = {}
        for op in self._graph.ops:
            if op.output in first and op.kind is not OpKind.RESHAPE:
                step = first[op.output]
                repeats[step] = (*repeats.get(step, ()), op)
        return repeats

    def _only_masking(self) -> frozenset[int]:
        """Returns the outputs that the backward pass reads for nothing but their bounds."""
        masking = frozenset(step.op.output for step in self.steps if masks_errors(step.op)) - self.again.keys()
        self.masks = masking
        self.repeats = self._all_repeats()
        kept = {tensor for step, tensor in self._all_uses() if step >= self._loss}
        for op in reversed(self._graph.ops):
            if op.kind is OpKind.RESHAPE and op.output in kept:
                kept.add(op.inputs[0])  # the same bytes
        return masking - kept

    def _shared_activations(self) -> dict[int, int]:
        last_use: dict[int, int] = {}
        for step, tensor in self._uses:
            if self._is_copy(step, tensor):
                continue
            last_use[tensor] = max(step, last_use.get(tensor, step))
        owners = {self._graph.input: self._graph.input}
        for number, op in enumerate(self._graph.ops):
            owners[op.output] = op.output
            if op.kind is OpKind.RESHAPE:
                owners[op.output] = owners[op.inputs[0]]
            elif op.kind in PAIR_KINDS or op.kind in TABLE_KINDS:
                size = self._graph.tensors[op.output].size
                for source in self._graph.sources(op):
                    group = [tensor for tensor, owner in owners.items() if owner == owners[source]]
                    dead = all(last_use[tensor] <= number for tensor in group if tensor != op.output)
                    if dead and self._graph.tensors[source].size == size:
                        owners[op.output] = owners[source]
                        break
        return owners

    def _shared_errors(self) -> dict[int, int]:
        """An error that nothing else reads stays where it is, if the op moves nothing or works in place."""
        owners = {self._reads: self._reads}
        for step in self.steps:
            twice = len({passage.tensor for passage in step.passages}) < len(step.passages)
            candidates = [p for p in step.passages if p.merge is None and self._works_in_place(step.op, p)]
            for passage in step.passages:
                owners.setdefault(passage.tensor, passage.tensor)
            if candidates and (not twice or step.op.kind is OpKind.RESHAPE):
                owners[candidates[-1].tensor] = owners[step.op.output]
        return owners

    def _works_in_place(self, op: Op, passage: Passage) -> bool:
        same = self._graph.tensors[passage.tensor].size == self._graph.tensors[op.output].size
        return same and (op.kind is OpKind.RESHAPE or op.kind in PAIR_KINDS or op.kind in TABLE_KINDS)

    def _kept_exponents(self) -> list[int]:
        kept: list[int] = []
        for number, step in enumerate(self.steps):
            ordered = in_execution_order(step, self.errors)
            if any(passage.changes_exponent for passage in ordered[:-1]):
                kept.append(step.op.output)  # a passage changes the exponent that the next one starts from
            following = self.steps[number + 1].op.output if number + 1 < len(self.steps) else None
            for passage in ordered:
                flows = passage is ordered[-1] and passage.merge is None and passage.tensor == following
                if not flows:
                    kept.append(passage.tensor)
        return list(dict.fromkeys(kept))

    def _gains(self) -> list[str]:
        weighted = [step.op.name for step in reversed(self.steps) if step.op.has_weights and step.passages]
        others = []
        for step in self.steps:
            for passage in step.passages:
                if passage.rescales and not step.op.has_weights:
                    others.append(gain_of_sum(step.op, passage))
                if passage.merge is not None:
                    others.append(gain_of_merge(step.op, passage))
        return weighted + others

    def _activation_buffers(self) -> list[Buffer]:
        spans: dict[tuple[str, int], list[int]] = {}
        for step, tensor in self._uses:
            place = ("act", self.activations[tensor])
            if self._is_copy(step, tensor):
                place = ("again", self.again[tensor])
            spans.setdefault(place, []).append(step)
        return [
            Buffer(f"{kind}:{tensor}", self._activation_size(tensor), min(steps), max(steps))
            for (kind, tensor), steps in spans.items()
        ]

    def _activation_size(self, tensor: int) -> int:
        return self._graph.input_bytes if tensor == self._graph.input else self._graph.tensors[tensor].size

    def _mask_buffers(self) -> list[Buffer]:
        """Lists a bit for each element, from the op that makes it to its step backward."""
        made = {op.output: number for number, op in enumerate(self._graph.ops)}
        return [
            Buffer(f"mask:{tensor}", -(-self._graph.tensors[tensor].size // 8), made[tensor], number)
            for number, step in enumerate(self.steps, start=self._loss + 1)
            if (tensor := step.op.output) in self.masks
        ]

    def _error_buffers(self) -> list[Buffer]:
        """Lists the error at each tensor: written by the ops that read it or the loss, read by the op that made it."""
        spans: dict[int, list[int]] = {}
        if self.steps:
            spans[self._reads] = [self._loss]
        for number, step in enumerate(self.steps, start=self._loss + 1):
            for tensor in (step.op.output, *(passage.tensor for passage in step.passages)):
                spans.setdefault(self.errors[tensor], []).append(number)
        return [
            Buffer(f"err:{tensor}", self._error_size(tensor), min(steps), max(steps)) for tensor, steps in spans.items()
        ]

    def _error_size(self, tensor: int) -> int:
        return self._graph.tensors[tensor].size * self._error_bytes

    def _part_buffers(self) -> list[Buffer]:
        """Lists errors that are added to one that is there, and cannot be read where they are.

        An op that reads a tensor twice hands one back after the other, in the same buffer.
        """
        parts = [
            Buffer(f"part:{passage.tensor}:{number}", self._error_size(passage.tensor), number, number)
            for number, step in enumerate(self.steps, start=self._loss + 1)
            for passage in step.passages
            if passage.merge is not None and not moves_nothing(step.op, passage)
        ]
        return list(dict.fromkeys(parts))

    def _sums(self, last: int) -> Buffer:
        """A sum per output for the loss, per weight of a row for its gradient, per channel for an error."""
        graph, sizes = self._graph, []
        for step in self.steps:
            if not step.op.has_weights:
                sizes += [graph.tensors[passage.tensor].size for passage in step.passages if passage.rescales]
            elif self._plan.learns_weights(step.op.name) and (
                step.op.kind is not OpKind.FULLY_CONNECTED or self._holds
            ):
                sizes.append(graph.row_shape(step.op)[1])
            elif step.passages and step.op.kind in (OpKind.CONV_2D, OpKind.TRANSPOSE_CONV):
                sizes.append(graph.tensors[step.op.inputs[0]].shape[-1])
        count = max(graph.tensors[self._reads].size, *sizes, 0)
        return Buffer("sums", 4 * count, self._loss, last if sizes else self._loss)
