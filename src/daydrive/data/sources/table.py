"""Validated action tables in CSV files, and selected columns of other CSV files."""

from __future__ import annotations

import csv
import difflib
import math
from array import array
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class ActionTable:
    """actions (N, 4) in the ranges of `Frame.action`; times, strictly increasing; speed (N,) in any unit."""

    actions: Array
    times: Times | None
    speed: Array | None


def read_actions(file: Path, time_scale: float | None = None) -> ActionTable:
    """Reads a CSV with the columns steering, throttle, brake, gear and optionally time and speed; others are ignored.

    time_scale: seconds per unit of the time; recognized by default. A UserError names file and row (the header is row
    1).
    """
    rows: list[list[float]] = []
    moments = TimeCells("time")
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        table = cells_of(stream, file)
        header = [cell.strip() for cell in next(table, [])]
        wanted = _columns(header, file)
        time = header.index("time") if "time" in header else None
        for row, cells in enumerate(table, start=2):
            where = f"{file}, row {row}"
            if len(cells) != len(header):
                raise UserError(f"{where}: there are {len(cells)} cells, but the header has {len(header)}")
            rows.append([_cell(cells[index], name, where) for name, index in wanted.items()])
            if time is not None:
                moments.add(cells[time], where)
                moments.check_order(where)
    if len(rows) < 2:
        raise UserError(f"{file} has {len(rows)} rows below its header; a drive needs at least 2")
    values = dict(zip(wanted, np.array(rows).T, strict=True))
    actions = np.stack([values[name] for name in ACTION_NAMES], axis=1)
    return ActionTable(actions, None if time is None else moments.times(file, time_scale), values.get("speed"))


def cells_of(stream: TextIO, file: Path) -> Iterator[list[str]]:
    """The rows of a CSV; raises UserError if it is malformed."""
    reader = csv.reader(stream)
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{file}, row {reader.line_num}: not CSV ({error})") from error


def number(text: str, column: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The number in a cell; raises UserError, naming `where`, unless it is finite and within [low, high]."""
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{where}: {column} is '{text.strip()[:40]}', expected a number") from error
    if not math.isfinite(value):
        raise UserError(f"{where}: {column} is {value}, which is not a finite number")
    if not low <= value <= high:
        raise UserError(f"{where}: {column} is {value:g}, outside [{low:g}, {high:g}]")
    return value


def _columns(header: Sequence[str], file: Path) -> dict[str, int]:
    wanted = {}
    for name in (*ACTION_NAMES, "speed"):
        if name in header:
            wanted[name] = header.index(name)
        elif name in ACTION_NAMES:
            near = difflib.get_close_matches(name, [cell.lower() for cell in header], n=1, cutoff=0.5)
            hint = f"; rename '{near[0]}'?" if near else f"; required columns: {','.join(ACTION_NAMES)}"
            raise UserError(f"{file}, row 1: there is no column '{name}'{hint}")
    return wanted


def _cell(text: str, column: str, where: str) -> float:
    if column not in ACTION_NAMES:
        return number(text, column, where)
    index = ACTION_NAMES.index(column)
    value = number(text, column, where, float(ACTION_LOW[index]), float(ACTION_HIGH[index]))
    if column == "gear" and not value.is_integer():
        raise UserError(f"{where}: gear is {value:g}, not one of -1, 0, 1")
    return value


def read_header(file: Path) -> list[str]:
    """The column names; raises UserError if there are none, or two columns have the same name."""
    with _rows(file) as rows:
        header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise UserError(f"{file} is empty; its first row must contain the column names")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UserError(f"{file}, row 1: the columns '{header[0][:40]}' are not separated by commas")
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
    blank = 0
    with _rows(file) as rows:
        next(rows)
        for row, cells in enumerate(rows, start=2):
            if not cells:
                blank = blank or row
                continue
            where = f"{file}, row {row}"
            if blank:
                raise UserError(f"{file}, row {blank}: empty row before other rows")
            if len(cells) != len(header):
                raise UserError(f"{where}: there are {len(cells)} cells, but the header has {len(header)}")
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
            yield cells_of(stream, file)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
