"""Columns of numbers in Feather and Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from daydrive.errors import UserError, did_you_mean

Columns = dict[str, npt.NDArray[Any]]


def read_feather(file: Path, names: Sequence[str]) -> Columns:
    """As `read_parquet`, for a Feather file."""
    try:
        table = feather.read_table(str(file), memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read ({_reason(error)})") from error
    return _columns(table, names, str(file))


def read_parquet(data: bytes, names: Sequence[str], where: str) -> Columns:
    """The named columns of a Parquet file, (N,) each: int64 if they contain integers, otherwise float64.

    where: name of the file for error messages. Raises UserError for a file that cannot be read and for a column that is
    missing or contains something other than finite numbers (with the row, from 0).
    """
    try:
        table = pq.read_table(BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where} cannot be read ({_reason(error)})") from error
    return _columns(table, names, where)


def _columns(table: pa.Table, names: Sequence[str], where: str) -> Columns:
    found: Columns = {}
    for name in names:
        if name not in table.column_names:
            raise UserError(f"{where} has no column '{name}'{did_you_mean(name, table.column_names)}")
        column = table.column(name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise UserError(f"{where}: the column '{name}' is {column.type}, expected numbers")
        if column.null_count:
            raise UserError(f"{where}, row {column.is_null().to_pylist().index(True)}: {name} is missing")
        values = column.to_numpy()
        found[name] = values.astype(np.int64 if pa.types.is_integer(column.type) else np.float64)
        bad = np.flatnonzero(~np.isfinite(found[name]))
        if len(bad):
            raise UserError(f"{where}, row {bad[0]}: {name} is {found[name][bad[0]]}, which is not a finite number")
    return found


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().split("\n")[0].rstrip(".")[:160]
