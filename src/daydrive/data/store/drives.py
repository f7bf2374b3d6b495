"""The drives of a store: a list or columns in `store.json`, arrays in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "val", "test")
UNUSED = "unused"
"""Rows between segments of a drive in different splits: part of the table, but of no split."""

_ALL_SPLITS = (*SPLITS, UNUSED)

COLUMNS_FROM = 10_000
"""Above this number, drives are written as columns, which are read ten times as fast."""

Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class DriveInfo:
    """A drive: `frames` consecutive rows from row `start`, at the frame rate of the store."""

    name: str
    split: str
    start: int
    frames: int


class Drives(Sequence[DriveInfo]):
    """All drives of a store, in the order of their rows. starts, frames: int64 (D,).

    Raises ValueError for a drive without rows or with an unknown split.
    """

    def __init__(self, names: Sequence[str], splits: npt.ArrayLike, starts: npt.ArrayLike, frames: npt.ArrayLike):
        """splits: indices into (*SPLITS, UNUSED), (D,)."""
        self.names = names
        self.starts = np.asarray(starts, dtype=np.int64)
        self.frames = np.asarray(frames, dtype=np.int64)
        self._splits = np.asarray(splits, dtype=np.int8)
        if not len(names) == len(self.starts) == len(self.frames) == len(self._splits):
            raise ValueError("every drive needs a name, a split, a start and frames")
        if not all(isinstance(name, str) for name in names):
            raise TypeError("names of drives must be strings")
        if (self.starts < 0).any() or (self.frames < 1).any():
            raise ValueError("drives must have rows")

    @classmethod
    def read(cls, drives: Entries | dict[str, Any]) -> Drives:
        """Parse `drives` of `store.json`. Raises KeyError, TypeError, ValueError or IndexError for invalid content."""
        if isinstance(drives, dict):
            frames = np.asarray(drives["frames"], dtype=np.int64)
            values = [_ALL_SPLITS.index(value) for value in drives["split"]["values"]]
            splits = np.array(values, dtype=np.int8)[np.asarray(drives["split"]["of"], dtype=np.int64)]
            return cls(drives["name"], splits, np.cumsum(frames) - frames, frames)
        names = [drive["name"] for drive in drives]
        splits = np.array([_ALL_SPLITS.index(drive["split"]) for drive in drives], dtype=np.int8)
        return cls(names, splits, *([int(drive[key]) for drive in drives] for key in ("start", "frames")))

    @classmethod
    def concatenate(cls, members: Sequence[tuple[str, Drives]]) -> Drives:
        """Concatenate drives, prefixing their names with that of their member store."""
        names = [f"{prefix}/{name}" for prefix, drives in members for name in drives.names]
        offsets = np.cumsum([0, *(drives.rows for _, drives in members)])
        starts = [drives.starts + offset for (_, drives), offset in zip(members, offsets[:-1], strict=True)]
        splits, frames = ([getattr(drives, key) for _, drives in members] for key in ("_splits", "frames"))
        return cls(names, np.concatenate(splits), np.concatenate(starts), np.concatenate(frames))

    @property
    def rows(self) -> int:
        return int(self.frames.sum())

    def of_split(self, split: str) -> npt.NDArray[np.int64]:
        """Indices of the drives of a split, ascending."""
        return np.flatnonzero(self._splits == _ALL_SPLITS.index(split))

    def at(self, row: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Index of the drive that each row belongs to."""
        return np.searchsorted(self.starts, row, side="right") - 1

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> DriveInfo: ...

    @overload
    def __getitem__(self, index: slice) -> list[DriveInfo]: ...

    def __getitem__(self, index: int | slice) -> DriveInfo | list[DriveInfo]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        split = _ALL_SPLITS[int(self._splits[index])]
        return DriveInfo(self.names[index], split, int(self.starts[index]), int(self.frames[index]))

    def __iter__(self) -> Iterator[DriveInfo]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Drives) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def columns(entries: Entries) -> dict[str, Any]:
    """Encode drives as columns: `name` and `frames` as lists, every other key as its distinct `values` and their index
    `of` per drive, -1 if absent. The drives must be contiguous from row 0 on."""
    written: dict[str, Any] = {key: [entry[key] for entry in entries] for key in ("name", "frames")}
    assert [entry["start"] for entry in entries] == [0, *accumulate(written["frames"])][: len(entries)]
    for key in dict.fromkeys(key for entry in entries for key in entry if key not in ("name", "frames", "start")):
        known: dict[str, int] = {}
        of = [known.setdefault(json.dumps(e[key], sort_keys=True), len(known)) if key in e else -1 for e in entries]
        written[key] = {"values": [json.loads(value) for value in known], "of": of}
    return written


def entries(drives: Entries | dict[str, Any]) -> Entries:
    """Decode drives written by `columns`; a list is returned unchanged."""
    if isinstance(drives, list):
        return drives
    frames = drives["frames"]
    starts = accumulate(frames, initial=0)
    found = [
        {"name": name, "start": start, "frames": count}
        for name, start, count in zip(drives["name"], starts, frames, strict=False)
    ]
    for key, column in drives.items():
        if isinstance(column, dict):
            for entry, value in zip(found, column["of"], strict=True):
                if value >= 0:
                    entry[key] = column["values"][value]
    return found
