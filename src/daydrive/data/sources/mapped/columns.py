"""Columns of CSV, Parquet and HDF5 files: numbers, and texts such as the names of images."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daydrive.errors import UserError, did_you_mean

Array = npt.NDArray[np.float64]

CSV, PARQUET, HDF5 = (".csv", ".tsv", ".txt"), (".parquet", ".pq"), (".h5", ".hdf5", ".hdf")
SUFFIXES = (*CSV, *PARQUET, *HDF5)
SEPARATORS = (",", ";", "\t")
MAX_ELEMENTS = 32
"""Longest vector in a column whose elements are columns of their own, such as `action.0`."""


@dataclass(frozen=True)
class Table:
    """numbers: (N,) by column, NaN where a cell is empty. texts: the cells of the other columns."""

    file: Path
    rows: int
    numbers: dict[str, Array]
    texts: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        return [*self.numbers, *self.texts]

    def column(self, name: str, key: str) -> Array:
        """A column of finite numbers. key: of the mapping file, for error messages."""
        if name not in self.numbers:
            kind = "is text, not numbers" if name in self.texts else f"does not exist{did_you_mean(name, self.names)}"
            raise UserError(f"{self.file}: the column '{name}' of {key} {kind}")
        values = self.numbers[name]
        if not np.isfinite(values).all():
            raise UserError(
                f"{self.file}, {self.row(int(np.argmin(np.isfinite(values))))}: {name} is not a finite number"
            )
        return values

    def times(self, name: str) -> Array:
        """A column of times: numbers, or dates in ISO 8601, (N,) s since 1970."""
        if name not in self.texts:
            return self.column(name, "time")
        found = [iso_seconds(text) for text in self.texts[name]]
        if None in found:
            row = found.index(None)
            text = self.texts[name][row]
            raise UserError(
                f"{self.file}, {self.row(row)}: {name} is '{text[:40]}', neither a number nor a date in ISO 8601"
            )
        return np.array(found, np.float64)

    def row(self, index: int) -> str:
        """`row 2` is the first row of a CSV, below its header; elsewhere rows are numbered from 0."""
        return f"row {index + 2}" if self.file.suffix.lower() in CSV else f"row {index}"


def read_table(file: Path) -> Table:
    """Read a table: the columns of the most frequent length, since the data sets of an HDF5 file may have any.

    Raises UserError for an unknown format, without rows, or if it cannot be read.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{file} is not a table that can be read ({', '.join(SUFFIXES)})")
    read = _read_csv if suffix in CSV else _read_parquet if suffix in PARQUET else _read_hdf5
    try:
        columns = dict(read(file))
    except (OSError, csv.Error, pa.ArrowException, RuntimeError) as error:
        raise UserError(
            f"{file} cannot be read ({(str(error) or type(error).__name__).splitlines()[0][:160]})"
        ) from error
    lengths = Counter(len(cells) for cells in columns.values())
    rows = max(lengths, key=lambda length: (lengths[length], length), default=0)
    columns = {name: cells for name, cells in columns.items() if len(cells) == rows}
    if rows < 2:
        raise UserError(f"{file} has {rows} rows; a drive needs at least 2")
    numbers = {name: cells for name, cells in columns.items() if isinstance(cells, np.ndarray)}
    return Table(file, rows, numbers, {name: cells for name, cells in columns.items() if isinstance(cells, list)})


def iso_seconds(text: str) -> float | None:
    """Seconds since 1970 of a date and time in ISO 8601, UTC without a zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read_csv(file: Path) -> Iterator[tuple[str, Array | list[str]]]:
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline()
        separator = max(SEPARATORS, key=first.count)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=separator)
        header = [cell.strip() for cell in next(reader, [])]
        if not any(header):
            raise UserError(f"{file} is empty; its first row must contain the column names")
        number = next((cell for cell in header if cell and _number(cell, separator) is not None), None)
        if number is not None:
            raise UserError(f"{file}, row 1: '{number}' is a number; the first row must contain the column names")
        duplicate = next((name for k, name in enumerate(header) if name and name in header[:k]), None)
        if duplicate is not None:
            raise UserError(f"{file}, row 1: there are two columns '{duplicate}'")
        rows: list[list[str]] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{file}, row {reader.line_num}: there are {len(cells)} cells, but the header has {len(header)}"
                )
            rows.append(cells)
    for k, name in enumerate(header):
        texts = [row[k].strip() for row in rows]
        values = [_number(text, separator) for text in texts]
        if name and None in values:
            yield name, texts
        elif name:
            yield name, np.array(values, np.float64)


def _number(text: str, separator: str) -> float | None:
    """The number in a cell, NaN for an empty one; with a decimal comma where commas do not separate columns."""
    text = text.strip()
    if separator != ",":
        text = text.replace(",", ".")
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return None


def _read_parquet(file: Path) -> Iterator[tuple[str, Array | list[str]]]:
    table = pq.read_table(file)
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield name, [text or "" for text in column.to_pylist()]
        elif pa.types.is_timestamp(kind):
            yield name, pc.cast(pc.cast(column, pa.timestamp("ns")), pa.int64()).to_numpy() * 1e-9
        elif _is_number(kind):
            yield name, column.cast(pa.float64()).to_numpy()
        elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            yield from _elements(name, column, kind)


def _elements(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> Iterator[tuple[str, Array]]:
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if _is_number(kind.value_type) and len(lengths) == 1 and 0 < (lengths[0] or 0) <= MAX_ELEMENTS:
        flat = np.asarray(column.combine_chunks().flatten().cast(pa.float64()), np.float64)
        for k, values in enumerate(flat.reshape(len(column), -1).T):
            yield f"{name}.{k}", np.ascontiguousarray(values)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _read_hdf5(file: Path) -> Iterator[tuple[str, Array | list[str]]]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{file}: HDF5 is read by the package h5py: pip install 'daydrive[hdf5]'") from error
    found: dict[str, Any] = {}
    with h5py.File(file) as opened:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item

        opened.visititems(visit)
        for name, data in found.items():
            if data.ndim == 1 and (h5py.check_string_dtype(data.dtype) or data.dtype.kind == "S"):
                yield (
                    name,
                    [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in data[:]],
                )
            elif data.dtype.kind in "biuf" and data.ndim == 1:
                yield name, data[:].astype(np.float64)
            elif data.dtype.kind in "biuf" and data.ndim == 2 and data.shape[1] <= MAX_ELEMENTS:
                for k, values in enumerate(data[:].astype(np.float64).T):
                    yield f"{name}.{k}", np.ascontiguousarray(values)
            elif data.dtype.names and data.ndim == 1:
                rows = data[:]
                for field in data.dtype.names:
                    if rows[field].dtype.kind in "biuf" and rows[field].ndim == 1:
                        yield f"{name}.{field}", rows[field].astype(np.float64)
