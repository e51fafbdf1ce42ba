"""Reads a target from its TOML file; finds the shipped ones by name."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import Memory, Quantity, Target

TARGETS_FOLDER = Path(__file__).resolve().parents[1] / "targets"
"""The shipped targets, one `.toml` file each."""

CONFIDENCES = ("measured", "datasheet", "derived")

TEXTS = ("name", "description", "core")
EXACT = ("flash.origin", "flash.size", "ram.origin", "ram.size", "stack_bytes")
"""Whole numbers of bytes: the linker needs one value, so `low = value = high`."""
ESTIMATED = ("clock_mhz", "cycles_per_instruction", "active_mw_per_mhz")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""A target's name: it stands in comments of linker scripts, and on command lines."""
ADDRESS_SPACE = 2**32
STACK_ALIGNMENT = 8
LARGEST = 1e12
"""Bound of any number here: what is larger is a slip, or infinite."""


@dataclass(frozen=True)
class TargetFile:
    """A target with the source of each of its numbers.

    Attributes:
        path: The file that was read.
        target: What the other rooms work with.
        quantities: Name as written in the file, such as "ram.size", and the number with interval and source.
    """

    path: Path
    target: Target
    quantities: tuple[tuple[str, Quantity], ...]


def list_targets() -> tuple[str, ...]:
    """Returns the names of the shipped targets in alphabetical order.

    Example:
        >>> "cortex-m7" in list_targets()
        True
    """
    return tuple(sorted(path.stem for path in TARGETS_FOLDER.glob("*.toml")))


def target_path(name: str) -> Path:
    """Returns the file of a shipped target, or `name` itself where it is a path to a `.toml` file.

    Raises:
        TargetError: If there is no such target or file.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise TargetError(f"There is no such target file. Received: {name!r}. Check the path.")
        return Path(name)
    names = list_targets()
    if name in names:
        return TARGETS_FOLDER / f"{name}.toml"
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise TargetError(
        f"Unknown target. Expected one of {', '.join(names)}, or the path of your own .toml file. "
        f"Received: {name!r}.{hint}"
    )


def find_target(name: str) -> Target:
    """Returns a shipped target by name, or a user's own by the path of its `.toml` file.

    Args:
        name: A name of `list_targets()`, or a path that ends in `.toml`.

    Raises:
        TargetError: If the target is unknown (the message names the known ones and the nearest), or its file
            is wrong.

    Example:
        >>> find_target("cortex-m7").ram.size
        524288
    """
    return read_target(target_path(name))


def read_target(path: Path) -> Target:
    """Reads and checks one target file.

    Raises:
        TargetError: If the file cannot be read, is no TOML, lacks a key, holds an unknown one, or a number of it
            is impossible.
    """
    return read_target_file(path).target


def read_target_file(path: Path) -> TargetFile:
    """Reads and checks one target file, and keeps the source of each number.

    Raises:
        TargetError: As `read_target()`.
    """
    entries = _flatten(path, _parse(path))
    expected = (*TEXTS, *EXACT, *ESTIMATED)
    for key in entries:
        if key not in expected:
            near = difflib.get_close_matches(key, expected, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " Remove it."
            raise _error(path, key, f"is unknown. Expected only {', '.join(expected)}.{hint}")
    for key in expected:
        if key not in entries:
            raise _error(path, key, "is missing. Copy it from a shipped target and give your own number and source.")
    texts = {key: _text(path, key, entries[key]) for key in TEXTS}
    if not NAME.fullmatch(texts["name"]):
        raise _error(path, "name", f"must be letters, digits and . _ + - only. Received: {texts['name']!r}.")
    exact = {key: _exact(path, key, entries[key]) for key in EXACT}
    estimated = {key: _estimated(path, key, entries[key]) for key in ESTIMATED}
    target = Target(
        name=texts["name"],
        description=texts["description"],
        core=texts["core"],
        flash=_memory(path, "flash", exact),
        ram=_memory(path, "ram", exact),
        stack_bytes=int(exact["stack_bytes"].value),
        clock_mhz=estimated["clock_mhz"],
        cycles_per_instruction=estimated["cycles_per_instruction"],
        active_mw_per_mhz=estimated["active_mw_per_mhz"],
    )
    _check_memories(path, target)
    return TargetFile(path, target, tuple((exact | estimated).items()))


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"Cannot read the target file {str(path)!r}: {error.strerror}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"The target file {str(path)!r} is no valid TOML: {error}.") from error


def _flatten(path: Path, document: Mapping[str, object]) -> dict[str, object]:
    """Names the entries of the tables `flash` and `ram` with a dot, as in "flash.size"."""
    entries: dict[str, object] = {}
    for key, value in document.items():
        if key not in ("flash", "ram"):
            entries[key] = value
        elif isinstance(value, dict):
            entries |= {f"{key}.{inner}": entry for inner, entry in value.items()}
        else:
            raise _error(path, key, f"must be a table with origin and size. Received: {value!r}.")
    return entries


def _text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _error(path, key, f"must be a text that is not empty. Received: {value!r}.")
    return value


def _quantity(path: Path, key: str, entry: object) -> Quantity:
    fields = ("value", "low", "high", "confidence", "source")
    if not isinstance(entry, dict) or sorted(entry) != sorted(fields):
        received = sorted(entry) if isinstance(entry, dict) else repr(entry)
        raise _error(path, key, f"must be a table with {', '.join(fields)}. Received: {received}.")
    value, low, high = (_number(path, f"{key}.{field}", entry[field]) for field in fields[:3])
    confidence = _text(path, f"{key}.confidence", entry["confidence"])
    if confidence not in CONFIDENCES:
        raise _error(path, f"{key}.confidence", f"must be one of {', '.join(CONFIDENCES)}. Received: {confidence!r}.")
    if not low <= value <= high:
        raise _error(path, key, f"must satisfy low <= value <= high. Received: low={low}, value={value}, high={high}.")
    return Quantity(value, low, high, confidence, _text(path, f"{key}.source", entry["source"]))


def _number(path: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise _error(path, key, f"must be a number of at most {LARGEST:g}. Received: {value!r}.")
    return value


def _exact(path: Path, key: str, entry: object) -> Quantity:
    quantity = _quantity(path, key, entry)
    if not quantity.low == quantity.value == quantity.high or quantity.value != int(quantity.value):
        raise _error(
            path,
            key,
            "must be a whole number with low = value = high. "
            f"Received: low={quantity.low}, value={quantity.value}, high={quantity.high}.",
        )
    smallest = 0 if key.endswith("origin") else 1
    if not smallest <= quantity.value < ADDRESS_SPACE:
        raise _error(path, key, f"must be {smallest} to {ADDRESS_SPACE - 1}. Received: {quantity.value}.")
    return quantity


def _estimated(path: Path, key: str, entry: object) -> Quantity:
    quantity = _quantity(path, key, entry)
    if quantity.low <= 0:
        raise _error(path, key, f"must be above 0. Received: low={quantity.low}.")
    return quantity


def _memory(path: Path, region: str, exact: Mapping[str, Quantity]) -> Memory:
    memory = Memory(int(exact[f"{region}.origin"].value), int(exact[f"{region}.size"].value))
    if memory.origin + memory.size > ADDRESS_SPACE:
        raise _error(path, region, f"ends beyond the 32-bit address space. Received: {memory}.")
    return memory


def _check_memories(path: Path, target: Target) -> None:
    flash, ram = target.flash, target.ram
    if flash.origin < ram.origin + ram.size and ram.origin < flash.origin + flash.size:
        raise _error(path, "ram", f"overlaps flash. Received: flash={flash}, ram={ram}.")
    if (ram.origin + ram.size) % STACK_ALIGNMENT:
        raise _error(path, "ram", f"must end at a multiple of 8, as the stack starts there. Received: {ram}.")
    if target.stack_bytes % STACK_ALIGNMENT or target.stack_bytes >= ram.size:
        raise _error(
            path,
            "stack_bytes",
            "must be a multiple of 8 (the Arm stack alignment) and smaller than the RAM. "
            f"Received: {target.stack_bytes} of {ram.size} bytes.",
        )


def _error(path: Path, key: str, what: str) -> TargetError:
    return TargetError(f"In the target file {str(path)!r}: {key} {what}")
