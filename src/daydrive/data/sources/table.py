"""Validated action tables in CSV files, and selected columns of other CSV files."""

from __future__ import annotations

import csv
import difflib
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.timestamps import TimeCells, Times
from daydrive.errors import UserError
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

Array = npt.NDArray[np.float64]

SEPARATORS = ",;\t"
SCALED = ("steering", "throttle", "brake", "speed")
"""Columns of `read_actions` that may be scaled."""

_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(E[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class ActionTable:
    """actions (N, 4) in the ranges of `Frame.action`; times, strictly increasing; speed (N,) in any unit."""

    actions: Array
    times: Times | None
    speed: Array | None


def read_actions(file: Path, scales: Mapping[str, float] | None = None, time_scale: float | None = None) -> ActionTable:
    """Reads a CSV with the columns steering, throttle, brake, gear and optionally time and speed; others are ignored.

    scales: factors by column; scaled actions are clipped to their ranges. time_scale: seconds per unit of the time;
    recognized by default. A UserError names file and row (the header is row 1).
    """
    rows: list[list[float]] = []
    moments = TimeCells("time")
    with _rows(file) as table:
        header = [cell.strip() for cell in next(table, [])]
        wanted = _columns(header, file)
        time = wanted.pop("time", None)
        for where, cells in _below_header(table, header, file):
            rows.append([_cell(cells[index], name, where, scales) for name, index in wanted.items()])
            if time is not None:
                moments.add(cells[time], where)
                moments.check_order(where)
    if len(rows) < 2:
        raise UserError(f"{file} has {len(rows)} rows below its header; a drive needs at least 2")
    values = dict(zip(wanted, np.array(rows).T, strict=True))
    actions = np.stack([values[name] for name in ACTION_NAMES], axis=1)
    return ActionTable(actions, None if time is None else moments.times(file, time_scale), values.get("speed"))


def separator_of(stream: TextIO) -> str:
    """The separator of a CSV, a comma, semicolon or tab, that occurs most often in its first row."""
    separator = max(SEPARATORS, key=stream.readline().count)
    stream.seek(0)
    return separator


def cells_of(stream: TextIO, file: Path, separator: str = ",") -> Iterator[list[str]]:
    """The rows of a CSV; raises UserError if it is malformed."""
    reader = csv.reader(stream, delimiter=separator)
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{file}, row {reader.line_num}: not CSV ({error})") from error


def number(text: str, column: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The number in a cell; raises UserError, naming `where`, unless it is finite and within [low, high]."""
    try:
        value = float(text)
    except ValueError as error:
        hint = " with a decimal point" if _DECIMAL_COMMA.fullmatch(text.strip()) else ""
        raise UserError(f"{where}: {column} is '{text.strip()[:40]}', expected a number{hint}") from error
    if not math.isfinite(value):
        raise UserError(f"{where}: {column} is {value}, which is not a finite number")
    if not low <= value <= high:
        raise UserError(f"{where}: {column} is {value:g}, outside [{low:g}, {high:g}]")
    return value


def _columns(header: Sequence[str], file: Path) -> dict[str, int]:
    wanted = {}
    known = columns_of(header)
    for name in (*ACTION_NAMES, "time", "speed"):
        if name in known:
            wanted[name] = header.index(known[name])
        elif name in ACTION_NAMES:
            near = difflib.get_close_matches(name, [cell.lower() for cell in header], n=1, cutoff=0.5)
            hint = f"; rename '{near[0]}'?" if near else f"; required columns: {','.join(ACTION_NAMES)}"
            raise UserError(f"{file}, row 1: there is no column '{name}'{hint}")
    return wanted


def columns_of(header: Sequence[str]) -> dict[str, str]:
    """The columns by their name in lower case; of several that differ in their case only, the lower one or the last."""
    return {name.lower(): name for name in sorted(header)}


def _cell(text: str, column: str, where: str, scales: Mapping[str, float] | None) -> float:
    value = number(text, column, where) * (scales or {}).get(column, 1.0)
    if column not in ACTION_NAMES:
        return value
    index = ACTION_NAMES.index(column)
    low, high = float(ACTION_LOW[index]), float(ACTION_HIGH[index])
    if column in (scales or {}):
        return min(max(value, low), high)
    if not low <= value <= high:
        hint = f"; set a factor to that range with --set {column}_scale=F" if scales is not None else ""
        raise UserError(
            f"{where}: {column} is {value:g}, outside [{low:g}, {high:g}]{hint if column in SCALED else ''}"
        )
    if column == "gear" and not value.is_integer():
        raise UserError(f"{where}: gear is {value:g}, not one of -1, 0, 1")
    return value


def read_header(file: Path) -> list[str]:
    """The column names; raises UserError if there are none, or two columns have the same name."""
    with _rows(file) as rows:
        header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise UserError(f"{file} is empty; its first row must contain the column names")
    if len(header) == 1 and "|" in header[0]:
        raise UserError(f"{file}, row 1: the columns '{header[0][:40]}' are separated by '|', expected , or ; or tabs")
    duplicate = next((name for k, name in enumerate(header) if name and name in header[:k]), None)
    if duplicate is not None:
        raise UserError(f"{file}, row 1: there are two columns '{duplicate}'")
    return header


def read_columns(file: Path, names: Sequence[str], moments: TimeCells | None = None) -> dict[str, Array]:
    """The named columns, (N,) each, N >= 2; a UserError for an invalid number names the row (the header is row 1).

    moments: gets the cells of its column, which has to increase.
    """
    header = read_header(file)
    indices = [header.index(name) for name in names]
    time = header.index(moments.column) if moments else 0
    columns = [array("d") for _ in names]
    with _rows(file) as rows:
        next(rows)
        for where, cells in _below_header(rows, header, file):
            for column, index, name in zip(columns, indices, names, strict=True):
                column.append(number(cells[index], name, where))
            if moments:
                moments.add(cells[time], where)
                moments.check_order(where)
    if names and len(columns[0]) < 2:
        raise UserError(f"{file} has {len(columns[0])} rows below its header; a drive needs at least 2")
    return {name: np.frombuffer(column, dtype=np.float64) for name, column in zip(names, columns, strict=True)}


@contextmanager
def _rows(file: Path) -> Iterator[Iterator[list[str]]]:
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            yield cells_of(stream, file, separator_of(stream))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error


def _below_header(rows: Iterator[list[str]], header: Sequence[str], file: Path) -> Iterator[tuple[str, list[str]]]:
    """File and row, and the cells, of each row below the header; blank rows may only follow the last one."""
    blank = 0
    for row, cells in enumerate(rows, start=2):
        if not any(cells):
            blank = blank or row
            continue
        if blank:
            raise UserError(f"{file}, row {blank}: empty row before other rows")
        if len(cells) != len(header):
            raise UserError(f"{file}, row {row}: there are {len(cells)} cells, but the header has {len(header)}")
        yield f"{file}, row {row}", cells
