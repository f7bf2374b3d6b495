"""KITTI (Geiger et al. 2013): odometry sequences with poses, and raw drives with GPS/IMU readings.

    odometry   <root>/sequences/NN/image_2/*.png     one of image_0 to image_3; 0 and 1 are grayscale
                                  times.txt          s, one row per image; 10 Hz is assumed without it
               <root>/poses/NN.txt                   3x4 matrices, camera → first camera, one row per image;
                                                     or poses.txt beside times.txt
    raw        <root>/DATE/DATE_drive_NNNN_sync/image_02/{timestamps.txt,data/*.png}
                                               oxts/{timestamps.txt,data/*.txt}

The test sequences 11 to 21, which have no poses, are skipped. Calibration is not needed: longitudinal speed and yaw
rate are the same at the camera and at the rear axle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates, rates_from_poses
from daydrive.data.kinematics.signals import covered
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.derived import derive_actions
from daydrive.data.sources.files import find_folders, image_files, inside, read_text
from daydrive.data.sources.table import number
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

HZ = 10.0
BICYCLE = Bicycle(wheelbase=2.71, largest_angle=0.5)
"""Volkswagen Passat B6."""

PREFERRED_CAMERAS = (2, 0, 3, 1)
TEST_SEQUENCES = range(11, 22)

OXTS_COLUMNS = 30
LATITUDE, LONGITUDE, FORWARD_SPEED, UPWARD_RATE = 0, 1, 8, 22
OXTS_TOLERANCE = 0.1
"""Maximum distance of a frame to the nearest OXTS reading, s."""

VALUES = {
    **derived.VALUES,
    "latitude": "degrees (WGS 84); raw drives only",
    "longitude": "degrees (WGS 84); raw drives only",
    "picture": "number of the picture in its folder, from 0",
}

_CAMERA = re.compile(r"(?:image_)?0?([0-3])")


@dataclass(frozen=True)
class _Odometry:
    """A sequence of the odometry benchmark."""

    root: Path
    folder: Path

    def image_folder(self, camera: int) -> Path:
        return self.folder / f"image_{camera}"

    @property
    def poses(self) -> Path:
        beside = self.folder / "poses.txt"
        return beside if beside.exists() else self.folder.parent.parent / "poses" / f"{self.folder.name}.txt"

    def where(self, camera: int, index: int) -> str:
        return f"{self.poses}, row {index + 1}"

    def times(self, camera: int) -> Array:
        file = self.folder / "times.txt"
        count = len(image_files(self.image_folder(camera)))
        if not file.exists():
            return np.arange(count) / HZ
        rows = _numbers(file, self.root, 1, "the time of an image")
        return _checked_times(rows[:, 0], file, count)

    def chosen(self, times: Array, hz: float) -> list[npt.NDArray[np.int64]]:
        return clock.resample(times, hz)

    def read(self, times: Array) -> tuple[Rates, Array]:
        """Speed and yaw rate; latitude and longitude (N, 2), which are unknown (NaN)."""
        matrices = _numbers(self.poses, self.root, 12, "a 3x4 matrix").reshape(-1, 3, 4)
        if len(matrices) != len(times):
            raise UserError(f"{self.poses} has {len(matrices)} poses, but {self.folder} has {len(times)} images")
        rotations = matrices[:, :, :3]
        errors = np.abs(np.einsum("nij,nkj->nik", rotations, rotations) - np.eye(3)).max(axis=(1, 2))
        bad = np.flatnonzero((errors > 0.02) | (np.linalg.det(rotations) < 0.0))
        if len(bad):
            raise UserError(f"{self.poses}, row {bad[0] + 1}: its first three columns are not a rotation matrix")
        right_down_forward = [2, 0, 1]
        rates = rates_from_poses(times, matrices[:, :, 3], rotations[:, :, right_down_forward])
        return rates, np.full((len(times), 2), np.nan)


@dataclass(frozen=True)
class _Raw:
    """A drive of the raw data."""

    root: Path
    folder: Path

    def image_folder(self, camera: int) -> Path:
        return self.folder / f"image_{camera:02d}" / "data"

    def timestamps_file(self, camera: int) -> Path:
        return self.folder / f"image_{camera:02d}" / "timestamps.txt"

    def where(self, camera: int, index: int) -> str:
        return f"{self.timestamps_file(camera)}, row {index + 1}"

    def times(self, camera: int) -> Array:
        count = len(image_files(self.image_folder(camera)))
        return _checked_times(
            _read_timestamps(self.timestamps_file(camera), self.root), self.timestamps_file(camera), count
        )

    def chosen(self, times: Array, hz: float) -> list[npt.NDArray[np.int64]]:
        known = np.flatnonzero(covered(self._oxts_times(), times, OXTS_TOLERANCE))
        return [known[run] for run in clock.resample(times[known], hz)] if len(known) else []

    def read(self, times: Array) -> tuple[Rates, Array]:
        """Speed and yaw rate; latitude and longitude (N, 2), degrees."""
        moments, folder = self._oxts_times(), self.folder / "oxts" / "data"
        files = sorted(inside(folder, self.root).glob("*.txt")) if folder.is_dir() else []
        if len(files) != len(moments):
            raise UserError(f"{folder} has {len(files)} readings, but oxts/timestamps.txt has {len(moments)} times")
        readings = np.concatenate(
            [_numbers(file, self.root, OXTS_COLUMNS, "an OXTS reading", rows=1) for file in files]
        )
        locations = [np.interp(times, moments, readings[:, column]) for column in (LATITUDE, LONGITUDE)]
        return Rates(moments, readings[:, FORWARD_SPEED], -readings[:, UPWARD_RATE]), np.stack(locations, axis=1)

    def _oxts_times(self) -> Array:
        file = self.folder / "oxts" / "timestamps.txt"
        times = _read_timestamps(file, self.root)
        return _checked_times(times, file, len(times))


_Recording = _Odometry | _Raw


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`."""

    recording: _Recording
    camera: int
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        recording = self.recording
        files, times = image_files(recording.image_folder(self.camera)), recording.times(self.camera)
        chosen = recording.chosen(times, self.hz)[self.run]
        rates, locations = recording.read(times)
        derived_actions = derive_actions(rates, times, chosen, BICYCLE)
        columns = np.column_stack([derived_actions.values, locations[chosen], chosen])
        for k, index in enumerate(chosen.tolist()):
            where = recording.where(self.camera, index)
            image = read_image(inside(files[index], recording.root), where, self.image_size)
            values = dict(zip(VALUES, columns[k].tolist(), strict=True))
            yield Frame(image, derived_actions.actions[k].astype(np.float32), k / self.hz, values)


class KittiSource:
    name = "kitti"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, None, "0 to 3 (0 and 1 are grayscale); default: 2 if every drive has it, else 0"),
        Option("hz", float, None, "frames per second; default: the recordings' native rate, about 10", 0.1),
        Option("seed", int, 0, "seed of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        return {**derived.describe(BICYCLE, "poses or GPS and inertial readings"), "values": VALUES}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        recordings = _recordings(root)
        camera = _camera(recordings, options["camera"])
        times = [recording.times(camera) for recording in recordings]
        rates = clock.shared_hz([(r.folder, t) for r, t in zip(recordings, times, strict=True)], options["hz"])
        drives = []
        for recording, moments, hz in zip(recordings, times, rates, strict=True):
            folder = recording.folder
            name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
            runs = recording.chosen(moments, hz)
            usable = [(run, len(frames)) for run, frames in enumerate(runs) if clock.long_enough(frames, hz)]
            for run, length in usable:
                label = name if len(runs) == 1 else f"{name}.{run}"
                group = None if len(runs) == 1 else name
                drives.append(Drive(label, hz, _Frames(recording, camera, hz, run, image_size), None, length, group))
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of images and motion without a gap")
        return drives


def _recordings(root: Path) -> list[_Recording]:
    odometry: list[_Recording] = []
    raw: list[_Recording] = []
    for folder in find_folders(root, _is_recording, 4):
        if (folder / "oxts").is_dir() or _cameras(folder, 2):
            if not inside(folder / "oxts", root).is_dir():
                raise UserError(f"{folder} has no oxts/, which the actions are derived from")
            raw.append(_Raw(root, folder))
            continue
        sequence = _Odometry(root, folder)
        if sequence.poses.exists():
            odometry.append(sequence)
        elif not (folder.name.isdecimal() and int(folder.name) in TEST_SEQUENCES):
            raise UserError(f"{folder} has no poses: neither poses.txt in it nor {sequence.poses} exists")
    if odometry and raw:
        raise UserError(
            f"{root} has odometry sequences and raw drives, which are the same recordings; use only one of them"
        )
    if not odometry and not raw:
        raise UserError(
            f"{root} has no KITTI drives with poses; a drive has image_2/ and poses, or image_02/data/ and oxts/"
        )
    return odometry or raw


def _is_recording(folder: Path) -> bool:
    return bool((folder / "oxts").is_dir() or _cameras(folder, 1) or _cameras(folder, 2))


def _cameras(folder: Path, digits: int) -> list[int]:
    return [camera for camera in range(4) if (folder / f"image_{camera:0{digits}d}").is_dir()]


def _camera(recordings: list[_Recording], given: str | None) -> int:
    """The camera to read, which every recording has. Raises UserError if there is none."""
    if given is not None:
        match = _CAMERA.fullmatch(given)
        if match is None:
            raise UserError(f"--camera {given}: the cameras are 0 and 1 (grayscale), 2 and 3 (color)")
        candidates: tuple[int, ...] = (int(match[1]),)
    else:
        candidates = PREFERRED_CAMERAS
    for camera in candidates:
        missing = next((r.image_folder(camera) for r in recordings if not r.image_folder(camera).is_dir()), None)
        if missing is None:
            for recording in recordings:
                inside(recording.image_folder(camera), recording.root)
            return camera
    raise UserError(f"{missing} does not exist, but all drives are read from one camera; choose another --camera")


def _numbers(file: Path, root: Path, columns: int, what: str, rows: int | None = None) -> Array:
    """The rows of numbers in a text file, (N, columns); a UserError names the row (from 1)."""
    found = []
    for row, line in enumerate(read_text(file, root).splitlines(), start=1):
        cells, where = line.split(), f"{file}, row {row}"
        if len(cells) != columns:
            raise UserError(f"{where}: there are {len(cells)} numbers, but {what} has {columns}")
        found.append([number(cell, what, where) for cell in cells])
    if not found or (rows is not None and len(found) != rows):
        raise UserError(f"{file} has {len(found)} rows, expected {rows or 'at least 1'}")
    return np.array(found)


def _read_timestamps(file: Path, root: Path) -> Array:
    """Times (N,), s since 1970, of rows such as 2011-09-26 13:02:25.594360375."""
    found = []
    for row, line in enumerate(read_text(file, root).splitlines(), start=1):
        try:
            whole, _, fraction = line.strip().partition(".")
            seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds()
            found.append(seconds + float(f"0.{fraction or 0}"))
        except (ValueError, TypeError) as error:
            text = line.strip()[:40]
            raise UserError(
                f"{file}, row {row}: '{text}' is not a time such as 2011-09-26 13:02:25.594360375"
            ) from error
    return np.array(found)


def _checked_times(times: Array, file: Path, count: int) -> Array:
    """`times`, (`count`,) and strictly increasing; otherwise raises UserError, with the row (from 1)."""
    if len(times) != count:
        raise UserError(f"{file} has {len(times)} times for {count} images")
    if count < 2:
        raise UserError(f"{file} has {count} times; a drive needs at least 2")
    back = np.flatnonzero(np.diff(times) <= 0.0)
    if len(back):
        row = int(back[0]) + 2
        raise UserError(f"{file}, row {row}: the time is not after that of row {row - 1}")
    return times
