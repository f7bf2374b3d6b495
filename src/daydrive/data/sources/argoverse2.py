"""Argoverse 2 Sensor (Wilson et al. 2021, arXiv:2301.00493): logs of 15 s from six US cities, nine cameras at 20 Hz.

    <root>/{train,val,test}/<log>/city_SE3_egovehicle.feather       timestamp_ns, qw, qx, qy, qz, tx_m, ty_m, tz_m
                                  sensors/cameras/<camera>/<ns>.jpg
    or <root>/<log>/…, or a log alone

Poses are from vehicle axes (forward, left, up; origin at the rear axle) to the city. The dataset does not contain the
driver's commands: actions are derived from the poses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from daydrive.data.images import read_image
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates
from daydrive.data.sources import derived
from daydrive.data.sources.arrow_columns import read_feather
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.ego_drives import Indices, PoseTrack, ego_drives
from daydrive.data.sources.files import entries, find_folders, image_files, inside
from daydrive.data.sources.official import official_splits
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Image

POSES, CAMERAS = "city_SE3_egovehicle.feather", Path("sensors/cameras")
TIME, QUATERNION, POSITION = "timestamp_ns", ("qw", "qx", "qy", "qz"), ("tx_m", "ty_m", "tz_m")
PARTS = ("train", "val", "test")
DEPTH = 3
"""Levels of folders below the root that are searched."""

BICYCLE = Bicycle(wheelbase=2.85, largest_angle=0.5)
"""Ford Fusion."""

OTHERS = {"timestamp": "µs, of the image", "x": "m in the city", "y": "m in the city", "heading": "rad, from x to y"}


@dataclass(frozen=True)
class _Log:
    """One camera of a log."""

    root: Path
    folder: Path
    camera: str
    made_from: ClassVar[dict[str, str]] = {}

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def group(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        return self.folder / CAMERAS / self.camera

    def times(self) -> Array:
        nanos = self._nanos()
        return np.array([(nano - nanos[0]) / 1e9 for nano in nanos])

    def motion_times(self) -> Array:
        return self._track().times

    def read(self, times: Array) -> tuple[Rates, Array]:
        track = self._track()
        micros = np.array(self._nanos()) / 1e3
        return track.rates(), np.column_stack([micros, track.locations(times)])

    def images(self, chosen: Indices, image_size: tuple[int, int]) -> Iterator[Image | bytes]:
        files = self._files()
        for k in chosen.tolist():
            yield read_image(inside(files[k], self.root), str(self.file), image_size, shrink=True)

    def _files(self) -> list[Path]:
        """The images in the order of their times, at least 2."""
        files = image_files(inside(self.file, self.root))
        other = next((file for file in files if not file.stem.isdecimal()), None)
        if other is not None:
            raise UserError(f"{other}: its name is not a time in ns, such as 315973157949927216.jpg")
        if len(files) < 2:
            raise UserError(f"{self.file} has {len(files)} images; a drive needs at least 2")
        return sorted(files, key=lambda file: int(file.stem))

    def _nanos(self) -> list[int]:
        return [int(file.stem) for file in self._files()]

    def _track(self) -> PoseTrack:
        file = inside(self.folder / POSES, self.root)
        columns = read_feather(file, (TIME, *QUATERNION, *POSITION))
        seconds = (columns[TIME] - self._nanos()[0]) / 1e9
        positions, quaternions = (
            np.column_stack([columns[name] for name in names]) for names in (POSITION, QUATERNION)
        )
        return PoseTrack.from_rows(seconds, positions, quaternions, str(file))


class Argoverse2Source:
    name = "argoverse2"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, "ring_front_center", "folder of the camera"),
        Option("hz", float, None, "frames per second; default: the camera's rate, 20", 0.1),
        Option("split", str, None, "official or by-drive; default: official if train and another part exist"),
        Option("seed", int, 0, "seed of the logs drawn for val, and of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        values = {**derived.VALUES, **OTHERS}
        return {**derived.describe(BICYCLE, "poses"), "values": values, "camera": options["camera"]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        logs = _logs(root, options["camera"])
        parts = [part if (part := log.folder.resolve().parent.name) in PARTS else None for log in logs]
        splits = official_splits(parts, options, "train/ and val/ or test/")
        return ego_drives(logs, splits, BICYCLE, tuple(OTHERS), options["hz"], image_size)


def _logs(root: Path, camera: str) -> list[_Log]:
    """The logs that have images of the camera."""
    folders = find_folders(root, lambda folder: (folder / POSES).exists() or (folder / CAMERAS).is_dir(), DEPTH)
    if not folders:
        raise UserError(f"{root} has no logs of Argoverse 2, which are folders with {POSES} and {CAMERAS}/")
    seen: dict[str, Path] = {}
    for folder in folders:
        if not (folder / POSES).exists():
            raise UserError(f"{folder} has no {POSES}, which the actions are derived from")
        if folder.resolve().name in seen:
            raise UserError(f"{folder} and {seen[folder.resolve().name]} are the same log; remove one of them")
        seen[folder.resolve().name] = folder
    found = [_Log(root, folder, camera) for folder in folders if (folder / CAMERAS / camera).is_dir()]
    if not found:
        cameras = {path.name for folder in folders if (folder / CAMERAS).is_dir() for path in entries(folder / CAMERAS)}
        raise UserError(f"--camera {camera}: {root} has no images of such a camera{did_you_mean(camera, cameras)}")
    if len(found) < len(folders):
        print(f"{len(folders) - len(found)} of {len(folders)} logs are skipped: they have no {CAMERAS / camera}/.")
    return found
