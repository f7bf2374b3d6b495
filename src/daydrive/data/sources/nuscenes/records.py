"""Streaming reader for nuScenes tables: JSON lists of records, parsed incrementally with constant memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from daydrive.data.sources.files import inside
from daydrive.errors import UserError

PAGE_SIZE = 1 << 20
MAX_RECORD_LENGTH = 1 << 18
"""Maximum length of a record, characters."""

MAX_INTEGER = 1 << 53
"""Largest integer up to which float64 is exact."""

_OPENING, _BETWEEN = re.compile(r"\s*\[\s*(\]?)"), re.compile(r"\s*([,\]])\s*")


class Record(NamedTuple):
    """A record. number: its position in the file, from 1. fields: validated by the accessors below, which raise
    UserError."""

    file: Path
    number: int
    fields: dict[str, Any]

    @property
    def where(self) -> str:
        return record_location(self.file, self.number, self.fields.get("token"))

    def text(self, name: str) -> str:
        """A string, which may be empty."""
        value = self._field(name)
        return value if isinstance(value, str) else self._reject(name, "a string")

    def token(self, name: str = "token") -> str:
        """A non-empty string that identifies a record."""
        return self.text(name) or self._reject(name, "a token")

    def flag(self, name: str) -> bool:
        value = self._field(name)
        return value if isinstance(value, bool) else self._reject(name, "true or false")

    def integer(self, name: str) -> int:
        """An integer in [0, `MAX_INTEGER`)."""
        value = self._field(name)
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_INTEGER
        return value if fits else self._reject(name, "a non-negative integer")

    def float_number(self, name: str) -> float:
        """A finite number."""
        value = self._field(name)
        return float(value) if _finite(value) else self._reject(name, "a finite number")

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of `count` finite numbers."""
        value = self._field(name)
        fits = isinstance(value, list) and len(value) == count and all(map(_finite, value))
        return [float(number) for number in value] if fits else self._reject(name, f"{count} finite numbers")

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise UserError(f"{self.where}: it has no '{name}'")
        return self.fields[name]

    def _reject(self, name: str, expected: str) -> Any:
        raise UserError(f"{self.where}: {name} is {repr(self.fields[name])[:60]}, expected {expected}")


def record_location(file: Path, number: int, token: object) -> str:
    """The location of a record for error messages."""
    suffix = f" (token {repr(token)[1:-1][:64]})" if isinstance(token, str) and token else ""
    return f"{file}, record {number}{suffix}"


def records(file: Path, root: Path) -> Iterator[Record]:
    """The records of a file below `root`; raises UserError if it is not a complete JSON list of records."""
    try:
        with inside(file, root).open(encoding="utf-8-sig", errors="replace") as stream:
            for number, fields in enumerate(_elements(stream, file), start=1):
                if not isinstance(fields, dict):
                    raise UserError(f"{file}, record {number}: {repr(fields)[:40]} is not a record")
                yield Record(file, number, fields)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error


def read_table(file: Path, root: Path) -> dict[str, Record]:
    """The records of a small table by token, in order; raises UserError for a duplicate token."""
    found: dict[str, Record] = {}
    for record in records(file, root):
        if found.setdefault(record.token(), record) is not record:
            raise UserError(f"{record.where}: the same token as record {found[record.token()].number}")
    return found


def _elements(stream: TextIO, file: Path) -> Iterator[Any]:
    """The elements of a list: those of a page at once or, if that does not parse, one by one."""
    decoder, page, at, ended, done, one_by_one = json.JSONDecoder(), "", 0, False, 0, False
    while True:
        if not ended and len(page) - at < MAX_RECORD_LENGTH:
            text = stream.read(PAGE_SIZE)
            page, at, ended, one_by_one = page[at:] + text, 0, len(text) < PAGE_SIZE, False
        match = (_BETWEEN if done else _OPENING).match(page, at)
        if match is None:
            problem = f"is malformed or truncated after record {done}" if done else "is not a JSON list of records"
            raise UserError(f"{file} {problem}")
        at = match.end()
        if match[1] == "]":
            if page[at:].strip():
                raise UserError(f"{file} has trailing data after record {done}")
            return
        values, end = ([], at) if one_by_one else _up_to_last_brace(decoder, page, at)
        if not values:
            one_by_one = True
            try:
                value, end = decoder.raw_decode(page, at)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", None) or str(error).split(";")[0]
                problem = f"truncated ({reason})" if ended else f"longer than {MAX_RECORD_LENGTH} characters"
                raise UserError(f"{file}, record {done + 1} is malformed or {problem}") from error
            values = [value]
        yield from values
        at, done = end, done + len(values)


def _up_to_last_brace(decoder: json.JSONDecoder, page: str, at: int) -> tuple[list[Any], int]:
    """The elements between `at` and the last closing brace, and their end; none if the text up to there is invalid."""
    end = page.rfind("}", at) + 1
    try:
        return decoder.decode(f"[{page[at:end]}]"), max(at, end)
    except (ValueError, RecursionError):
        return [], at


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
