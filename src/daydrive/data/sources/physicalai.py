"""NVIDIA PhysicalAI-Autonomous-Vehicles: clips of 20 s from 25 countries, seven cameras at 30 Hz, poses at 100 Hz.

    <root>/camera/<camera>/<camera>.chunk_NNNN.zip      about 100 clips, of each:
        <clip>.<camera>.mp4
        <clip>.<camera>.timestamps.parquet              timestamp, µs, a row per frame
    <root>/labels/egomotion/egomotion.chunk_NNNN.zip
        <clip>.egomotion.parquet                        timestamp, µs; x, y, z; qx, qy, qz, qw
    <root>/clip_index.parquet                           optional: clip_id, split, clip_is_valid

The archives may also be unpacked, anywhere below the root. The times of a clip are on one clock. Poses are from vehicle
axes (forward, left, up; origin at the rear axle) to their position at the clip's start. The driver's commands are not
published: actions are derived from the poses.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daydrive.data import video
from daydrive.data.kinematics.ego_motion import Array, Bicycle, Rates
from daydrive.data.sources import derived
from daydrive.data.sources.arrow_columns import read_parquet
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.ego_drives import Indices, PoseTrack, ego_drives
from daydrive.data.sources.files import inside
from daydrive.data.sources.official import official_splits
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Image

INDEX = "clip_index.parquet"
TIME, POSITION, QUATERNION = "timestamp", ("x", "y", "z"), ("qw", "qx", "qy", "qz")
CAMERAS = (
    "camera_front_wide_120fov",
    "camera_front_tele_30fov",
    "camera_cross_left_120fov",
    "camera_cross_right_120fov",
    "camera_rear_left_70fov",
    "camera_rear_right_70fov",
    "camera_rear_tele_30fov",
)
PARTS = ("train", "val", "test")

BICYCLE = Bicycle(wheelbase=2.9, largest_angle=0.5)
"""A car of average size; calibration/vehicle_dimensions is not read."""

MAX_MEMBER = 2 << 30
"""Bytes of a file in an archive, at most; a video of 20 s has about 20 MB."""

OTHERS = {
    "timestamp": "µs, of the frame, on the clock of its clip",
    "x": "m from the position at the clip's start, forwards",
    "y": "m from the position at the clip's start, to the left",
    "heading": "rad from the direction at the clip's start, to the left",
}


@dataclass(frozen=True)
class _Item:
    """A file, or the member `name` of the archive `file`."""

    root: Path
    file: Path
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.name}" if self.name else str(self.file)

    def read(self) -> bytes:
        with self.on_disk() as path:
            return path.read_bytes()

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """The path of the file, or of a temporary copy of the member."""
        file = inside(self.file, self.root)
        if self.name is None:
            yield file
            return
        with tempfile.TemporaryDirectory(prefix="daydrive-") as folder:
            copy = Path(folder) / PurePosixPath(self.name).name
            try:
                with zipfile.ZipFile(file) as archive:
                    if archive.getinfo(self.name).file_size > MAX_MEMBER:
                        raise UserError(f"{self} has {archive.getinfo(self.name).file_size} bytes, too many for a clip")
                    with archive.open(self.name) as stream, copy.open("wb") as target:
                        shutil.copyfileobj(stream, target, 1 << 20)
            except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
                raise UserError(f"{self} cannot be unpacked ({error or type(error).__name__})") from error
            yield copy


@dataclass(frozen=True)
class _Clip:
    """One camera of a clip."""

    name: str
    movie: _Item
    stamps: _Item
    poses: _Item
    made_from: ClassVar[dict[str, str]] = {}

    @property
    def group(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        return self.stamps.file

    def times(self) -> Array:
        return self._micros() / 1e6

    def motion_times(self) -> Array:
        return self._track().times

    def read(self, times: Array) -> tuple[Rates, Array]:
        track = self._track()
        return track.rates(), np.column_stack([1e6 * times, track.locations(times)])

    def images(self, chosen: Indices, image_size: tuple[int, int]) -> Iterator[Image | bytes]:
        rows = len(self._micros())
        with self.movie.on_disk() as file:
            times = video.frame_times(file).seconds
            if len(times) != rows:
                raise UserError(f"{self.movie} has {len(times)} frames for the {rows} rows of {self.stamps}")
            yield from video.frames_at(file, times[chosen], 0.45 * float(np.diff(times).min()), image_size)

    def _micros(self) -> Array:
        micros = read_parquet(self.stamps.read(), [TIME], str(self.stamps))[TIME]
        back = np.flatnonzero(np.diff(micros) <= 0)
        if len(back):
            raise UserError(f"{self.stamps}, row {back[0] + 1}: its timestamp is not after that of the row before")
        if len(micros) < 2:
            raise UserError(f"{self.stamps} has {len(micros)} rows; a drive needs at least 2")
        return micros.astype(np.float64)

    def _track(self) -> PoseTrack:
        columns = read_parquet(self.poses.read(), [TIME, *POSITION, *QUATERNION], str(self.poses))
        positions, quaternions = (
            np.column_stack([columns[name] for name in names]) for names in (POSITION, QUATERNION)
        )
        return PoseTrack.from_rows(columns[TIME] / 1e6, positions, quaternions, str(self.poses))


class PhysicalAISource:
    name = "physicalai"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, CAMERAS[0], "name of the camera"),
        Option("hz", float, None, "frames per second; default: the cameras' rate, 30", 0.1),
        Option(
            "split", str, None, "official or by-drive; default: official if clip_index.parquet has train and another"
        ),
        Option("seed", int, 0, "seed of the clips drawn for val, and of the split by clip", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        values = {**derived.VALUES, **OTHERS}
        return {**derived.describe(BICYCLE, "poses"), "values": values, "camera": options["camera"]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        camera = options["camera"]
        if camera not in CAMERAS:
            raise UserError(f"--camera {camera}: there is no such camera{did_you_mean(camera, CAMERAS)}")
        index = _index(root)
        clips = _clips(root, camera, index)
        parts = [index[clip.name].part if clip.name in index else None for clip in clips]
        splits = official_splits(parts, options, f"train and val or test in the column split of {root / INDEX}")
        return ego_drives(clips, splits, BICYCLE, tuple(OTHERS), options["hz"], image_size)


class _Entry(NamedTuple):
    part: str | None
    valid: bool


def _index(root: Path) -> dict[str, _Entry]:
    """The entries of the index of clips by name; empty if there is none."""
    file = root / INDEX
    if not file.exists():
        return {}
    try:
        table = pq.read_table(inside(file, root))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read ({str(error).splitlines()[0]})") from error
    names = next((table.column(name) for name in ("clip_id", "__index_level_0__") if name in table.column_names), None)
    if names is None or "split" not in table.column_names:
        raise UserError(f"{file} needs the columns clip_id and split; it has {', '.join(table.column_names)}")
    valid = table.column("clip_is_valid").to_pylist() if "clip_is_valid" in table.column_names else [True] * len(table)
    rows = zip(names.to_pylist(), table.column("split").to_pylist(), valid, strict=True)
    return {str(name): _Entry(part if part in PARTS else None, is_valid is not False) for name, part, is_valid in rows}


def _clips(root: Path, camera: str, index: dict[str, _Entry]) -> list[_Clip]:
    """The clips with a video, times and poses, by name; the number of the others is printed."""
    endings = (f".{camera}.mp4", f".{camera}.timestamps.parquet", ".egomotion.parquet")
    movies, stamps, poses = (_items(root, ending) for ending in endings)
    if not movies:
        raise UserError(f"{root} has no clips of {camera} (camera/{camera}/*.zip, or *{endings[0]})")
    if not poses:
        raise UserError(
            f"{root} has no egomotion (labels/egomotion/*.zip, or *{endings[2]}), the source of the actions"
        )
    invalid = [name for name in movies if name in index and not index[name].valid]
    complete = [name for name in sorted(movies) if name in stamps and name in poses and name not in invalid]
    if len(complete) < len(movies):
        print(f"{len(movies) - len(complete)} of {len(movies)} clips of {camera} are skipped: {len(invalid)} marked as "
              "invalid, the others without timestamps or egomotion.")  # fmt: skip
    if not complete:
        raise UserError(
            f"{root} has no clip with timestamps and egomotion; download the same chunks of {camera} and labels"
        )
    return [_Clip(name, movies[name], stamps[name], poses[name]) for name in complete]


def _items(root: Path, ending: str) -> dict[str, _Item]:
    """The files with this ending below the root, and in the archives of their kind, by the name before it."""
    kind = ending.split(".")[1]
    found = {}
    for archive in sorted(root.rglob(f"{kind}.chunk_*.zip")):
        try:
            with zipfile.ZipFile(inside(archive, root)) as opened:
                members = opened.namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{archive} is not a ZIP archive ({error})") from error
        for member in members:
            name = PurePosixPath(member).name
            if name.endswith(ending) and not name.startswith("."):
                found[name.removesuffix(ending)] = _Item(root, archive, member)
    for file in sorted(root.rglob(f"[!.]*{ending}")):
        found[file.name.removesuffix(ending)] = _Item(root, file)
    return found
