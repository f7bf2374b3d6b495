"""JSON files that hold one list of records, read a record at a time: a table of any size takes the memory of a page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from daydrive.data.sources.files import inside
from daydrive.errors import UserError

PAGE = 1 << 20
LONGEST = 1 << 18
"""Characters of a record at most."""

LARGEST_WHOLE = 1 << 53
"""up to which a float64 column holds whole numbers exactly"""

_OPENING, _BETWEEN = re.compile(r"\s*\[\s*(\]?)"), re.compile(r"\s*([,\]])\s*")


class Record(NamedTuple):
    """A record, its number in its file (from 1), and its fields, checked when they are asked for."""

    file: Path
    number: int
    fields: dict[str, Any]

    @property
    def where(self) -> str:
        return place(self.file, self.number, self.fields.get("token"))

    def text(self, name: str) -> str:
        """A text, which may be empty."""
        value = self._field(name)
        return value if isinstance(value, str) else self._refuse(name, "a text belongs")

    def token(self, name: str = "token") -> str:
        """A text that names a record."""
        return self.text(name) or self._refuse(name, "a token belongs")

    def flag(self, name: str) -> bool:
        value = self._field(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false belongs")

    def whole(self, name: str) -> int:
        """A whole number from 0 to `LARGEST_WHOLE`."""
        value = self._field(name)
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_WHOLE
        return value if fits else self._refuse(name, "a whole number belongs")

    def number_in(self, name: str) -> float:
        """A finite number."""
        value = self._field(name)
        return float(value) if _finite(value) else self._refuse(name, "a finite number belongs")

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of `count` finite numbers."""
        value = self._field(name)
        fits = isinstance(value, list) and len(value) == count and all(map(_finite, value))
        return [float(number) for number in value] if fits else self._refuse(name, f"{count} finite numbers belong")

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise UserError(f"{self.where}: it has no '{name}'")
        return self.fields[name]

    def _refuse(self, name: str, wanted: str) -> Any:
        raise UserError(f"{self.where}: {name} is {repr(self.fields[name])[:60]} where {wanted}")


def place(file: Path, number: int, token: object) -> str:
    """How a record is named in an error."""
    named = f" (token {repr(token)[1:-1][:64]})" if isinstance(token, str) and token else ""
    return f"{file}, record {number}{named}"


def records(file: Path, root: Path) -> Iterator[Record]:
    """The records of a file below `root`; UserError for what is not a whole JSON list of them."""
    try:
        with inside(file, root).open(encoding="utf-8-sig", errors="replace") as stream:
            for number, fields in enumerate(_elements(stream, file), start=1):
                if not isinstance(fields, dict):
                    raise UserError(f"{file}, record {number}: {repr(fields)[:40]} is not a record")
                yield Record(file, number, fields)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error


def table(file: Path, root: Path) -> dict[str, Record]:
    """The records of a small table by their tokens, in order; UserError for a token that is there twice."""
    found: dict[str, Record] = {}
    for record in records(file, root):
        if found.setdefault(record.token(), record) is not record:
            raise UserError(f"{record.where}: the same token as record {found[record.token()].number}")
    return found


def _elements(stream: TextIO, file: Path) -> Iterator[Any]:
    """The elements of a list: those of a page at once or, where a page isn't cut after one of them, one by one."""
    decoder, page, at, ended, done, singly = json.JSONDecoder(), "", 0, False, 0, False
    while True:
        if not ended and len(page) - at < LONGEST:
            more = stream.read(PAGE)
            page, at, ended, singly = page[at:] + more, 0, len(more) < PAGE, False
        mark = (_BETWEEN if done else _OPENING).match(page, at)
        if mark is None:
            fault = f"is broken or cut off after record {done}" if done else "is not a JSON list of records"
            raise UserError(f"{file} {fault}")
        at = mark.end()
        if mark[1] == "]":
            if page[at:].strip():
                raise UserError(f"{file} goes on after its end, record {done}")
            return
        values, end = ([], at) if singly else _up_to_last_brace(decoder, page, at)
        if not values:
            singly = True
            try:
                value, end = decoder.raw_decode(page, at)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", None) or str(error).split(";")[0]
                fault = f"broken or cut off ({reason})" if ended else f"broken or longer than {LONGEST} characters"
                raise UserError(f"{file}, record {done + 1} is {fault}") from error
            values = [value]
        yield from values
        at, done = end, done + len(values)


def _up_to_last_brace(decoder: json.JSONDecoder, page: str, at: int) -> tuple[list[Any], int]:
    """The elements between `at` and the last closing brace, and where they end; none where that brace ends none."""
    end = page.rfind("}", at) + 1
    try:
        return decoder.decode(f"[{page[at:end]}]"), max(at, end)
    except (ValueError, RecursionError):
        return [], at


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
