"""Numeric columns of CSV files with arbitrary headers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.table import cells_of, number
from daydrive.errors import UserError

Array = npt.NDArray[np.float64]


def read_header(file: Path) -> list[str]:
    """The column names; raises UserError if there are none, or two columns have the same name."""
    with _rows(file) as rows:
        header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise UserError(f"{file} is empty; its first row has to contain the column names")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UserError(f"{file}, row 1: the columns '{header[0][:40]}' are not separated by commas")
    duplicate = next((name for k, name in enumerate(header) if name and name in header[:k]), None)
    if duplicate is not None:
        raise UserError(f"{file}, row 1: there are two columns '{duplicate}'")
    return header


def read_columns(file: Path, names: Sequence[str]) -> dict[str, Array]:
    """The named columns, (N,) each, N >= 2; a UserError for an invalid number names the row (the header is row 1)."""
    header = read_header(file)
    indices = [header.index(name) for name in names]
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
