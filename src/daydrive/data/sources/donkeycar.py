"""Donkeycar (donkeycar.com) tubs, versions 1 and 2; the root is a tub or a folder of tubs.

    v2  <tub>/manifest.json              5 lines of JSON, the last with the catalogs' `paths` and `deleted_indexes`
        <tub>/catalog_N.catalog          one record per line: user/angle, user/throttle, cam/image_array,
                                         _timestamp_ms, _session_id
        <tub>/images/N_cam_image_array_.jpg
    v1  <tub>/record_N.json              user/angle, user/throttle, cam/image_array, milliseconds or timestamp
        <tub>/N_cam-image_array_.jpg

Angles range from -1 (left) to 1 (right) (`LEFT_ANGLE` and `RIGHT_ANGLE` in its parts/actuator.py), throttle from -1 to
1; negative throttle brakes or, at a standstill, reverses. Deleted records are skipped; they and the end of a session
end a drive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.files import find_folders, inside, json_object, natural
from daydrive.data.sources.mapping import interval_means, pedals
from daydrive.data.sources.timestamps import RECORDED_HZ
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

MANIFEST, META, IMAGES = "manifest.json", "meta.json", "images"
RECORDS = "record_*.json"
ANGLE, THROTTLE, IMAGE = "user/angle", "user/throttle", "cam/image_array"
LOOP_HZ = 20.0
"""Rate of Donkeycar's drive loop, used for records without a time."""

GAP = 0.2
"""Seconds; a longer interval ends a drive. The limit exceeds two periods since the drive loop has jitter."""

Array = npt.NDArray[np.float64]


@dataclass
class _Run:
    """Consecutive records. images: file names. where: file and row of each. readings: angle, throttle, record index."""

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


@dataclass(frozen=True)
class _Frames:
    root: Path
    folder: Path
    images: list[str]
    where: list[str]
    actions: npt.NDArray[np.float32]
    values: Array
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.images):
            image = read_image(inside(self.folder / name, self.root), self.where[k], self.image_size, shrink=True)
            frame_values = dict(zip(VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, frame_values)


VALUES = {
    "user_angle": "as recorded, [-1, 1], positive to the right, mean up to the next frame",
    "user_throttle": "as recorded, [-1, 1], negative brakes or reverses, mean up to the next frame",
    "record": "number of the record in its tub",
}


class DonkeycarSource:
    name = "donkeycar"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the tubs' native rate", 0.1),
        Option("seed", int, 0, "seed of the split by tub", minimum=0),
        RECORDED_HZ,
    )

    def describe(self, options: Options) -> dict[str, Any]:
        held = "mean up to the next frame; a record's reading holds until the next one"
        range_ = "user/throttle of [-1, 1]"
        return {
            "actions": {
                "steering": action("share of the largest angle", "positive to the right", "[-1, 1]", held),
                "throttle": action(range_, "positive forwards", "[0, 1]", f"what is above 0; {held}"),
                "brake": action(range_, "positive slows down", "[0, 1]", f"what is below 0, turned round; {held}"),
                "gear": action("not recorded", "1 forwards", "-", "always 1, in reverse too, which looks like braking"),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        tubs = find_folders(root, _is_tub, 3)
        if not tubs:
            raise UserError(
                f"{root} has no Donkeycar tubs; a tub is a folder with {MANIFEST} and {IMAGES}/, or with {RECORDS}"
            )
        stated = options["recorded_hz"]
        read = [(tub, _runs(tub, root, stated)) for tub in tubs]
        rates = clock.shared_hz([(tub, _joined_times(runs)) for tub, runs in read], options["hz"], stated)
        drives: list[Drive] = []
        for tub, run, hz in ((tub, run, hz) for (tub, runs), hz in zip(read, rates, strict=True) for run in runs):
            image_folder = tub / IMAGES if (tub / MANIFEST).is_file() else tub
            times, readings = np.array(run.times), np.array(run.readings)
            throttle, brake = pedals(readings[:, 1])
            recorded = np.column_stack([readings[:, 0], throttle, brake, np.ones(len(times))])
            for chosen in clock.resample(times, hz, max(GAP, 2.0 / hz)):
                if not clock.long_enough(chosen, hz):
                    continue
                actions, values = interval_means(recorded, readings[:, :2], times, chosen)
                rows = chosen.tolist()
                frames = _Frames(
                    root, image_folder, [run.images[k] for k in rows], [run.where[k] for k in rows],
                    actions, np.column_stack([values, readings[chosen, 2]]), hz, image_size,
                )  # fmt: skip
                group = tub.resolve().name if tub == root else tub.relative_to(root).as_posix()
                name = "/".join(filter(None, [group, run.session, str(int(readings[chosen[0], 2]))]))
                drives.append(Drive(name, hz, frames, None, len(chosen), group))
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of records without a gap")
        return drives


def _is_tub(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or next(folder.glob(RECORDS), None) is not None


def _runs(tub: Path, root: Path, recorded_hz: float | None) -> list[_Run]:
    """The runs of at least two records in a tub, separated by deleted records and ends of sessions. recorded_hz: rate
    of the records in place of their times."""
    records = _read_catalogs(tub, root) if (tub / MANIFEST).is_file() else _read_record_files(tub, root)
    if recorded_hz:
        records = (replace(record, time=record.index / recorded_hz) for record in records)
    runs: list[_Run] = []
    previous: _Record | None = None
    for record in records:
        last, previous = previous, record
        if last is None or record.session != last.session or record.index != last.index + 1:
            runs.append(_Run(record.session))
        elif record.time < last.time:
            raise UserError(
                f"{record.where}: its time is {last.time - record.time:.3f} s before that of the previous record; if "
                "the clock was set back, delete this record in Donkeycar's tub manager, which ends the drive there"
            )
        elif record.time == last.time:
            continue
        run = runs[-1]
        run.images.append(record.image)
        run.where.append(record.where)
        run.times.append(record.time)
        run.readings.append((record.angle, record.throttle, float(record.index)))
    usable = [run for run in runs if len(run.times) > 1]
    if not usable:
        raise UserError(f"the tub {tub} has no two consecutive records")
    return usable


def _joined_times(runs: list[_Run]) -> Array:
    """Times (N,) of all records with the intervals between runs removed."""
    return np.cumsum(np.concatenate([[0.0], *[np.diff(run.times) for run in runs]]))


def _read_catalogs(tub: Path, root: Path) -> Iterator[_Record]:
    """The records of a version 2 tub in order, without deleted ones."""
    file = inside(tub / MANIFEST, root)
    lines = _lines(file)
    last = json_object(lines[4], f"{file}, row 5") if len(lines) >= 5 else {}
    paths, deleted = last.get("paths"), last.get("deleted_indexes")
    if not isinstance(paths, list) or not isinstance(deleted, list):
        raise UserError(f"{file} is not a Donkeycar manifest: its fifth row has no `paths` and `deleted_indexes`")
    deleted_indices = {index for index in deleted if isinstance(index, int)}
    index = 0
    for path in paths:
        if not isinstance(path, str) or not path.endswith(".catalog"):
            raise UserError(f"{file}, row 5: {path!r} is not the name of a catalog")
        catalog = inside(tub / path, root)
        for row, line in enumerate(_lines(catalog), start=1):
            where = f"{catalog}, row {row}"
            if index not in deleted_indices:
                yield _record(json_object(line, where), index, where, _version_2_time)
            index += 1


def _read_record_files(tub: Path, root: Path) -> Iterator[_Record]:
    """The records of a version 1 tub, ordered by index; missing indices were deleted."""
    for file in sorted(tub.glob(RECORDS), key=natural):
        digits = file.stem.removeprefix("record_")
        if not digits.isdecimal():
            raise UserError(f"{file}: record files are named record_N.json")
        try:
            text = inside(file, root).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} cannot be read ({error})") from error
        yield _record(json_object(text, str(file)), int(digits), str(file), _version_1_time)


def _record(
    found: dict[str, Any], index: int, where: str, time: Callable[[dict[str, Any], int, str], float]
) -> _Record:
    image = found.get(IMAGE)
    if not isinstance(image, str) or not image:
        raise UserError(f"{where}: it has no {IMAGE}, the name of its image")
    angle, throttle = (_number(found, name, where) for name in (ANGLE, THROTTLE))
    for name, value in ((ANGLE, angle), (THROTTLE, throttle)):
        if not -1.0 <= value <= 1.0:
            raise UserError(f"{where}: {name} is {value:g}, outside [-1, 1]")
    session = found.get("_session_id", "")
    return _Record(index, PureWindowsPath(image).name, angle, throttle, time(found, index, where), str(session), where)


def _version_2_time(found: dict[str, Any], index: int, where: str) -> float:
    return _number(found, "_timestamp_ms", where) / 1000.0


def _version_1_time(found: dict[str, Any], index: int, where: str) -> float:
    if "milliseconds" in found:
        return _number(found, "milliseconds", where) / 1000.0
    if "timestamp" in found:
        try:
            return datetime.fromisoformat(str(found["timestamp"])).timestamp()
        except (ValueError, OverflowError, OSError) as error:
            raise UserError(f"{where}: the timestamp {found['timestamp']!r} is not a date and time") from error
    return index / LOOP_HZ


def _number(found: dict[str, Any], name: str, where: str) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        problem = f"is {value!r:.40}" if name in found else "is missing"
        raise UserError(f"{where}: {name} {problem}, expected a number")
    return float(value)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error
