"""Reads a target from its TOML file; finds the shipped ones by name."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rct_tflite.errors import TargetError
from rct_tflite.spec.target import (
    OP_CLASSES,
    FlashTiming,
    FlashWriting,
    Headline,
    Memory,
    Quantity,
    Region,
    Target,
)
from rct_tflite.spec.target_checks import check_target, read_name, read_quantity, read_text, wrong

TARGETS_FOLDER = Path(__file__).resolve().parents[1] / "targets"
"""The shipped targets, one `.toml` file each."""

TEXTS = ("name", "description", "core")
EXACT = ("flash.origin", "flash.size", "ram.origin", "ram.size", "stack_bytes")
"""Whole numbers of bytes: the linker needs one value, so `low = value = high`."""
ESTIMATED = ("clock_mhz", "cycles_per_instruction", "active_mw_per_mhz")

OPTIONAL_EXACT = (
    "flash.wait_states",
    "flash.cache_bytes",
    "flash.read_bytes",
    "flash.erase_bytes",
    "flash.write_bytes",
)
OPTIONAL = (
    "clock_max_mhz",
    "voltage_v",
    "flash.zero_wait_mhz",
    "flash.erase_uj_per_byte",
    "flash.write_uj_per_byte",
    "flash.erase_us_per_byte",
    "flash.write_us_per_byte",
    "sleep_uw",
    "headline.ua_per_mhz",
    "headline.voltage_v",
    "external.read_nj_per_byte",
    *(f"cpi.{name}" for name in OP_CLASSES),
    *(f"power.{name}" for name in OP_CLASSES),
)
TABLES = ("flash", "ram", "headline", "external", "cpi", "power")
TOGETHER = (
    ("flash.wait_states", "flash.cache_bytes", "flash.zero_wait_mhz"),
    tuple(f"flash.{name}" for name in ("erase_bytes", "write_bytes"))
    + tuple(f"flash.{deed}_{unit}_per_byte" for deed in ("erase", "write") for unit in ("uj", "us")),
    ("headline.ua_per_mhz", "headline.voltage_v"),
)
"""Keys of which a file has all or none."""
NEEDS = {"flash.read_bytes": "flash.wait_states"}
"""Keys that say nothing without another."""
REGULATORS = ("linear", "switched")
REGION_KINDS = ("flash", "ram", "external")
INHERITED = ("stack_bytes", "cycles_per_instruction", "active_mw_per_mhz")
INHERITED_TABLES = ("cpi.", "power.")
"""What a part takes from the file of its core where its own does not say it."""


@dataclass(frozen=True)
class TargetFile:
    """A target with the source of each of its numbers.

    Attributes:
        path: The file that was read.
        target: What the other rooms work with.
        quantities: Name as written in the file, such as "ram.size", and the number with interval and source.
        inherited: Names of the quantities that the file takes from its core.
    """

    path: Path
    target: Target
    quantities: tuple[tuple[str, Quantity], ...]
    inherited: tuple[str, ...] = ()


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
    own = _flatten(path, _parse(path))
    entries = _from_core(path, own) | own
    _check_keys(path, entries)
    texts = {key: read_text(path, key, entries[key]) for key in TEXTS}
    read_name(path, texts["name"])
    quantities = {
        key: read_quantity(path, key, entries[key], exact=key in EXACT + OPTIONAL_EXACT)
        for key in (*EXACT, *ESTIMATED, *OPTIONAL_EXACT, *OPTIONAL)
        if key in entries
    }
    target = Target(
        name=texts["name"],
        description=texts["description"],
        core=texts["core"],
        flash=_memory(quantities, "flash"),
        ram=_memory(quantities, "ram"),
        stack_bytes=int(quantities["stack_bytes"].value),
        clock_mhz=quantities["clock_mhz"],
        cycles_per_instruction=quantities["cycles_per_instruction"],
        active_mw_per_mhz=quantities["active_mw_per_mhz"],
        clock_max_mhz=quantities.get("clock_max_mhz"),
        voltage_v=quantities.get("voltage_v"),
        linear_regulator=_regulator(path, entries) == "linear",
        op_cpi=_by_class(quantities, "cpi"),
        op_power=_by_class(quantities, "power"),
        regions=_regions(path, entries.get("region", [])),
        timing=_timing(quantities),
        writing=_writing(quantities),
        headline=_headline(quantities),
        sleep_uw=quantities.get("sleep_uw"),
        external_nj_per_byte=quantities.get("external.read_nj_per_byte"),
    )
    check_target(path, target)
    return TargetFile(path, target, tuple(quantities.items()), tuple(key for key in entries if key not in own))


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"Cannot read the target file {str(path)!r}: {error.strerror}. Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"The target file {str(path)!r} is no valid TOML: {error}.") from error


def _flatten(path: Path, document: Mapping[str, object]) -> dict[str, object]:
    """Names the entries of the `TABLES` with a dot, as in "flash.size"."""
    entries: dict[str, object] = {}
    for key, value in document.items():
        if key not in TABLES:
            entries[key] = value
        elif isinstance(value, dict):
            entries |= {f"{key}.{inner}": entry for inner, entry in value.items()}
        else:
            fields = "origin and size" if key in ("flash", "ram") else "quantities"
            raise wrong(path, key, f"must be a table with {fields}. Received: {value!r}.")
    return entries


def _from_core(path: Path, entries: Mapping[str, object]) -> dict[str, object]:
    """Returns what the file's core says of the keys that every part of the core may share."""
    core = entries.get("core")
    if not isinstance(core, str) or core not in list_targets() or core == entries.get("name"):
        return {}
    shared = _flatten(path, _parse(TARGETS_FOLDER / f"{core}.toml"))
    return {key: value for key, value in shared.items() if key in INHERITED or key.startswith(INHERITED_TABLES)}


def _check_keys(path: Path, entries: Mapping[str, object]) -> None:
    required = (*TEXTS, *EXACT, *ESTIMATED)
    expected = (*required, "regulator", "region", *OPTIONAL_EXACT, *OPTIONAL)
    for key in entries:
        if key not in expected:
            near = difflib.get_close_matches(key, expected, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " Remove it."
            raise wrong(path, key, f"is unknown. Expected only {', '.join(expected)}.{hint}")
    for key in required:
        if key not in entries:
            core = f" No shipped core {entries.get('core')!r} tells it." if key in INHERITED else ""
            raise wrong(path, key, f"is missing.{core} Copy it from a shipped target, with your own number and source.")
    for group in TOGETHER:
        missing = [key for key in group if key not in entries]
        if 0 < len(missing) < len(group):
            raise wrong(path, missing[0], f"is missing. Expected all or none of {', '.join(group)}.")
    for key, needed in NEEDS.items():
        if key in entries and needed not in entries:
            raise wrong(path, needed, f"is missing. Expected it with {key}. Add it, or leave out {key}.")


def _memory(quantities: Mapping[str, Quantity], region: str) -> Memory:
    return Memory(int(quantities[f"{region}.origin"].value), int(quantities[f"{region}.size"].value))


def _by_class(quantities: Mapping[str, Quantity], table: str) -> tuple[tuple[str, Quantity], ...]:
    return tuple((name, quantities[f"{table}.{name}"]) for name in OP_CLASSES if f"{table}.{name}" in quantities)


def _timing(quantities: Mapping[str, Quantity]) -> FlashTiming | None:
    if "flash.wait_states" not in quantities:
        return None
    read_bytes = quantities.get("flash.read_bytes")
    return FlashTiming(
        wait_states=int(quantities["flash.wait_states"].value),
        zero_wait_mhz=quantities["flash.zero_wait_mhz"],
        cache_bytes=int(quantities["flash.cache_bytes"].value),
        read_bytes=None if read_bytes is None else int(read_bytes.value),
    )


def _writing(quantities: Mapping[str, Quantity]) -> FlashWriting | None:
    if "flash.erase_bytes" not in quantities:
        return None
    return FlashWriting(
        erase_bytes=int(quantities["flash.erase_bytes"].value),
        write_bytes=int(quantities["flash.write_bytes"].value),
        erase_uj_per_byte=quantities["flash.erase_uj_per_byte"],
        write_uj_per_byte=quantities["flash.write_uj_per_byte"],
        erase_us_per_byte=quantities["flash.erase_us_per_byte"],
        write_us_per_byte=quantities["flash.write_us_per_byte"],
    )


def _headline(quantities: Mapping[str, Quantity]) -> Headline | None:
    if "headline.ua_per_mhz" not in quantities:
        return None
    return Headline(quantities["headline.ua_per_mhz"], quantities["headline.voltage_v"])


def _regulator(path: Path, entries: Mapping[str, object]) -> str:
    regulator = entries.get("regulator", "switched")
    if regulator not in REGULATORS:
        raise wrong(path, "regulator", f"must be one of {', '.join(REGULATORS)}. Received: {regulator!r}.")
    return str(regulator)


def _regions(path: Path, entries: object) -> tuple[Region, ...]:
    if not isinstance(entries, list):
        raise wrong(path, "region", f"must be tables headed [[region]]. Received: {entries!r}.")
    return tuple(_region(path, f"region {number}", entry) for number, entry in enumerate(entries, 1))


def _region(path: Path, key: str, entry: object) -> Region:
    fields = ("name", "kind", "origin", "size")
    if not isinstance(entry, dict) or sorted(entry) != sorted(fields):
        received = sorted(entry) if isinstance(entry, dict) else repr(entry)
        raise wrong(path, key, f"must be a table with {', '.join(fields)}. Received: {received}.")
    kind, origin, size = entry["kind"], entry["origin"], entry["size"]
    if kind not in REGION_KINDS:
        raise wrong(path, f"{key}.kind", f"must be one of {', '.join(REGION_KINDS)}. Received: {kind!r}.")
    if not isinstance(origin, int) or not isinstance(size, int) or origin < 0 or size <= 0:
        raise wrong(path, key, f"must have whole numbers of bytes. Received: origin={origin!r}, size={size!r}.")
    return Region(read_text(path, f"{key}.name", entry["name"]), kind, Memory(origin, size))
