"""Safe reading of numeric .npy files, without pickle."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.files import inside
from daydrive.errors import UserError

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(file: Path, root: Path, columns: int | None = None) -> npt.NDArray[np.float64]:
    """The numbers in a .npy file below `root`, (N, columns); without `columns`, (N,) or (N, 1) flattened.

    Raises UserError for pickled objects, a truncated file, another shape, and non-finite values (with their row, from
    0).
    """
    values = _read(inside(file, root))
    if columns is None and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    wanted = "(N,)" if columns is None else f"(N, {columns})"
    if values.ndim != (1 if columns is None else 2) or (columns is not None and values.shape[1] != columns):
        raise UserError(f"{file} has the shape {values.shape}, expected {wanted}")
    numbers = np.array(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), columns or 1).all(axis=1))
    if len(bad):
        raise UserError(f"{file}, row {bad[0]}: {numbers[bad[0]]} is not finite")
    return numbers


def read_times(file: Path, root: Path) -> npt.NDArray[np.float64]:
    """Non-decreasing times (N,) s; a UserError for a decreasing time names its row."""
    times = read_npy(file, root)
    back = np.flatnonzero(np.diff(times) < 0.0)
    if len(back):
        row = int(back[0]) + 1
        raise UserError(f"{file}, row {row}: time {times[row]:.6f} is before {times[row - 1]:.6f}")
    return times


def _read(file: Path) -> npt.NDArray[Any]:
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"its version is {version}")
            shape, fortran, dtype = _HEADERS[version](stream)
            if dtype.hasobject:
                raise UserError(f"{file} contains pickled Python objects, which are not supported; save plain numbers")
            if dtype.kind not in "fiu":
                raise UserError(f"{file} contains {dtype}, expected numbers")
            expected, actual = math.prod(shape) * dtype.itemsize, os.fstat(stream.fileno()).st_size - stream.tell()
            if actual < expected:
                raise UserError(f"{file} is truncated: {actual} bytes of data, but its header specifies {expected}")
            values = np.frombuffer(stream.read(expected), dtype=dtype)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except ValueError as error:
        reason = str(error).split("\n")[0].split(";")[0].strip().rstrip(".")
        raise UserError(f"{file} is not a NumPy file ({reason})") from error
    return values.reshape(shape, order="F" if fortran else "C")
