"""A look at every row of a store: pictures that don't decode, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.images import decode_all
from daydrive.data.store.store import DriveInfo, Store
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

CHUNK = 256
"""Frames held in memory at a time."""

Flags = npt.NDArray[np.bool_]
"""(N,), true for the frames that are bad."""


class BadRows(NamedTuple):
    """`what` is wrong with frames `first` to `last` of a drive."""

    drive: str
    first: int
    last: int
    what: str

    def __str__(self) -> str:
        frames = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        return f"drive '{self.drive}', {frames}: {self.what}"


def find_bad_rows(store: Store, progress: DriveProgress | None = None) -> list[BadRows]:
    """Reads all rows, some at a time, and decodes all pictures; what is bad, in the order of the rows.

    Bad are pictures that don't decode to the store's size, actions that are not finite or out of range, and other
    numbers that are not finite. NaN is none of it where it says that there is no number: in the columns of `daydrive
    score`, and in a value that a drive goes without from beginning to end.
    Neighbouring frames with the same fault are one entry. UserError where the table itself can't be read.
    """
    missing = [_is_nan(name) for name in store.metadata.get("values", {})]
    found: list[BadRows] = []
    for drive in store.drives:
        flags: dict[str, Flags] = {}
        for first in range(0, drive.frames, CHUNK):
            last = min(first + CHUNK, drive.frames)
            for what, bad in _faults(store, drive.start + np.arange(first, last)):
                flags.setdefault(what, np.zeros(drive.frames, dtype=bool))[first:last] |= bad
            if progress is not None:
                progress.frames_done(last - first)
        faults = {what: bad for what, bad in flags.items() if not (what in missing and bad.all())}
        found += sorted(_runs(drive, faults), key=lambda run: run.first)
        if progress is not None:
            progress.drive_done()
    return found


def _faults(store: Store, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str, Flags]]:
    """Each fault that some of the rows have, and which rows."""
    columns = store.read_values(rows, list(dict.fromkeys(["image", "action", *store.schema.names])))
    faults = [*_image_faults(store, columns.pop("image")), *_action_faults(columns.pop("action"))]
    for name, column in columns.items():
        if column.dtype.kind == "f":
            faults.append((f"{name} is infinite", np.isinf(column)))
            if name not in store.metadata.get("scores", {}):
                faults.append((_is_nan(name), np.isnan(column)))
    yield from ((what, bad) for what, bad in faults if bad.any())


def _image_faults(store: Store, jpegs: npt.NDArray[Any]) -> Iterator[tuple[str, Flags]]:
    image = np.empty((1, *store.image_size, 3), dtype=np.uint8)
    for i, jpeg in enumerate(jpegs):
        try:
            decode_all([jpeg or b""], image)
        except ValueError as error:
            yield f"the picture can't be decoded ({error.args[1]})", np.arange(len(jpegs)) == i


def _action_faults(actions: npt.NDArray[Any]) -> Iterator[tuple[str, Flags]]:
    none = np.full(len(ACTION_NAMES), np.nan, dtype=np.float32)
    numbers = np.stack([none if action is None else action for action in actions])
    for name, column, low, high in zip(ACTION_NAMES, numbers.T, ACTION_LOW, ACTION_HIGH, strict=True):
        yield _is_nan(name), np.isnan(column)
        yield f"{name} is outside [{low:g}, {high:g}]", (column < low) | (column > high)
    gear = numbers[:, 3]
    yield "gear is none of -1, 0, 1", (np.abs(gear) < 1) & (gear != 0)


def _is_nan(name: str) -> str:
    return f"{name} is NaN"


def _runs(drive: DriveInfo, flags: dict[str, Flags]) -> Iterator[BadRows]:
    for what, bad in flags.items():
        edges = np.flatnonzero(np.diff(bad, prepend=False, append=False))
        for first, end in edges.reshape(-1, 2).tolist():
            yield BadRows(drive.name, first, end - 1, what)
