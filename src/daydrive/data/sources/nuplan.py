"""nuPlan (Caesar et al. 2021, arXiv:2106.11810): logs from four cities, eight cameras at 10 Hz, poses at 100 Hz.

    <root>/**/<log>.db                        SQLite; of its tables camera, image and ego_pose are read
    <root>/**/sensor_blobs/<log>/CAM_F0/*.jpg     beside the databases or one of the folders that contain them

Poses are from vehicle axes (forward, left, up) to the map. The driver's commands were not recorded: actions are derived
from the poses. About a tenth of the logs has images; the others are skipped.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from daydrive.data.images import read_image
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.ego_drives import Indices, PoseTrack, ego_drives
from daydrive.data.sources.files import inside, natural, subfolders
from daydrive.data.sources.frame_counts import FrameCounts
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Image

BLOBS = "sensor_blobs"
DEPTH = 4
"""Levels of folders below the root that are searched."""

BICYCLE = Bicycle(wheelbase=3.089, largest_angle=0.5)
"""Chrysler Pacifica."""

OTHERS = {
    "timestamp": "µs since 1970, of the image",
    "x": "m on the map",
    "y": "m on the map",
    "heading": "rad on the map, from x to y",
}

IMAGES = """
    SELECT image.filename_jpg, image.timestamp FROM image JOIN camera ON image.camera_token = camera.token
    WHERE camera.channel = ? ORDER BY image.timestamp
"""
POSES = "SELECT timestamp, x, y, z, qw, qx, qy, qz FROM ego_pose ORDER BY timestamp"

_SESSION = re.compile(r"(.+_veh-\d+)_\d+_\d+")
"""The part of a log's name that names the session that it was cut from."""


@dataclass(frozen=True)
class _Log:
    """One camera of a log. blobs: the folder of the images."""

    root: Path
    file: Path
    blobs: Path
    camera: str
    made_from: ClassVar[dict[str, str]] = {}

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def group(self) -> str:
        match = _SESSION.fullmatch(self.name)
        return match[1] if match else self.name

    def times(self) -> Array:
        micros = self._existing()[1]
        return (micros - micros[0]) / 1e6

    def motion_times(self) -> Array:
        return self._track().times

    def read(self, times: Array) -> tuple[Rates, Array]:
        track = self._track()
        return track.rates(), np.column_stack([self._existing()[1], track.locations(times)])

    def images(self, chosen: Indices, image_size: tuple[int, int]) -> Iterator[Image | bytes]:
        files = self._existing()[0]
        for k in chosen.tolist():
            yield read_image(inside(files[k], self.root), f"{self.file}, table image", image_size, shrink=True)

    def cameras(self) -> set[str]:
        return {str(channel) for (channel,) in _query(self.file, "SELECT channel FROM camera")}

    def recorded(self) -> tuple[list[Path], Indices]:
        """The camera's images, which may not exist, and their times (N,) µs, increasing."""
        rows = _query(self.file, IMAGES, self.camera)
        wrong = next((row for row in rows if not (isinstance(row[0], str) and isinstance(row[1], int))), None)
        if wrong is not None:
            raise UserError(f"{self.file}, table image: {wrong} are not a file name and a time in µs")
        micros = np.array([time for _, time in rows], dtype=np.int64)
        same = np.flatnonzero(np.diff(micros) == 0)
        if len(same):
            raise UserError(f"{self.file}, table image: {self.camera} has two images at {micros[same[0]]}")
        return [self.blobs / name for name, _ in rows], micros

    def _existing(self) -> tuple[list[Path], Indices]:
        """The images that exist, and their times (N,) µs."""
        files, micros = self.recorded()
        names = {folder: _names(folder, self.root) for folder in {file.parent for file in files}}
        found = [k for k, file in enumerate(files) if file.name in names[file.parent]]
        return [files[k] for k in found], micros[found]

    def missing(self) -> tuple[int, int]:
        """How many of the camera's images do not exist, and how many there should be."""
        count = len(self.recorded()[0])
        return count - len(self._existing()[0]), count

    def _track(self) -> PoseTrack:
        table = f"{self.file}, table ego_pose"
        rows = _query(self.file, POSES)
        if not rows:
            raise UserError(f"{table} is empty; the actions are derived from it")
        micros, numbers = [row[0] for row in rows], [row[1:] for row in rows]
        try:
            columns = np.array(numbers, dtype=np.float64)
            seconds = (np.array(micros, dtype=np.int64) - self._existing()[1][0]) / 1e6
        except (TypeError, ValueError) as error:
            raise UserError(f"{table}: timestamp and x to qz must be numbers ({error})") from error
        bad = np.flatnonzero(~np.isfinite(columns).all(axis=1))
        if len(bad):
            raise UserError(f"{table}: the pose at {micros[bad[0]]} contains a number that is missing or not finite")
        return PoseTrack.from_rows(seconds, columns[:, :3], columns[:, 3:], table)


class NuPlanSource:
    name = "nuplan"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, "CAM_F0", "channel of the camera"),
        Option("hz", float, None, "frames per second; default: the camera's rate, 10", 0.1),
        Option("seed", int, 0, "seed of the split by session", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        values = {**derived.VALUES, **OTHERS}
        return {**derived.describe(BICYCLE, "poses"), "values": values, "camera": options["camera"]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        counts = FrameCounts()
        logs = _logs(root, options["camera"], counts)
        return ego_drives(logs, [None] * len(logs), BICYCLE, tuple(OTHERS), options["hz"], image_size, counts)


def _logs(root: Path, camera: str, counts: FrameCounts) -> list[_Log]:
    """The logs that have at least two images of the camera, each once. Their missing images are added to `counts`."""
    files = list(_databases(root, root, DEPTH))
    if not files:
        raise UserError(f"{root} has no nuPlan logs (*.db)")
    unique = {file.name: file for file in reversed(files)}  # the logs of splits/mini are in splits/trainval, too
    logs = [_Log(root, file, _blobs(file, root), camera) for file in reversed(unique.values())]
    with_folder = [log for log in logs if (log.blobs / log.name).is_dir()]  # nine of ten have no images
    for log in with_folder:
        if camera not in log.cameras():
            raise UserError(f"--camera {camera}: {log.file} has no such camera{did_you_mean(camera, log.cameras())}")
    missing = [log.missing() for log in with_folder]
    found = [log for log, (absent, count) in zip(with_folder, missing, strict=True) if count - absent >= 2]
    if not found:
        raise UserError(f"{logs[0].blobs} has no images of {camera} of the {len(logs)} logs in {root}")
    if len(found) < len(logs):
        print(f"{len(logs) - len(found)} of {len(logs)} logs are skipped: {BLOBS}/ has no images of {camera} of them.")
    for log, (absent, count) in zip(with_folder, missing, strict=True):
        if 0 < absent <= count - 2:
            counts.recorded += absent
            counts.leave_out(absent, "whose image does not exist", first=log.file.name)
    return found


def _databases(folder: Path, root: Path, depth: int) -> Iterator[Path]:
    yield from sorted((inside(file, root) for file in folder.glob("[!.]*.db")), key=natural)
    if depth:
        for subfolder in subfolders(folder):
            if subfolder.name != BLOBS:
                yield from _databases(inside(subfolder, root), root, depth - 1)


def _blobs(file: Path, root: Path) -> Path:
    """The folder of the images: the nearest one above the database."""
    parents = [parent for parent in file.parents if parent.is_relative_to(root)]
    return next((parent / BLOBS for parent in parents if (parent / BLOBS).is_dir()), root / BLOBS)


def _names(folder: Path, root: Path) -> frozenset[str]:
    """The names of the files in a folder, which may not exist."""
    return frozenset(os.listdir(folder)) if inside(folder, root).is_dir() else frozenset()


def _query(file: Path, query: str, *parameters: str) -> list[tuple[Any, ...]]:
    """The rows of a query; the database is neither changed nor locked."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()
    except sqlite3.Error as error:
        raise UserError(f"{file} is not a nuPlan log ({error})") from error
