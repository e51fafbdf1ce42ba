"""Constant tables and structs as C."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LINE_WIDTH = 108

_UNFIT = re.compile(r"[^\x20-\x7e]|\*/|/\*|[\\?]")


@dataclass(frozen=True)
class Table:
    """A constant array."""

    name: str
    ctype: str
    comment: str
    values: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return len(self.values)

    @property
    def rows(self) -> str:
        """The elements as indented lines."""
        return format_rows(self.values)


def table(name: str, ctype: str, comment: str, values: npt.ArrayLike) -> Table:
    """Makes a table of an array of any shape, in C order."""
    return Table(name, ctype, comment_text(comment), tuple(int(v) for v in np.asarray(values).reshape(-1)))


def comment_text(text: str) -> str:
    """Returns a text that neither ends nor opens a C comment: files of others name tensors as they like.

    Example:
        >>> comment_text("a/b */ int x;")
        'a/b _ int x;'
    """
    return _UNFIT.sub("_", text)


def format_rows(values: Sequence[int]) -> str:
    """Breaks numbers into lines.

    Example:
        >>> format_rows([1, -2, 3])
        '    1, -2, 3,'
    """
    lines, line = [], "   "
    for value in values:
        word = f" {value},"
        if len(line) + len(word) > LINE_WIDTH:
            lines.append(line)
            line = "   "
        line += word
    return "\n".join([*lines, line])


def struct_text(**fields: object) -> str:
    """Returns the initialiser of a struct inside another one.

    Example:
        >>> struct_text(count=3, sums="SUMS")
        '{.count = 3, .sums = SUMS}'
    """
    return "{" + ", ".join(f".{key} = {value}" for key, value in fields.items()) + "}"


def format_struct(value: str) -> str:
    """Breaks the initialiser of a struct into one line per field, and longer fields into several.

    Example:
        >>> print(format_struct("{.a = {.b = 1, .c = 2}, .d = 3}"))
        {
            .a = {.b = 1, .c = 2},
            .d = 3,
        }
    """
    fields, depth, start = [], 0, 1
    for position, character in enumerate(value):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if (depth == 1 and character == ",") or depth == 0:
            fields.append(value[start:position].strip() + ",")
            start = position + 1
    # A name and its value stay on one line.
    tied = [field.replace(" = ", "\xa0=\xa0") for field in fields]
    wrapper = textwrap.TextWrapper(LINE_WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return "\n".join(["{", *map(wrapper.fill, tied), "}"]).replace("\xa0", " ")
