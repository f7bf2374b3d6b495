"""The drives of a store: a list in `store.json`, columns where there are many, arrays in memory."""

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
"""What lies between parts of a drive that are in different splits: in the table, and in none."""

_KNOWN = (*SPLITS, UNUSED)

MANY = 10_000
"""More drives than this are written as columns, which are read ten times as fast."""

Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class DriveInfo:
    """An uninterrupted run of rows: `frames` of them from row `start`, `hz` apart."""

    name: str
    split: str
    start: int
    frames: int


class Drives(Sequence[DriveInfo]):
    """starts, frames: int64 (D,). Their rows follow one another.

    Raises ValueError for a drive without rows or of a split that does not exist.
    """

    def __init__(self, names: Sequence[str], splits: npt.ArrayLike, starts: npt.ArrayLike, frames: npt.ArrayLike):
        """splits: their places in SPLITS and, after these, UNUSED."""
        self.names = names
        self.starts = np.asarray(starts, dtype=np.int64)
        self.frames = np.asarray(frames, dtype=np.int64)
        self._splits = np.asarray(splits, dtype=np.int8)
        if not len(names) == len(self.starts) == len(self.frames) == len(self._splits):
            raise ValueError("not all drives have a name, a split, a start and frames")
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a drive's name is text")
        if (self.starts < 0).any() or (self.frames < 1).any():
            raise ValueError("a drive has rows")

    @classmethod
    def read(cls, drives: Entries | dict[str, Any]) -> Drives:
        """From `drives` of `store.json`; KeyError, TypeError, ValueError or IndexError where it is not that."""
        if isinstance(drives, dict):
            frames = np.asarray(drives["frames"], dtype=np.int64)
            values = [_KNOWN.index(value) for value in drives["split"]["values"]]
            splits = np.array(values, dtype=np.int8)[np.asarray(drives["split"]["of"], dtype=np.int64)]
            return cls(drives["name"], splits, np.cumsum(frames) - frames, frames)
        names = [drive["name"] for drive in drives]
        splits = np.array([_KNOWN.index(drive["split"]) for drive in drives], dtype=np.int8)
        return cls(names, splits, *([int(drive[key]) for drive in drives] for key in ("start", "frames")))

    @classmethod
    def joined(cls, parts: Sequence[tuple[str, Drives]]) -> Drives:
        """One after the other, names prefixed with that of their part."""
        names = [f"{prefix}/{name}" for prefix, drives in parts for name in drives.names]
        offsets = np.cumsum([0, *(drives.rows for _, drives in parts)])
        starts = [drives.starts + offset for (_, drives), offset in zip(parts, offsets[:-1], strict=True)]
        splits, frames = ([getattr(drives, key) for _, drives in parts] for key in ("_splits", "frames"))
        return cls(names, np.concatenate(splits), np.concatenate(starts), np.concatenate(frames))

    @property
    def rows(self) -> int:
        return int(self.frames.sum())

    def of_split(self, split: str) -> npt.NDArray[np.int64]:
        """The places of its drives, ascending."""
        return np.flatnonzero(self._splits == _KNOWN.index(split))

    def at(self, row: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The place of the drive that a row belongs to; of many rows at once."""
        return np.searchsorted(self.starts, row, side="right") - 1

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> DriveInfo: ...

    @overload
    def __getitem__(self, place: slice) -> list[DriveInfo]: ...

    def __getitem__(self, place: int | slice) -> DriveInfo | list[DriveInfo]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        split = _KNOWN[int(self._splits[place])]
        return DriveInfo(self.names[place], split, int(self.starts[place]), int(self.frames[place]))

    def __iter__(self) -> Iterator[DriveInfo]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Drives) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def columns(entries: Entries) -> dict[str, Any]:
    """name and frames as lists, everything else as its distinct `values` and `of`, which of them each drive has; -1
    for none. The drives have to follow one another from row 0 on."""
    written: dict[str, Any] = {key: [entry[key] for entry in entries] for key in ("name", "frames")}
    assert [entry["start"] for entry in entries] == [0, *accumulate(written["frames"])][: len(entries)]
    for key in dict.fromkeys(key for entry in entries for key in entry if key not in ("name", "frames", "start")):
        known: dict[str, int] = {}
        of = [known.setdefault(json.dumps(e[key], sort_keys=True), len(known)) if key in e else -1 for e in entries]
        written[key] = {"values": [json.loads(value) for value in known], "of": of}
    return written


def entries(drives: Entries | dict[str, Any]) -> Entries:
    """What `columns` was given; a list as it is."""
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
