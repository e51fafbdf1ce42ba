"""How deep the stack of an image can get, from its code: no run need reach the deepest chain of calls."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rct_tflite.emulator.image import Function, Image, load_image
from rct_tflite.emulator.instructions import instructions_of
from rct_tflite.emulator.stack_effects import Effect, Flow, effects
from rct_tflite.errors import EmulatorError

_WITHIN, _GOES = (Flow.ON, Flow.BRANCH, Flow.CALL), (Flow.BRANCH, Flow.JUMP, Flow.CALL)
_TABLE_ROUTINE = "__gnu_thumb1_case"  # a call that goes on at one of several places of the caller


@dataclass(frozen=True)
class StackBound:
    """The most stack that an image can take from reset on. Interrupts are not counted: nothing here enables one.

    Attributes:
        stack_bytes: The bound.
        chain: The calls that reach it, from the entry on.
    """

    stack_bytes: int
    chain: tuple[str, ...]


@dataclass
class _Frame:
    """A function: its own deepest stack, and the deepest stack at which it calls (or goes on in) each other one."""

    function: Function
    deepest: int = 0
    calls: dict[Function, int] = field(default_factory=dict)

    def call(self, callee: Function, depth: int) -> None:
        self.calls[callee] = max(self.calls.get(callee, 0), depth)


def stack_bound(path: Path) -> StackBound:
    """Bounds the stack by following every branch and call of an image.

    Args:
        path: An ELF file for a microcontroller.

    Raises:
        EmulatorError: If the image cannot be read; or its stack has no bound that can be told: a recursion, a call
            through a pointer, a stack pointer that moves by what only a run knows.
    """
    image = load_image(path)
    read = effects(image.architecture, instructions_of(image), lambda a: int.from_bytes(image.read(a, 4), "little"))
    code = {effect.instruction.address: effect for effect in read}
    return _Calls(image, code).bound(image.function_at(image.entry), ())


@dataclass
class _Calls:
    """The graph of calls, read as far as it is asked for. Functions of different files may share a name."""

    image: Image
    code: dict[int, Effect]
    known: dict[Function, StackBound] = field(default_factory=dict)

    def bound(self, function: Function, callers: tuple[Function, ...]) -> StackBound:
        if function in callers:
            names = [caller.name for caller in (*callers[callers.index(function) :], function)]
            raise _unbounded(self.image, f"{' calls '.join(names)}: a recursion")
        if function not in self.known:
            frame = self._frame(function)
            deepest = StackBound(frame.deepest, (function.name,))
            for callee, depth in frame.calls.items():
                below = self.bound(callee, (*callers, function))
                if depth + below.stack_bytes > deepest.stack_bytes:
                    deepest = StackBound(depth + below.stack_bytes, (function.name, *below.chain))
            self.known[function] = deepest
        return self.known[function]

    def _frame(self, function: Function) -> _Frame:
        inside = {
            address: self.code[address] for address in range(function.start, function.end) if address in self.code
        }
        frame = _Frame(function)
        depths: dict[int, int] = {}
        waiting = [(function.start, 0)]
        while waiting:
            address, depth = waiting.pop()
            if address not in inside or depths.get(address, -1) >= depth:
                continue
            depths[address] = depth
            waiting += self._follow(frame, inside[address], depth, (a for a in inside if a not in depths))
        return frame

    def _follow(self, frame: _Frame, effect: Effect, depth: int, others: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yields where an instruction goes inside of its function, with the depth there."""
        after = max(depth + effect.grows, 0)
        if effect.is_unknown or effect.flow is Flow.POINTER or after > self.image.ram.size:
            raise _unbounded(self.image, self._place(frame, effect))
        frame.deepest = max(frame.deepest, after)
        target = self.image.function_at(effect.target) if effect.target >= 0 else frame.function
        calls_itself = effect.flow is Flow.CALL and effect.target == frame.function.start
        if effect.flow in _GOES and (target != frame.function or calls_itself):
            frame.call(target, depth)
        elif effect.flow in _GOES:  # of a Cortex-M0+ also a call: far jumps inside of a function look like one
            yield effect.target, after
        if effect.flow is Flow.TABLE or target.name.startswith(_TABLE_ROUTINE):
            yield from ((address, depth) for address in list(others))
        elif effect.flow in _WITHIN:
            yield effect.instruction.following, after

    def _place(self, frame: _Frame, effect: Effect) -> str:
        instruction = effect.instruction
        return f"{frame.function.name}, 0x{instruction.address:08x}: {instruction.mnemonic} {instruction.operands}"


def _unbounded(image: Image, what: str) -> EmulatorError:
    return EmulatorError(
        f"Cannot bound the stack of {image.path.name}. Expected calls by name, without recursion, and frames of a "
        f"fixed size. Received: {what}. Write that function without it."
    )
