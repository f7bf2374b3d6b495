"""BDD100K (Yu et al. 2020, arXiv:1805.04687): clips of 40 s from dashcam phones, with GPS and inertial readings.

    <root>/**/videos/**/{train,val,test}/<clip>.mov
    <root>/**/info/**/{train,val,test}/<clip>.json, or beside the video:
        startTime, endTime              ms since 1970, of the video; each reading has a `timestamp` on the same clock
        locations                       1 Hz: latitude, longitude (degrees), speed (m/s), course (degrees, clockwise
                                        from north); -1 where unknown
        gps                             the same without course; read if there are no `locations`
        accelerometer, gyro             50 Hz: x, y, z, in g and rad/s, in the axes of the phone
        rideID, timelapse

Actions are derived from the speed and the yaw rate: the gyroscope's about the direction of gravity, since the phone may
be mounted in any way, or, without a gyroscope that agrees with it, the slope of the course.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from daydrive.data import video
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates
from daydrive.data.kinematics.signals import covered, smooth
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.ego_drives import Indices, ego_drives
from daydrive.data.sources.files import inside, json_object, natural, read_text
from daydrive.data.sources.official import official_splits
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES, Drive, Image

INFO = "info"
PARTS = ("train", "val", "test")

BICYCLE = Bicycle(wheelbase=2.8, largest_angle=0.5)
"""A car of average size; the dataset does not specify the cars."""

GRID = 0.1
"""Interval at which the motion is computed without a gyroscope, s."""
FIX_TOLERANCE = 1.1
"""Maximum distance of a time to the nearest fix at which the speed is known, s."""
SPEED_WINDOW = 3.0
"""Seconds over which the speed is smoothed: a few fixes of 1 Hz."""
TURN, AGREEMENT, MAX_RATIO = 0.2, 0.8, 2.0
"""Where the standard deviation of the course is above `TURN`, rad, the gyroscope's angle must correlate with it by at
least `AGREEMENT`, and their ratio must be at most `MAX_RATIO` or its inverse."""
MAX_GRAVITY_IN_G = 3.0
"""Accelerations above this are in m/s²."""

OTHERS = {
    "latitude": "degrees (WGS 84)",
    "longitude": "degrees (WGS 84)",
    "gps_speed": "m/s, of the GPS, at the frame",
    "video_time": "s from the first frame of the video",
}
GYRO, COURSE = "gyro", "course"


@dataclass(frozen=True)
class _Motion:
    """times (M,) s since the first frame; speed (M,) m/s; yaw_rate (M,) rad/s, positive to the right; latitude and
    longitude (M,), degrees; made_from: what the yaw rate is read from."""

    times: Array
    speed: Array
    yaw_rate: Array
    latitude: Array
    longitude: Array
    made_from: str


@dataclass(frozen=True)
class _Clip:
    root: Path
    file: Path
    info: Path
    group: str
    yaw_from: str

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def made_from(self) -> dict[str, str]:
        return {**dict.fromkeys(ACTION_NAMES, "speed"), "steering": f"speed, {self.yaw_from}"}

    def times(self) -> Array:
        times = video.frame_times(self.file).seconds
        return times - times[0]

    def motion_times(self) -> Array:
        return _motion(_read(self.info, self.root), self.info).times

    def read(self, times: Array) -> tuple[Rates, Array]:
        motion = _motion(_read(self.info, self.root), self.info)
        columns = (motion.latitude, motion.longitude, motion.speed)
        others = np.column_stack([*(np.interp(times, motion.times, column) for column in columns), times])
        return Rates(motion.times, motion.speed, motion.yaw_rate), others

    def images(self, chosen: Indices, image_size: tuple[int, int]) -> Iterator[Image | bytes]:
        times = video.frame_times(self.file).seconds
        yield from video.frames_at(self.file, times[chosen], 0.45 * float(np.diff(times).min()), image_size)


class Bdd100kSource:
    name = "bdd100k"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the videos' native rate, about 30", 0.1),
        Option("split", str, None, "official or by-drive; default: official if train and another part exist"),
        Option("seed", int, 0, "seed of the clips drawn for val, and of the split by ride", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        described = derived.describe(BICYCLE, "speed of the GPS, yaw rate of the gyroscope or slope of the course")
        return {**described, "values": {**derived.VALUES, **OTHERS}, "decoder": video.hardware() or "software"}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        clips = _clips(root)
        parts = [next((p.name for p in clip.file.parents if p.name in PARTS), None) for clip in clips]
        splits = official_splits(parts, options, "videos in train/ and val/ or test/")
        return ego_drives(clips, splits, BICYCLE, tuple(OTHERS), options["hz"], image_size)


def _clips(root: Path) -> list[_Clip]:
    """The clips with GPS readings; the number of the others is printed."""
    videos = [file for suffix in video.SUFFIXES for file in root.rglob(f"[!.]*{suffix}")]
    if not videos:
        raise UserError(f"{root} has no videos ({', '.join(video.SUFFIXES)})")
    infos = {file.stem: file for file in root.rglob("[!.]*.json") if INFO in file.relative_to(root).parts}
    found: list[_Clip] = []
    without = {"without an info JSON": 0, "without GPS": 0, "time lapse": 0}
    seen: dict[str, Path] = {}
    for file in sorted(videos, key=natural):
        if file.stem in seen:
            raise UserError(f"{file} and {seen[file.stem]} are the same clip; remove one of them")
        seen[file.stem] = file
        beside = file.with_suffix(".json")
        info = infos.get(file.stem, beside if beside.exists() else None)
        if info is None:
            without["without an info JSON"] += 1
            continue
        content = _read(info, root)
        if content.get("timelapse") is True:
            without["time lapse"] += 1
        elif not (content.get("locations") or content.get("gps")):
            without["without GPS"] += 1
        else:
            group = str(content.get("rideID") or file.stem)
            found.append(_Clip(root, inside(file, root), info, group, _motion(content, info).made_from))
    if any(without.values()):
        reasons = ", ".join(f"{count} {reason}" for reason, count in without.items() if count)
        print(f"{sum(without.values())} of {len(videos)} videos are skipped: {reasons}.")
    if not found:
        raise UserError(f"{root} has no video with an info JSON that has GPS readings; unpack the info archive into it")
    return found


def _read(file: Path, root: Path) -> dict[str, Any]:
    return json_object(read_text(file, root), str(file))


def _motion(content: dict[str, Any], file: Path) -> _Motion:
    start = content.get("startTime")
    if not isinstance(start, int) or isinstance(start, bool):
        raise UserError(f"{file}: startTime is {str(start)[:40]!r}, expected the video's start in ms since 1970")
    has_course = bool(content.get("locations"))
    name, fields = ("locations", ("latitude", "longitude", "speed", "course")) if has_course else (
        "gps", ("latitude", "longitude", "speed"))  # fmt: skip
    times, fixes = _series(content, name, fields, start, file)
    known = fixes[:, 2] >= 0.0
    if known.sum() < 2:
        raise UserError(f"{file}: {name} has {known.sum()} fixes with a speed; at least 2 are needed")
    times, fixes = times[known], fixes[known]
    course = None
    if has_course and (valid := fixes[:, 3] >= 0.0).sum() >= 2:
        course = np.interp(times, times[valid], np.unwrap(np.radians(fixes[valid, 3])))
    moments, yaw_rate = _gyroscope(content, start, file, times, course)
    made_from = GYRO
    if yaw_rate is None:
        if course is None:
            raise UserError(f"{file} has neither a course in its locations nor gyro and accelerometer to turn by")
        made_from, moments = COURSE, np.arange(times[0], times[-1], GRID)
        slopes = np.diff(course) / np.diff(times)
        yaw_rate = np.interp(moments, (times[:-1] + times[1:]) / 2.0, slopes)
    near = covered(times, moments, FIX_TOLERANCE)
    if near.sum() < 2:
        raise UserError(f"{file}: {name} and {made_from} are not at the same times")
    moments, yaw_rate = moments[near], yaw_rate[near]
    latitude, longitude = (np.interp(moments, times, column) for column in fixes[:, :2].T)
    speed = np.maximum(smooth(times, fixes[:, 2:3], moments, SPEED_WINDOW).value[:, 0], 0.0)
    return _Motion(moments, speed, yaw_rate, latitude, longitude, made_from)


def _gyroscope(
    content: dict[str, Any], start: int, file: Path, fixes: Array, course: Array | None
) -> tuple[Array, Array | None]:
    """Times (M,) s and the yaw rate (M,) rad/s, positive to the right; None if it is unknown.

    A phone at rest accelerates by 1 g downwards by Apple's convention and upwards by Android's (in m/s²). Where the
    course (rad, at `fixes`, s) turns enough, it decides about the sign, and whether the gyroscope is used at all.
    """
    if not content.get("gyro") or not content.get("accelerometer"):
        return fixes, None
    times, turns = _series(content, "gyro", ("x", "y", "z"), start, file)
    gravity = _series(content, "accelerometer", ("x", "y", "z"), start, file)[1].mean(axis=0)
    norm = float(np.linalg.norm(gravity))
    if norm < 0.5 or len(times) < 2:
        return fixes, None
    yaw_rate = turns @ (gravity / norm) * (1.0 if norm < MAX_GRAVITY_IN_G else -1.0)
    if course is not None and float(course.std()) > TURN:
        angle = np.interp(fixes, times, np.cumsum(yaw_rate * np.gradient(times)))
        ratio = float(angle.std() / course.std())
        agreement = float(np.corrcoef(angle, course)[0, 1]) if ratio > 0.0 else 0.0
        if abs(agreement) < AGREEMENT or not 1.0 / MAX_RATIO < ratio < MAX_RATIO:
            return fixes, None
        yaw_rate = yaw_rate * np.sign(agreement)
    return times, yaw_rate


def _series(content: dict[str, Any], name: str, fields: tuple[str, ...], start: int, file: Path) -> tuple[Array, Array]:
    """Times (N,) s since the start of the video, increasing, and the fields (N, len(fields)) of a list of readings."""
    readings = content[name]
    if not isinstance(readings, list):
        raise UserError(f"{file}: {name} is not a list of readings")
    rows = []
    for number, reading in enumerate(readings):
        values = [reading.get(field) if isinstance(reading, dict) else None for field in ("timestamp", *fields)]
        for field, value in zip(("timestamp", *fields), values, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise UserError(f"{file}: {name}, reading {number}: {field} is {str(value)[:40]!r}, expected a number")
        rows.append(values)
    table = np.array(rows, dtype=np.float64)
    _, first = np.unique(table[:, 0], return_index=True)
    return (table[first, 0] - start) / 1e3, table[first, 1:]
