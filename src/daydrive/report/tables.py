"""Numbers as text, and tables of them in Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from daydrive.viz.html import environment

NOTHING = "–"
RIGHT = "---:"
"""Alignment of a Markdown column."""


class Rows(NamedTuple):
    """A table; of each row the first cell says what it is about."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def has_text(self) -> list[bool]:
        """Which columns are of words: they stand to the left and may break, numbers don't."""
        return [any(row[k][:1].isalpha() for row in self.rows) for k in range(len(self.heads))]


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> str:
    """align: of all columns, `RIGHT` for numbers."""
    lines = [heads, [align] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html_table(rows: Rows, caption: str = "") -> Markup:
    """In a box of its own that scrolls sideways, by keyboard too, where the page is narrow. caption: what the table is
    about, for who can't see what is above it."""
    module: Any = environment(__package__).get_template("macros.html").module
    return Markup(module.table(rows, caption))


def number(value: float | None, form: str = ".2f") -> str:
    """form: as of `format`, of fixed point; there is no negative zero."""
    return NOTHING if value is None else format(value, form.replace(".", "z.", 1))


def with_interval(value: float | None, bounds: Sequence[float | None] | None, form: str = ".2f") -> str:
    """'1.00 [0.90, 1.10]', the value alone without an interval."""
    if value is None or not bounds or None in bounds:
        return number(value, form)
    return f"{number(value, form)} [{', '.join(number(bound, form) for bound in bounds)}]"


def plain(value: Any) -> str:
    """A line of the manifest: what is in a list or dictionary one after the other."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return NOTHING if value is None else str(value)
