"""Writes a user's own target file: a shipped target with the numbers that were measured."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rct_tflite.energy.calibration.calibrate import Calibration
from rct_tflite.errors import OutputFolderError, TargetError
from rct_tflite.spec.target import OP_CLASSES, Quantity
from rct_tflite.spec.target_file import TargetFile, read_target_file

WRITING = "flash."
"""Prefix of the numbers that need the sizes of the flash's units beside them."""


def write_target(base: TargetFile, calibration: Calibration, path: Path) -> tuple[str, ...]:
    """Writes a target file with what was fitted; all other numbers are those of the base.

    Args:
        base: The target that the calibration began with.
        calibration: What was measured.
        path: A `.toml` file; its name becomes the target's name.

    Returns:
        Names of fitted numbers that a target file has no place for.

    Raises:
        TargetError: If the name cannot be a target's, or the numbers contradict those of the base.
        OutputFolderError: If the file cannot be written.
    """
    if path.suffix != ".toml":
        raise TargetError(f"A target file ends in .toml. Received: {str(path)!r}. Choose such as my_board.toml.")
    fitted = {c.name: c.quantity for c in calibration.coefficients if c.is_fitted}
    taken = {name: quantity for name, quantity in fitted.items() if _has_place(base, name)}
    quantities = {**dict(base.quantities), **taken}
    clock = quantities["clock_mhz"]
    if clock.value != calibration.clock_mhz:
        mhz = calibration.clock_mhz
        quantities["clock_mhz"] = Quantity(mhz, mhz, mhz, "measured", f"Clock of the calibration. {calibration.source}")
    staged = path.with_name(f".{path.stem}.{os.getpid()}.toml")
    try:
        staged.write_text(_document(base, path.stem, quantities), encoding="utf-8")
        read_target_file(staged)
        staged.replace(path)
    except TargetError as error:
        raise TargetError(str(error).replace(str(staged), str(path))) from error
    except OSError as error:
        raise OutputFolderError(f"Cannot write {path}: {error}. Choose another place for --out.") from error
    finally:
        staged.unlink(missing_ok=True)
    return tuple(name for name in fitted if name not in taken)


def _has_place(base: TargetFile, name: str) -> bool:
    table, _, key = name.rpartition(".")
    if table in ("cpi", "power"):
        return key in OP_CLASSES
    return not name.startswith(WRITING) or base.target.writing is not None


def _document(base: TargetFile, name: str, quantities: Mapping[str, Quantity]) -> str:
    target = base.target
    lines = [
        f"# Written by 'rct-tflite calibrate fit' from the target {target.name}.",
        f"name = {json.dumps(name)}",
        f"description = {json.dumps(f'{target.description}, calibrated')}",
        f"core = {json.dumps(target.core)}",
        f'regulator = "{"linear" if target.linear_regulator else "switched"}"',
    ]
    for key, quantity in quantities.items():
        lines += ["", f"[{key}]", *(f"{field} = {_toml(value)}" for field, value in asdict(quantity).items())]
    for region in target.regions:
        lines += ["", "[[region]]", f"name = {json.dumps(region.name)}", f"kind = {json.dumps(region.kind)}"]
        lines += [f"origin = {region.memory.origin}", f"size = {region.memory.size}"]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Numbers with six digits, which is more than any measurement has; whole numbers as they are."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    assert isinstance(value, int | float)
    return repr(int(value)) if float(value).is_integer() else repr(float(f"{value:.6g}"))
