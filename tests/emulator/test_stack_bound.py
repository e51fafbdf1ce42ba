"""The deepest stack of an image, from its code alone."""

import pytest

from rct_tflite.emulator import find_emulator
from rct_tflite.emulator.image import Architecture, Function, Image
from rct_tflite.emulator.instructions import Instruction
from rct_tflite.emulator.stack_bound import _Calls as Calls
from rct_tflite.emulator.stack_bound import stack_bound
from rct_tflite.emulator.stack_effects import Flow, effects
from rct_tflite.errors import EmulatorError
from rct_tflite.spec.target import Memory

UNKNOWN = None
THUMB = [
    ("push", "{r4, r5, lr}", Flow.ON, 12),
    ("stmdb", "sp!, {r4, r5, r6, r7, r8, sb, sl, fp, lr}", Flow.ON, 36),
    ("vpush", "{d8, d9}", Flow.ON, 16),
    ("vpush", "{s16}", Flow.ON, 4),
    ("sub", "sp, #0x24", Flow.ON, 36),
    ("subw", "sp, sp, #0x404", Flow.ON, 1028),
    ("str", "r8, [sp, #-0x8]!", Flow.ON, 8),
    ("str", "r3, [sp, #4]", Flow.ON, 0),
    ("stm.w", "sp, {r0, r1}", Flow.ON, 0),
    ("pop", "{r4, r5}", Flow.ON, -8),
    ("pop", "{r4, pc}", Flow.RETURN, -8),
    ("popeq", "{r4, pc}", Flow.ON, 0),
    ("ldm.w", "sp!, {r4, r8, pc}", Flow.RETURN, -12),
    ("ldr", "pc, [sp], #4", Flow.RETURN, -4),
    ("add", "sp, #0x10", Flow.ON, -16),
    ("addeq", "sp, #8", Flow.ON, 0),
    ("mov", "sp, r7", Flow.ON, 0),
    ("add", "r7, sp, #8", Flow.ON, 0),
    ("sub.w", "sp, sp, r3", Flow.ON, UNKNOWN),
    ("mov", "sp, r3", Flow.ON, UNKNOWN),
    ("bl", "#0x120", Flow.CALL, 0),
    ("blx", "r3", Flow.POINTER, 0),
    ("bx", "lr", Flow.RETURN, 0),
    ("bx", "r3", Flow.POINTER, 0),
    ("bne", "#0x120", Flow.BRANCH, 0),
    ("b.w", "#0x120", Flow.JUMP, 0),
    ("cbz", "r0, #0x120", Flow.BRANCH, 0),
    ("tbb", "[pc, r3]", Flow.TABLE, 0),
    ("mov", "pc, r3", Flow.TABLE, 0),
]
RISCV = [
    ("c.addi", "sp, -0x10", Flow.ON, 16),
    ("c.addi16sp", "sp, 0x20", Flow.ON, -32),
    ("addi", "sp, sp, -0x430", Flow.ON, 1072),
    ("addi", "sp, s0, -0x40", Flow.ON, 0),
    ("sub", "sp, sp, a0", Flow.ON, UNKNOWN),
    ("c.swsp", "ra, 0xc(sp)", Flow.ON, 0),
    ("c.jal", "0x20", Flow.CALL, 0),
    ("jal", "0x20", Flow.CALL, 0),
    ("c.jalr", "a5", Flow.POINTER, 0),
    ("c.jr", "ra", Flow.RETURN, 0),
    ("c.jr", "a1", Flow.TABLE, 0),
    ("bltu", "a0, a1, 0x20", Flow.BRANCH, 0),
    ("c.bnez", "a0, 0x20", Flow.BRANCH, 0),
    ("j", "0x20", Flow.JUMP, 0),
]


@pytest.mark.parametrize(
    ("architecture", "mnemonic", "operands", "flow", "grows"),
    [(Architecture.ARM, *row) for row in THUMB] + [(Architecture.RISCV, *row) for row in RISCV],
)
def test_effect(architecture, mnemonic, operands, flow, grows):
    (effect,) = effects(architecture, [Instruction(0x100, 4, mnemonic, operands)], int)
    assert effect.flow is flow
    assert effect.is_unknown == (grows is UNKNOWN)
    assert effect.grows == (grows or 0)
    goes = flow in (Flow.CALL, Flow.BRANCH, Flow.JUMP)
    assert effect.target == (0x120 if goes else -1)


def test_pairs_of_instructions():
    pop, back = Instruction(0, 2, "pop", "{r3}"), Instruction(2, 2, "bx", "r3")
    assert [effect.flow for effect in effects(Architecture.ARM, [pop, back], int)] == [Flow.ON, Flow.RETURN]
    high, low = Instruction(0x1000, 4, "auipc", "ra, 2"), Instruction(0x1004, 4, "jalr", "ra, ra, -0x10")
    (_, call) = effects(Architecture.RISCV, [high, low], int)
    assert (call.flow, call.target) == (Flow.CALL, 0x2FF0)
    load, grow = Instruction(0x102, 2, "ldr", "r4, [pc, #8]"), Instruction(0x104, 2, "add", "sp, r4")
    constants = {0x10C: (1 << 32) - 520}
    (_, large) = effects(Architecture.ARM, [load, grow], constants.__getitem__)
    assert large.grows == 520
    words = [("movs", "r3, #0x81"), ("lsls", "r3, r3, #2"), ("add", "sp, r3")]
    *_, small = effects(Architecture.ARM, [Instruction(2 * n, 2, *word) for n, word in enumerate(words)], int)
    assert small.grows == -516


def test_the_deepest_run_reaches_the_bound(build_image, toolchain):
    image = build_image(toolchain)
    bound = stack_bound(image)
    assert bound.chain[0] == "rct_reset"
    assert bound.chain[-1] == "use_stack"
    measured = find_emulator(toolchain.core, image=image).profile(image, b"s").stack_bytes
    assert measured <= bound.stack_bytes <= measured + 16


def test_functions_of_two_files_may_share_a_name(tmp_path):
    small, large, main = (
        Function(*where) for where in (("own", 0, 4, "a.c"), ("own", 4, 8, "b.c"), ("main", 8, 14, ""))
    )
    code = [("push", "{r4, lr}"), ("pop", "{r4, pc}"), ("sub", "sp, #0x40"), ("bx", "lr")]
    code += [("push", "{r4, lr}"), ("bl", "#0x4"), ("pop", "{r4, pc}")]
    read = effects(Architecture.ARM, [Instruction(2 * n, 2, *word) for n, word in enumerate(code)], int)
    memory = Memory(0, 1024)
    image = Image(tmp_path, Architecture.ARM, 8, memory, memory, 0, 0, (), (small, large, main), (), ((0, 14),))
    assert Calls(image, {effect.instruction.address: effect for effect in read}).bound(main, ()).stack_bytes == 8 + 0x40


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("recursion", r"Received: down calls down: a recursion"),
        ("pointer", r"Received: main, 0x\w+: (blx|c\.jalr|jalr|bx|c\.jr) "),
        ("growing", r"Received: \w+, 0x\w+: (sub|mov|c\.mv)"),
    ],
)
def test_no_bound(build_image, toolchain, program, expected):
    if toolchain.name == "gcc" and toolchain.core not in ("cortex-m0plus", "cortex-m7"):
        return  # the compiler's code is that of one of these
    with pytest.raises(EmulatorError, match=expected):
        stack_bound(build_image(toolchain, program))
