"""Checks every row of a store for images that cannot be decoded and invalid numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.images import decode_all
from daydrive.data.store.store import DriveInfo, Store
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

UNDECODABLE = "the image cannot be decoded"
INVALID_GEAR = "gear is not -1, 0 or 1"

CHUNK = 256
"""Number of frames held in memory at a time."""

Flags = npt.NDArray[np.bool_]
"""(N,), true for invalid frames."""


class BadRows(NamedTuple):
    """Frames `first` to `last` (inclusive) of a drive have the same problem."""

    drive: str
    first: int
    last: int
    problem: str

    def __str__(self) -> str:
        frames = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        return f"drive '{self.drive}', {frames}: {self.problem}"


def find_bad_rows(store: Store, progress: DriveProgress | None = None) -> list[BadRows]:
    """Read all rows in chunks, decode all images, and return the invalid rows in order.

    Invalid rows are images that do not decode to the store's size, actions that are not finite or out of range, and
    other values that are not finite. NaN is valid where it marks a missing value: in the columns of `daydrive score`,
    and in a value that is missing for a whole drive. Consecutive frames with the same problem form one entry. Raises
    UserError if the table cannot be read.
    """
    missing = [_is_nan(name) for name in store.metadata.get("values", {})]
    found: list[BadRows] = []
    for drive in store.drives:
        flags: dict[str, Flags] = {}
        for first in range(0, drive.frames, CHUNK):
            last = min(first + CHUNK, drive.frames)
            for problem, bad in _find_problems(store, drive.start + np.arange(first, last)):
                flags.setdefault(problem, np.zeros(drive.frames, dtype=bool))[first:last] |= bad
            if progress is not None:
                progress.frames_done(last - first)
        problems = {name: bad for name, bad in flags.items() if not (name in missing and bad.all())}
        found += sorted(_intervals(drive, problems), key=lambda rows: rows.first)
        if progress is not None:
            progress.drive_done()
    return found


def _find_problems(store: Store, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str, Flags]]:
    """Yield each problem and the flags of the rows that have it."""
    columns = store.read_values(rows, list(dict.fromkeys(["image", "action", *store.schema.names])))
    problems = [*_image_problems(store, columns.pop("image")), *_action_problems(columns.pop("action"))]
    for name, column in columns.items():
        if column.dtype.kind == "f":
            problems.append((f"{name} is infinite", np.isinf(column)))
            if name not in store.metadata.get("scores", {}):
                problems.append((_is_nan(name), np.isnan(column)))
    yield from ((problem, bad) for problem, bad in problems if bad.any())


def _image_problems(store: Store, jpegs: npt.NDArray[Any]) -> Iterator[tuple[str, Flags]]:
    image = np.empty((1, *store.image_size, 3), dtype=np.uint8)
    for i, jpeg in enumerate(jpegs):
        try:
            decode_all([jpeg or b""], image)
        except ValueError as error:
            yield f"{UNDECODABLE} ({error.args[1]})", np.arange(len(jpegs)) == i


def _action_problems(actions: npt.NDArray[Any]) -> Iterator[tuple[str, Flags]]:
    missing = np.full(len(ACTION_NAMES), np.nan, dtype=np.float32)
    numbers = np.stack([missing if action is None else action for action in actions])
    for name, column, low, high in zip(ACTION_NAMES, numbers.T, ACTION_LOW, ACTION_HIGH, strict=True):
        yield _is_nan(name), np.isnan(column)
        yield f"{name} is outside [{low:g}, {high:g}]", (column < low) | (column > high)
    gear = numbers[:, 3]
    yield INVALID_GEAR, (np.abs(gear) < 1) & (gear != 0)


def _is_nan(name: str) -> str:
    return f"{name} is NaN"


def _intervals(drive: DriveInfo, flags: dict[str, Flags]) -> Iterator[BadRows]:
    for problem, bad in flags.items():
        edges = np.flatnonzero(np.diff(bad, prepend=False, append=False))
        for first, end in edges.reshape(-1, 2).tolist():
            yield BadRows(drive.name, first, end - 1, problem)
