"""Formats numbers and tables in Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from daydrive.viz.html import environment

MISSING = "–"
RIGHT = "---:"
"""Alignment of a Markdown column."""


class Rows(NamedTuple):
    """A table. The first cell of each row is its header."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def has_text(self) -> list[bool]:
        """Whether each column contains text: text is aligned to the left and may wrap, numbers do not."""
        return [any(row[k][:1].isalpha() for row in self.rows) for k in range(len(self.heads))]


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> str:
    """A Markdown table. align: alignment of all columns, `RIGHT` for numbers."""
    lines = [heads, [align] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html_table(rows: Rows, caption: str = "") -> Markup:
    """An HTML table in a box that scrolls horizontally, also by keyboard, on narrow pages. caption: its accessible
    label."""
    module: Any = environment(__package__).get_template("macros.html").module
    return Markup(module.table(rows, caption))


def format_number(value: float | None, form: str = ".2f") -> str:
    """Formats a number with a fixed-point format specification, without negative zero; `MISSING` for None."""
    return MISSING if value is None else format(value, form.replace(".", "z.", 1))


def format_with_interval(value: float | None, bounds: Sequence[float | None] | None, form: str = ".2f") -> str:
    """Formats a value with its interval, as '1.00 [0.90, 1.10]', or the value alone without one."""
    if value is None or not bounds or None in bounds:
        return format_number(value, form)
    return f"{format_number(value, form)} [{', '.join(format_number(bound, form) for bound in bounds)}]"


def format_value(value: Any) -> str:
    """Formats a value of the manifest; lists and dictionaries are joined with commas."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return MISSING if value is None else str(value)
