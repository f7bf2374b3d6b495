"""Tubs of Donkeycar (donkeycar.com), version 1 and 2; the root is a tub or a folder of them.

    v2  <tub>/manifest.json              5 rows of JSON, the last with the catalogs' `paths` and `deleted_indexes`
        <tub>/catalog_N.catalog          a record a row: user/angle, user/throttle, cam/image_array, _timestamp_ms,
                                         _session_id
        <tub>/images/N_cam_image_array_.jpg
    v1  <tub>/record_N.json              user/angle, user/throttle, cam/image_array, milliseconds or timestamp
        <tub>/N_cam-image_array_.jpg

Angles go from -1, left, to 1, right (`LEFT_ANGLE` and `RIGHT_ANGLE` in its parts/actuator.py), throttle from -1 to 1;
below 0 it brakes or, where the car stands, reverses. What was deleted is left out and ends a drive, as a session does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.files import find_folders, inside, json_object, natural
from daydrive.data.sources.mapping import pedals, up_to_next
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

MANIFEST, META, IMAGES = "manifest.json", "meta.json", "images"
RECORDS = "record_*.json"
ANGLE, THROTTLE, PICTURE = "user/angle", "user/throttle", "cam/image_array"
LOOP_HZ = 20.0
"""records a second of Donkeycar's drive loop, for those that say no time"""

GAP = 0.2
"""seconds; a longer interval ends a drive. The loop stutters on small computers, so that two periods are none yet"""

Array = npt.NDArray[np.float64]


@dataclass
class _Part:
    """Records without a gap. picture: file names; where: file and row; numbers: of the records in their tub."""

    session: str
    pixels: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    readings: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """number: of the record in its tub. time: s on any clock. session: its name, '' where there are none."""

    number: int
    frame: str
    angle: float
    throttle: float
    time: float
    session: str
    where: str


@dataclass(frozen=True)
class _Frames:
    root: Path
    folder: Path
    pixels: list[str]
    where: list[str]
    actions: npt.NDArray[np.float32]
    values: Array
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.pixels):
            image = read_image(inside(self.folder / name, self.root), self.where[k], self.image_size, shrink=True)
            own = dict(zip(VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, own)


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
        Option("hz", float, None, "frames a second; default: the tubs' own rate", 0.1),
        Option("seed", int, 0, "of the split by tub", minimum=0),
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
                f"{root} has no tubs of Donkeycar; a tub is a folder with {MANIFEST} and {IMAGES}/, or with {RECORDS}"
            )
        read = [(tub, _parts(tub, root)) for tub in tubs]
        rates = clock.shared_hz([(tub, _joined(parts)) for tub, parts in read], options["hz"])
        drives: list[Drive] = []
        for tub, part, hz in ((tub, part, hz) for (tub, parts), hz in zip(read, rates, strict=True) for part in parts):
            pixels = tub / IMAGES if (tub / MANIFEST).is_file() else tub
            times, readings = np.array(part.times), np.array(part.readings)
            throttle, brake = pedals(readings[:, 1])
            made = np.column_stack([readings[:, 0], throttle, brake, np.ones(len(times))])
            for chosen in clock.resample(times, hz, max(GAP, 2.0 / hz)):
                if not clock.long_enough(chosen, hz):
                    continue
                actions, values = up_to_next(made, readings[:, :2], times, chosen)
                rows = chosen.tolist()
                frames = _Frames(
                    root, pixels, [part.pixels[k] for k in rows], [part.where[k] for k in rows],
                    actions, np.column_stack([values, readings[chosen, 2]]), hz, image_size,
                )  # fmt: skip
                group = tub.resolve().name if tub == root else tub.relative_to(root).as_posix()
                name = "/".join(filter(None, [group, part.session, str(int(readings[chosen[0], 2]))]))
                drives.append(Drive(name, hz, frames, None, len(chosen), group))
        if not drives:
            raise UserError(f"{root} has no run of {clock.SHORTEST_RUN:g} s of records without a gap")
        return drives


def _is_tub(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or next(folder.glob(RECORDS), None) is not None


def _parts(tub: Path, root: Path) -> list[_Part]:
    """The records of a tub between deletions, ends of sessions and jumps of the clock, of two records at least."""
    records = _catalogs(tub, root) if (tub / MANIFEST).is_file() else _files(tub, root)
    parts: list[_Part] = []
    before: _Record | None = None
    for record in records:
        last, before = before, record
        if last is None or record.session != last.session or record.number != last.number + 1:
            parts.append(_Part(record.session))
        elif record.time < last.time:
            raise UserError(
                f"{record.where}: its time lies {last.time - record.time:.3f} s before that of the record before it; "
                "where the clock was put back delete this record in Donkeycar's tub manager, and the drive ends there"
            )
        elif record.time == last.time:
            continue
        part = parts[-1]
        part.pixels.append(record.frame)
        part.where.append(record.where)
        part.times.append(record.time)
        part.readings.append((record.angle, record.throttle, float(record.number)))
    whole = [part for part in parts if len(part.times) > 1]
    if not whole:
        raise UserError(f"the tub {tub} has no two records that follow each other")
    return whole


def _joined(parts: list[_Part]) -> Array:
    """Times (N,) of all records, as if there were nothing between the parts."""
    return np.cumsum(np.concatenate([[0.0], *[np.diff(part.times) for part in parts]]))


def _catalogs(tub: Path, root: Path) -> Iterator[_Record]:
    """Of version 2, in their order, those that were deleted left out."""
    file = inside(tub / MANIFEST, root)
    lines = _lines(file)
    last = json_object(lines[4], f"{file}, row 5") if len(lines) >= 5 else {}
    paths, deleted = last.get("paths"), last.get("deleted_indexes")
    if not isinstance(paths, list) or not isinstance(deleted, list):
        raise UserError(f"{file} is not a manifest of Donkeycar: its fifth row has no `paths` and `deleted_indexes`")
    gone = {index for index in deleted if isinstance(index, int)}
    number = 0
    for path in paths:
        if not isinstance(path, str) or not path.endswith(".catalog"):
            raise UserError(f"{file}, row 5: {path!r} is not the name of a catalog")
        catalog = inside(tub / path, root)
        for row, line in enumerate(_lines(catalog), start=1):
            where = f"{catalog}, row {row}"
            if number not in gone:
                yield _record(json_object(line, where), number, where, _version_2_time)
            number += 1


def _files(tub: Path, root: Path) -> Iterator[_Record]:
    """Of version 1, in the order of their numbers; a missing number was deleted."""
    for file in sorted(tub.glob(RECORDS), key=natural):
        digits = file.stem.removeprefix("record_")
        if not digits.isdecimal():
            raise UserError(f"{file}: a record is called record_N.json")
        try:
            text = inside(file, root).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} cannot be read ({error})") from error
        yield _record(json_object(text, str(file)), int(digits), str(file), _version_1_time)


def _record(found: dict[str, Any], number: int, where: str, time: Any) -> _Record:
    frame = found.get(PICTURE)
    if not isinstance(frame, str) or not frame:
        raise UserError(f"{where}: it has no {PICTURE}, the name of its picture")
    angle, throttle = (_number(found, name, where) for name in (ANGLE, THROTTLE))
    for name, value in ((ANGLE, angle), (THROTTLE, throttle)):
        if not -1.0 <= value <= 1.0:
            raise UserError(f"{where}: {name} is {value:g}, outside [-1, 1]")
    session = found.get("_session_id", "")
    return _Record(
        number, PureWindowsPath(frame).name, angle, throttle, time(found, number, where), str(session), where
    )


def _version_2_time(found: dict[str, Any], number: int, where: str) -> float:
    return _number(found, "_timestamp_ms", where) / 1000.0


def _version_1_time(found: dict[str, Any], number: int, where: str) -> float:
    if "milliseconds" in found:
        return _number(found, "milliseconds", where) / 1000.0
    if "timestamp" in found:
        try:
            return datetime.fromisoformat(str(found["timestamp"])).timestamp()
        except (ValueError, OverflowError, OSError) as error:
            raise UserError(f"{where}: the timestamp {found['timestamp']!r} is no date and time") from error
    return number / LOOP_HZ


def _number(found: dict[str, Any], name: str, where: str) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        said = f"is {value!r:.40}" if name in found else "is missing"
        raise UserError(f"{where}: {name} {said} where a number belongs")
    return float(value)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error
