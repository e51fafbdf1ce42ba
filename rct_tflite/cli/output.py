"""How every command prints: text for people, or one JSON object."""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rct_tflite.energy.estimate import Estimate, Interval

_FACTORS = {"K": 1024, "M": 1024 * 1024}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else.")
"""Gives a command the parameter `as_json`."""


class Size(click.ParamType[int]):
    """A number of bytes, above 0; K and M are 1,024 and 1,048,576 of them."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads "65536", "64K" or "1M"."""
        text = str(value).strip().upper()
        number, factor = (text[:-1], _FACTORS[text[-1]]) if text[-1:] in _FACTORS else (text, 1)
        if not number.isdecimal() or int(number) == 0:
            self.fail(f"expected a number of bytes such as 65536 or 64K, received {value!r}", param, ctx)
        return int(number) * factor


class Number(click.FloatRange):
    """A finite number within a range; click's own lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads a number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"expected a finite number, received {value!r}", param, ctx)
        return number


def print_json(result: Mapping[str, object]) -> None:
    """Prints a result as one JSON object. NaN and infinity, which JSON lacks, are refused."""
    click.echo(json.dumps(result, indent=2, allow_nan=False))


def format_interval(interval: Interval, factor: float, unit: str) -> str:
    """Writes an estimate with its interval, two digits each: more would pretend.

    Args:
        interval: In the unit of the estimate.
        factor: Turns it into `unit`.
        unit: As printed.

    Example:
        >>> format_interval(Interval(0.00234, 0.0016, 0.0039), 1e6, "us")
        '2,300 us (1,600 to 3,900)'
    """
    value, low, high = (
        f"{float(f'{number * factor:.2g}'):,g}" for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} {unit} ({low} to {high})"


def format_cost(cost: Estimate) -> str:
    """Writes time and energy of an estimate, each with its interval."""
    return f"{format_interval(cost.time_s, 1e3, 'ms')}, {format_interval(cost.energy_j, 1e6, 'uJ')}"


def interval_json(interval: Interval | None) -> dict[str, float] | None:
    """Returns an interval for JSON, None for one that was not asked."""
    return None if interval is None else dataclasses.asdict(interval)


def typed(path: Path) -> str:
    """Returns a path as it is typed in a shell.

    Example:
        >>> typed(Path("my build/kws"))
        "'my build/kws'"
    """
    return shlex.quote(str(path))
