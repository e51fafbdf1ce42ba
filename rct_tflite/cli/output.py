"""How every command prints: text for people, or one JSON object."""

import json
from collections.abc import Mapping

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else.")
"""Gives a command the parameter `as_json`."""


def print_json(result: Mapping[str, object]) -> None:
    """Prints a result as one JSON object. NaN and infinity, which JSON lacks, are refused."""
    click.echo(json.dumps(result, indent=2, allow_nan=False))
