"""Figures as text, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

NOTHING = "–"
_TEXT = ' class="text"'


class Rows(NamedTuple):
    """A table; of each row the first cell says what it is about."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> str:
    """align: of all columns, '---:' to the right."""
    lines = [heads, [align] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """In a box of its own that scrolls sideways, by keyboard too, where the page is narrow. Columns of words stand to
    the left and may break, numbers don't. caption: what the table is about, for who can't see what is above it."""
    rows = list(rows)
    told = [any(_is_text(row[k]) for row in rows) for k in range(len(heads))]
    cells = "".join(
        f'<th scope="col"{_TEXT * text}>{escape(name)}</th>' for name, text in zip(heads, told, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{_TEXT * text}>{escape(cell)}</td>" for cell, text in zip(row[1:], told[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    label = f'aria-label="{escape(caption or heads[0])}"'
    return (
        f'<div class="scroll" tabindex="0" role="region" {label}><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_text(cell: str) -> bool:
    return cell[:1].isalpha()


def number(value: float | None, form: str = ".2f") -> str:
    """form: as of `format`, of fixed point; there is no negative zero."""
    return NOTHING if value is None else format(value, form.replace(".", "z.", 1))


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
