"""Checks of a target file: each number for itself, and the numbers against each other."""

import re
from itertools import combinations
from pathlib import Path

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Memory, Quantity, Target

CONFIDENCES = ("measured", "datasheet", "derived")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""A target's name: it stands in comments of linker scripts, and on command lines."""
ADDRESS_SPACE = 2**32
STACK_ALIGNMENT = 8
LARGEST = 1e12
"""Bound of any number here: what is larger is a slip, or infinite."""
MAY_BE_ZERO = ("origin", "wait_states", "cache_bytes")
LARGEST_VOLTAGE = 60.0
"""In volts: no microcontroller is fed with more, a slip in the unit is."""
CLOCK_TOLERANCE = 1.001
"""Clocks come from dividers and are rounded in data sheets."""


def wrong(path: Path, key: str, what: str) -> TargetError:
    """Returns the error that names the file, the key and what is wrong with it."""
    return TargetError(f"In the target file {str(path)!r}: {key} {what}")


def read_text(path: Path, key: str, value: object) -> str:
    """Returns a text that is not empty.

    Raises:
        TargetError: If it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise wrong(path, key, f"must be a text that is not empty. Received: {value!r}.")
    return value


def read_name(path: Path, value: str) -> None:
    """Checks a target's name.

    Raises:
        TargetError: If it holds other characters than a name may.
    """
    if not NAME.fullmatch(value):
        raise wrong(path, "name", f"must be letters, digits and . _ + - only. Received: {value!r}.")


def read_quantity(path: Path, key: str, entry: object, *, exact: bool) -> Quantity:
    """Reads a number with its interval and source. `low` and `high` may both be left out where they equal `value`.

    Args:
        path: The file, for messages.
        key: Name of the entry.
        entry: As the TOML holds it.
        exact: Whether it is a whole number that the linker or a buffer needs.

    Raises:
        TargetError: If it is no such table, or its numbers are impossible.
    """
    fields = ("value", "low", "high", "confidence", "source")
    if isinstance(entry, dict) and not {"low", "high"} & set(entry):
        entry = entry | {"low": entry.get("value"), "high": entry.get("value")}
    if not isinstance(entry, dict) or sorted(entry) != sorted(fields):
        received = sorted(entry) if isinstance(entry, dict) else repr(entry)
        raise wrong(path, key, f"must be a table with {', '.join(fields)}. Received: {received}.")
    value, low, high = (_number(path, f"{key}.{field}", entry[field]) for field in fields[:3])
    confidence = read_text(path, f"{key}.confidence", entry["confidence"])
    if confidence not in CONFIDENCES:
        raise wrong(path, f"{key}.confidence", f"must be one of {', '.join(CONFIDENCES)}. Received: {confidence!r}.")
    if not low <= value <= high:
        raise wrong(path, key, f"must satisfy low <= value <= high. Received: low={low}, value={value}, high={high}.")
    quantity = Quantity(value, low, high, confidence, read_text(path, f"{key}.source", entry["source"]))
    if exact:
        _check_exact(path, key, quantity)
    elif low <= 0:
        raise wrong(path, key, f"must be above 0. Received: low={low}.")
    return quantity


def check_target(path: Path, target: Target) -> None:
    """Checks the numbers of a target against each other.

    Raises:
        TargetError: If memories overlap or end beyond the address space, the stack does not fit, or the clock is
            faster than the part or its flash allows.
    """
    _check_memories(path, target)
    _check_regions(path, target)
    _check_clock(path, target)
    if target.voltage_v is not None and target.voltage_v.high > LARGEST_VOLTAGE:
        raise wrong(
            path,
            "voltage_v",
            f"must be at most {LARGEST_VOLTAGE:g} V. Received: {target.voltage_v.high:g}.",
        )
    read_bytes = None if target.timing is None else target.timing.read_bytes
    if read_bytes is not None and read_bytes & (read_bytes - 1):
        raise wrong(path, "flash.read_bytes", f"must be a power of two. Received: {read_bytes}.")
    if target.writing is not None and target.writing.erase_bytes % target.writing.write_bytes:
        raise wrong(
            path,
            "flash.erase_bytes",
            "must be a multiple of flash.write_bytes. "
            f"Received: {target.writing.erase_bytes} and {target.writing.write_bytes}.",
        )


def _number(path: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise wrong(path, key, f"must be a number of at most {LARGEST:g}. Received: {value!r}.")
    return value


def _check_exact(path: Path, key: str, quantity: Quantity) -> None:
    if not quantity.low == quantity.value == quantity.high or quantity.value != int(quantity.value):
        raise wrong(
            path,
            key,
            "must be a whole number with low = value = high. "
            f"Received: low={quantity.low}, value={quantity.value}, high={quantity.high}.",
        )
    smallest = 0 if key.endswith(MAY_BE_ZERO) else 1
    if not smallest <= quantity.value < ADDRESS_SPACE:
        raise wrong(path, key, f"must be {smallest} to {ADDRESS_SPACE - 1}. Received: {quantity.value}.")


def _check_memories(path: Path, target: Target) -> None:
    flash, ram = target.flash, target.ram
    for name, memory in (("flash", flash), ("ram", ram)):
        _check_end(path, name, memory)
    if _overlap(flash, ram):
        raise wrong(path, "ram", f"overlaps flash. Received: flash={flash}, ram={ram}.")
    if (ram.origin + ram.size) % STACK_ALIGNMENT:
        raise wrong(path, "ram", f"must end at a multiple of 8, as the stack starts there. Received: {ram}.")
    if target.stack_bytes % STACK_ALIGNMENT or target.stack_bytes >= ram.size:
        raise wrong(
            path,
            "stack_bytes",
            "must be a multiple of 8 (the Arm stack alignment) and smaller than the RAM. "
            f"Received: {target.stack_bytes} of {ram.size} bytes.",
        )


def _check_regions(path: Path, target: Target) -> None:
    for region in target.regions:
        _check_end(path, f"region {region.name!r}", region.memory)
    for one, other in combinations(target.regions, 2):
        if _overlap(one.memory, other.memory):
            raise wrong(
                path,
                f"region {other.name!r}",
                f"overlaps region {one.name!r}. Received: {_span(other.memory)} and {_span(one.memory)}. "
                "Correct one of them.",
            )
    if target.regions:
        for key, memory in (("flash", target.flash), ("ram", target.ram)):
            if sum(_shared(memory, region.memory) for region in target.regions) < memory.size:
                raise wrong(path, key, f"must lie in the regions of the part. Received: {_span(memory)}.")


def _check_clock(path: Path, target: Target) -> None:
    clock = target.clock_mhz.high
    if target.clock_max_mhz is not None and clock > target.clock_max_mhz.high * CLOCK_TOLERANCE:
        raise wrong(
            path,
            "clock_mhz",
            f"is faster than the part. Expected at most {target.clock_max_mhz.high:g} MHz. Received: {clock:g} MHz.",
        )
    timing = target.timing
    if timing is not None and clock > timing.zero_wait_mhz.high * (timing.wait_states + 1) * CLOCK_TOLERANCE:
        raise wrong(
            path,
            "flash.wait_states",
            f"makes the flash slower than the clock allows: {timing.wait_states} wait states serve at most "
            f"{timing.zero_wait_mhz.high * (timing.wait_states + 1):g} MHz. Received: clock_mhz={clock:g}. "
            "Add wait states or lower the clock.",
        )


def _check_end(path: Path, key: str, memory: Memory) -> None:
    if memory.origin + memory.size > ADDRESS_SPACE:
        raise wrong(path, key, f"ends beyond the 32-bit address space. Received: {memory}.")


def _shared(one: Memory, other: Memory) -> int:
    """Returns the bytes that two memories have in common."""
    return max(0, min(one.origin + one.size, other.origin + other.size) - max(one.origin, other.origin))


def _span(memory: Memory) -> str:
    """Writes where a memory begins and the byte after it ends.

    Example:
        >>> _span(Memory(0x20000000, 65536))
        '0x20000000 to 0x20010000'
    """
    return f"{memory.origin:#010x} to {memory.origin + memory.size:#010x}"


def _overlap(one: Memory, other: Memory) -> bool:
    return _shared(one, other) > 0
