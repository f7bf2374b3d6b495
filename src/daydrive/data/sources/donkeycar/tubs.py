"""Records of Donkeycar tubs, versions 1 and 2.

Rows that cannot be read, such as half-written ones or those full of NUL bytes after a power loss, are skipped, as
Donkeycar's own tools do. Deletions refer to `_index`, the number that the car gave to a record.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.files import entries, find_folders, inside, is_recorded, json_object
from daydrive.data.sources.frame_counts import FrameCounts
from daydrive.data.sources.image_folder import ImageFolder
from daydrive.errors import UserError

MANIFEST, IMAGES = "manifest.json", "images"
RECORDS, EXCLUDED = "record_*.json", "exclude.json"
ANGLE, THROTTLE, IMAGE = "user/angle", "user/throttle", "cam/image_array"
LOOP_HZ = 20.0
"""Rate of Donkeycar's drive loop, used for records without a time."""

DEPTH = 3
"""Levels of folders below the root that are searched."""

ROUNDING = 1e-6
"""By how much an angle or throttle may exceed [-1, 1]."""


@dataclass
class Run:
    """Consecutive records of a session. images: file names. where: file and row of each. times: s on any clock.
    readings: angle, throttle, record index."""

    session: str
    images: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    readings: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """index: of the record in its tub. time: s on any clock. session: its name, '' if there is none."""

    index: int
    image: str
    angle: float
    throttle: float
    time: float
    session: str
    where: str


class _UnusableError(Exception):
    """A record that has to be left out; the message completes 'frames …'."""


def find_tubs(root: Path) -> list[Path]:
    """The tubs below `root`, also those within others; raises UserError if there are none."""
    tubs = find_folders(root, _is_tub, DEPTH, nested=True)
    if not tubs:
        raise UserError(
            f"{root} has no Donkeycar tubs; a tub is a folder with {MANIFEST} and {IMAGES}/, or with {RECORDS}"
        )
    return tubs


def image_folder(tub: Path) -> Path:
    """The folder of a tub's images."""
    return tub / IMAGES if (tub / MANIFEST).is_file() else tub


def read_runs(tub: Path, root: Path, counts: FrameCounts, recorded_hz: float | None = None) -> list[Run]:
    """The runs of at least two records in a tub: a deleted record, the end of a session, and a clock that is put back
    end a run. What is left out is added to `counts`. recorded_hz: rate of the records, in place of their times."""
    records = (_read_catalogs if (tub / MANIFEST).is_file() else _read_record_files)(tub, root)
    images = ImageFolder(image_folder(tub), root)
    runs: list[Run] = []
    previous: _Record | None = None
    put_back = 0
    for record in records.usable(counts):
        if recorded_hz:
            record = replace(record, time=record.index / recorded_hz)
        problem = images.problem(record.image)
        if problem is not None:
            counts.leave_out(1, f"with an image that is {problem}", first=record.where)
            continue
        last, previous = previous, record
        if last is None or record.session != last.session or records.deleted_between(last.index, record.index):
            runs.append(Run(record.session))
        elif record.time < last.time:
            put_back += 1
            runs.append(Run(record.session))
        elif record.time == last.time:
            counts.leave_out(1, "with the time of the previous record", first=record.where)
            continue
        run = runs[-1]
        run.images.append(record.image)
        run.where.append(record.where)
        run.times.append(record.time)
        run.readings.append((record.angle, record.throttle, float(record.index)))
    if put_back:
        counts.notes.append(f"{tub}: a drive ends where the clock was put back, at {put_back} records")
    single = sum(len(run.times) == 1 for run in runs)
    counts.leave_out(single, "alone between deleted records or ends of sessions", places=single)
    return [run for run in runs if len(run.times) > 1]


def joined_times(runs: list[Run]) -> npt.NDArray[np.float64]:
    """Times (N,) s of all records with the intervals between runs removed."""
    return np.cumsum(np.concatenate([[0.0], *[np.diff(run.times) for run in runs]]))


def _is_tub(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or any(is_recorded(file.name) for file in folder.glob(RECORDS))


def _read_catalogs(tub: Path, root: Path) -> _Records:
    """The records of a version 2 tub."""
    file = inside(tub / MANIFEST, root)
    lines = _read(file).splitlines()
    last = json_object(lines[4], f"{file}, row 5") if len(lines) >= 5 else {}
    paths, deleted = last.get("paths"), last.get("deleted_indexes")
    if not isinstance(paths, list) or not isinstance(deleted, list):
        raise UserError(f"{file} is not a Donkeycar manifest: its fifth row has no `paths` and `deleted_indexes`")
    for path in paths:
        if not isinstance(path, str) or not path.endswith(".catalog"):
            raise UserError(f"{file}, row 5: {path!r} is not the name of a catalog")
    catalogs = [inside(tub / path, root) for path in paths]
    rows = ((line, f"{c}, row {row}") for c in catalogs for row, line in enumerate(_read(c).split(b"\n"), start=1))
    numbered = ((line, k, where) for k, (line, where) in enumerate(row for row in rows if row[0].strip()))
    return _Records(numbered, sorted(index for index in deleted if isinstance(index, int)), _version_2_time)


def _read_record_files(tub: Path, root: Path) -> _Records:
    """The records of a version 1 tub, ordered by index; missing indices were deleted."""
    files: dict[int, Path] = {}
    for file in entries(tub, RECORDS):
        digits = file.stem.removeprefix("record_")
        if not digits.isdecimal():
            raise UserError(f"{file}: record files are named record_N.json")
        files[int(digits)] = inside(file, root)
    rows = ((_read(file), index, str(file)) for index, file in sorted(files.items()))
    before = [index - 1 for index in files if index - 1 not in files]
    return _Records(rows, sorted({*before, *_excluded(tub, root)}), _version_1_time)


def _excluded(tub: Path, root: Path) -> list[int]:
    file = tub / EXCLUDED
    if not file.is_file():
        return []
    try:
        found = json.loads(_read(inside(file, root)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise UserError(f"{file} is not a list of the numbers of excluded records")
    return [index for index in found if isinstance(index, int)]


@dataclass(frozen=True)
class _Records:
    """rows: content, number in the tub, and file and row of each record. deleted: sorted indices of deleted records, at
    least one of each consecutive series of them that was erased. time: seconds of a record."""

    rows: Iterator[tuple[bytes, int, str]]
    deleted: list[int]
    time: Callable[[dict[str, Any], int], float]

    def usable(self, counts: FrameCounts) -> Iterator[_Record]:
        """The records that can be read and were not deleted."""
        deleted = set(self.deleted)
        for content, number, where in self.rows:
            counts.recorded += 1
            try:
                record = self._record(content, number, where)
            except _UnusableError as error:
                counts.leave_out(1, str(error), first=where)
                continue
            if record.index in deleted:
                counts.leave_out(1, "deleted in Donkeycar")
            else:
                yield record

    def deleted_between(self, first: int, second: int) -> bool:
        """Whether a record between these indices was deleted."""
        return bisect_right(self.deleted, first) < bisect_left(self.deleted, second)

    def _record(self, content: bytes, number: int, where: str) -> _Record:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _UnusableError("whose record is not a JSON object")
        image, index, session = found.get(IMAGE), found.get("_index", number), found.get("_session_id", "")
        if not isinstance(image, str) or not image or not isinstance(index, int):
            raise _UnusableError(f"whose record has no {IMAGE if isinstance(index, int) else 'valid _index'}")
        angle, throttle = (_number(found, name) for name in (ANGLE, THROTTLE))
        for name, value in ((ANGLE, angle), (THROTTLE, throttle)):
            if not abs(value) <= 1.0 + ROUNDING:
                raise UserError(f"{where}: {name} is {value:g}, outside [-1, 1]")
        seconds = self.time(found, index)
        return _Record(index, PureWindowsPath(image).name, angle, throttle, seconds, str(session), where)


def _version_2_time(found: dict[str, Any], index: int) -> float:
    return _number(found, "_timestamp_ms") / 1000.0


def _version_1_time(found: dict[str, Any], index: int) -> float:
    if "milliseconds" in found:
        return _number(found, "milliseconds") / 1000.0
    if "timestamp" in found:
        try:
            return datetime.fromisoformat(str(found["timestamp"])).timestamp()
        except (ValueError, OverflowError, OSError):
            raise _UnusableError("whose timestamp is not a date and time") from None
    return index / LOOP_HZ


def _number(found: dict[str, Any], name: str) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _UnusableError(f"whose {name} is {'not a number' if name in found else 'missing'}")
    return float(value)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
