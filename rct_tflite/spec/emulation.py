"""What an emulated run of a firmware image returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A marked function was entered after `instructions` executed instructions."""

    name: str
    instructions: int


@dataclass(frozen=True)
class FunctionCount:
    """Instructions executed in one function's own body (its callees apart), and how often it was entered.

    `source` is the name of the C file of a function that other files do not see; empty for every other one.
    """

    name: str
    source: str
    calls: int
    instructions: int


@dataclass(frozen=True)
class EmulatedRun:
    """The result of running an image to its exit.

    Attributes:
        emulator: Name and version of what ran it.
        exit_code: What the firmware's `main()` returned.
        response: The bytes that the firmware wrote to its byte stream.
        console: Text that it printed.
    """

    emulator: str
    exit_code: int
    response: bytes
    console: str


@dataclass(frozen=True)
class EmulatedProfile:
    """A run that was also counted.

    Attributes:
        run: The run itself.
        instructions: Executed instructions from reset to exit.
        marks: Entries of the marked functions, in the order of execution.
        functions: Per function, most instructions first.
        stack_bytes: Deepest stack use, in bytes below the initial stack pointer.
    """

    run: EmulatedRun
    instructions: int
    marks: tuple[Mark, ...]
    functions: tuple[FunctionCount, ...]
    stack_bytes: int
