"""What one instruction does to the stack pointer, and where it goes: Thumb and RISC-V of 32 bits."""

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rct_tflite.emulator.image import Architecture
from rct_tflite.emulator.instructions import Instruction


class Flow(enum.Enum):
    """Where an instruction goes."""

    ON = "to the next one"
    BRANCH = "to its target or to the next one"
    JUMP = "to its target"
    CALL = "to its target, and then to the next one"
    TABLE = "to one of several places of its function"
    RETURN = "back"
    POINTER = "to where a register points"


@dataclass(frozen=True)
class Effect:
    """An instruction, as far as the stack is concerned.

    Attributes:
        instruction: Which one.
        flow: Where it goes.
        target: Address that it goes to; -1 where it names none.
        grows: Bytes that the stack grows by; below 0 where it shrinks.
        is_unknown: Whether it moves the stack pointer by what cannot be told.
    """

    instruction: Instruction
    flow: Flow = Flow.ON
    target: int = -1
    grows: int = 0
    is_unknown: bool = False


def effects(
    architecture: Architecture, instructions: Iterable[Instruction], word_at: Callable[[int], int]
) -> Iterator[Effect]:
    """Yields what each instruction does, in their order.

    A stack pointer that is set from a frame pointer goes back to where it was: that counts as no change, which is on
    the safe side.

    Args:
        architecture: Of the instructions.
        instructions: One after the other, as in the image.
        word_at: Returns the constant at an address of the image.
    """
    before: tuple[Instruction, ...] = ()
    for instruction in instructions:
        if architecture is Architecture.RISCV:
            yield _riscv(instruction, before)
        else:
            yield _thumb_large(instruction, before, word_at) or _thumb(instruction, before)
        before = (instruction, *before[: _LOOK_BACK - 1])


_CONDITION = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"
_THUMB_JUMP = re.compile(rf"b({_CONDITION})?(\.w|\.n)?")
_THUMB_RETURN = re.compile(rf"bx({_CONDITION})?")
_PUSH = re.compile(r"v?push|stmdb|vstmdb")
_POP = re.compile(rf"v?pop({_CONDITION})?|ldm({_CONDITION})?|vldmia")
_SHRINKS_SOMETIMES = re.compile(rf"add({_CONDITION})")
_WORDS = {"d": 2, "s": 1}
_BACK_FROM_FRAME = re.compile(r"sp, (r7|r11|fp|r4|r6)")
"""Registers in which compilers keep what the stack pointer was, or what they compute from it."""


_LOOK_BACK = 8


def _thumb_large(
    instruction: Instruction, before: tuple[Instruction, ...], word_at: Callable[[int], int]
) -> Effect | None:
    """The large frames of a Cortex-M0+: `ldr r4, [pc, #8]; add sp, r4`, or `movs r3, #130; lsls r3, r3, #2` before."""
    if instruction.mnemonic != "add" or not re.fullmatch(r"sp, r[0-7]", instruction.operands):
        return None
    value = _constant(instruction.operands.removeprefix("sp, "), before, word_at)
    if value is None:
        return None
    return Effect(instruction, grows=-value if value < 1 << 31 else (1 << 32) - value)


def _constant(register: str, before: tuple[Instruction, ...], word_at: Callable[[int], int]) -> int | None:
    """Returns what a register holds, where the instructions before (the last one first) tell."""
    place = next((n for n, b in enumerate(before) if b.operands.startswith(f"{register}, ")), None)
    if place is None:
        return None
    writer = before[place]
    words = writer.operands.replace("[pc, ", "").rstrip("]").split(", ")
    if not words[-1].startswith("#"):
        return None
    number = int(words[-1][1:], 0)
    if writer.mnemonic == "ldr" and "[pc, " in writer.operands:
        return word_at(((writer.address + 4) & ~3) + number)
    if writer.mnemonic == "movs":
        return number
    if writer.mnemonic == "lsls" and words[-2] == register:
        shifted = _constant(register, before[place + 1 :], word_at)
        return None if shifted is None else shifted << number
    return None


def _thumb(instruction: Instruction, before: tuple[Instruction, ...]) -> Effect:
    name, operands = instruction.mnemonic.removesuffix(".w"), instruction.operands
    if name in ("bl", "blx"):
        known = operands.startswith("#")
        return Effect(instruction, Flow.CALL if known else Flow.POINTER, _address(operands) if known else -1)
    if name in ("cbz", "cbnz"):
        return Effect(instruction, Flow.BRANCH, _address(operands.rpartition(" ")[2]))
    jump = _THUMB_JUMP.fullmatch(instruction.mnemonic)
    if jump and operands.startswith("#"):
        return Effect(instruction, Flow.BRANCH if jump[1] else Flow.JUMP, _address(operands))
    back = _THUMB_RETURN.fullmatch(name)
    if back:
        is_return = operands == "lr" or any(b.mnemonic == "pop" and b.operands == f"{{{operands}}}" for b in before[:2])
        return Effect(instruction, Flow.POINTER if not is_return else Flow.ON if back[1] else Flow.RETURN)
    if name in ("tbb", "tbh") or (operands.startswith("pc, ") and "[sp]" not in operands):
        return Effect(instruction, Flow.TABLE)
    return _thumb_stack(instruction, name)


def _thumb_stack(instruction: Instruction, name: str) -> Effect:
    operands = instruction.operands
    on_stack = operands.startswith("{") or operands.startswith("sp!, {")
    if _PUSH.fullmatch(name) and on_stack:
        return Effect(instruction, grows=_listed_bytes(operands))
    pop = _POP.fullmatch(name)
    if pop and on_stack:
        leaves = "pc}" in operands
        if pop[1] or pop[2]:  # under a condition: it leaves, or does nothing
            return Effect(instruction, is_unknown=not leaves)
        return Effect(instruction, Flow.RETURN if leaves else Flow.ON, grows=-_listed_bytes(operands))
    moved = re.fullmatch(r".*\[sp, #(-?\w+)\]!", operands)  # str r4, [sp, #-8]!
    if moved:
        return Effect(instruction, grows=-int(moved[1], 0))
    moved = re.fullmatch(r"(.*), \[sp\], #(-?\w+)", operands)  # ldr pc, [sp], #4
    if moved:
        return Effect(instruction, Flow.RETURN if moved[1] == "pc" else Flow.ON, grows=-int(moved[2], 0))
    if not operands.startswith("sp, ") or operands.startswith("sp, {") or name in ("cmp", "cmn", "tst"):
        return Effect(instruction)
    moved = re.fullmatch(r"sp, (?:sp, )?#(\w+)", operands)
    if moved and name in ("add", "addw", "sub", "subw"):
        return Effect(instruction, grows=int(moved[1], 0) * (1 if name.startswith("sub") else -1))
    if moved and _SHRINKS_SOMETIMES.fullmatch(name):
        return Effect(instruction)
    is_back = name in ("mov", "add", "sub", "subw") and _BACK_FROM_FRAME.match(operands)
    return Effect(instruction, is_unknown=not is_back)


def _listed_bytes(operands: str) -> int:
    """Bytes of a list of registers that capstone writes out: `{r4, r5, lr}`."""
    names = operands.strip("sp!, ").strip("{}").split(", ")
    return sum(4 * _WORDS.get(name[0] if name[1:].isdigit() else "", 1) for name in names)


def _address(operand: str) -> int:
    return int(operand.removeprefix("#"), 0) & ~1


_RISCV_BRANCH = re.compile(r"(c\.)?b(eq|ne|lt|ge|ltu|geu)z?|bgtz|blez|bltz|bgez")


def _riscv(instruction: Instruction, previous: tuple[Instruction, ...]) -> Effect:
    before = previous[0] if previous else None
    name, operands = instruction.mnemonic, instruction.operands
    if _RISCV_BRANCH.fullmatch(name):
        return Effect(instruction, Flow.BRANCH, _relative(instruction))
    if name in ("j", "c.j"):
        return Effect(instruction, Flow.JUMP, _relative(instruction))
    if name in ("jal", "c.jal"):
        return Effect(instruction, Flow.CALL, _relative(instruction))
    if name == "ret" or (name, operands) == ("c.jr", "ra"):
        return Effect(instruction, Flow.RETURN)
    if name in ("jalr", "c.jalr", "jr", "c.jr"):
        return _far(instruction, before)
    return _riscv_stack(instruction, before)


def _far(instruction: Instruction, before: Instruction | None) -> Effect:
    """A call or jump whose target a register holds; of a pair `auipc r, high; jalr rd, r, low` the target is known."""
    name, words = instruction.mnemonic, instruction.operands.split(", ")
    is_jump = name.endswith("jr") or words[0] == "zero"
    if name in ("jalr", "jr") and before is not None and before.mnemonic == "auipc":
        register, high = before.operands.split(", ")
        low = int(words[-1], 0) if words[-1].lstrip("-")[0].isdigit() else 0
        if register in words:
            target = before.address + (int(high, 0) << 12) + low
            return Effect(instruction, Flow.JUMP if is_jump else Flow.CALL, target & 0xFFFFFFFE)
    return Effect(instruction, Flow.TABLE if name == "c.jr" or is_jump else Flow.POINTER)


def _riscv_stack(instruction: Instruction, before: Instruction | None) -> Effect:
    name, words = instruction.mnemonic, instruction.operands.split(", ")
    if words[0] != "sp" or name in ("c.swsp", "sw", "sh", "sb") or _is_read_only(name):
        return Effect(instruction)
    # `la sp, rct_stack_top` of the start-up code: the stack begins here.
    starts = name == "auipc" or (
        before is not None and before.operands.startswith("sp, ") and before.mnemonic == "auipc"
    )
    if starts:
        return Effect(instruction)
    if name in ("addi", "c.addi", "c.addi16sp") and words[-2] == "sp":
        return Effect(instruction, grows=-int(words[-1], 0))
    is_back = name in ("addi", "mv", "c.mv") and words[1] == "s0"
    return Effect(instruction, is_unknown=not is_back)


def _is_read_only(name: str) -> bool:
    """Whether the first operand is read, not written."""
    return bool(_RISCV_BRANCH.fullmatch(name))


def _relative(instruction: Instruction) -> int:
    return (instruction.address + int(instruction.operands.rpartition(" ")[2], 0)) & 0xFFFFFFFE
