"""Figures as text, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

NOTHING = "–"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> str:
    """align: of all columns, '---:' to the right."""
    lines = [heads, [align] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def number(value: float | None, form: str = ".2f") -> str:
    return NOTHING if value is None else format(value, form)


def with_interval(value: float | None, bounds: Sequence[float | None] | None, form: str = ".2f") -> str:
    """'1.00 [0.90, 1.10]', the value alone without an interval."""
    if value is None or not bounds or None in bounds:
        return number(value, form)
    return f"{number(value, form)} [{', '.join(number(bound, form) for bound in bounds)}]"


def said(value: Any) -> str:
    """A line of the manifest: what is in a list or dictionary one after the other."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return NOTHING if value is None else str(value)
