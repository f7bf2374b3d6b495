"""Waymo Open Dataset, Perception, v2 (Sun et al. 2020, arXiv:1912.04838): segments of 20 s, five cameras at 10 Hz.

    <root>/{training,validation,testing,testing_location}/camera_image/<segment>.parquet
                                                          vehicle_pose/<segment>.parquet
    or <root>/camera_image/ and vehicle_pose/ alone

A row of camera_image is the JPEG of one camera at one frame; a row of vehicle_pose is the 4x4 matrix from vehicle axes
(forward, left, up; origin at the center of the rear axle) to world axes. Other components are not read. The dataset
does not contain the driver's commands: actions are derived from the poses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from daydrive.data.images import image_in
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import Array, Bicycle, rates_from_poses
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.derived import derive_actions
from daydrive.data.sources.files import entries, inside
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.official import official_splits
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

IMAGES, POSES = "camera_image", "vehicle_pose"
SEGMENT, TIME, CAMERA = "key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name"
IMAGE, POSE = "[CameraImageComponent].image", "[VehiclePoseComponent].world_from_vehicle.transform"

CAMERAS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")
"""Camera names in the order of their numbers, 1 to 5."""

OFFICIAL = {"training": "train", "validation": "val", "testing": "test", "testing_location": "test"}

BICYCLE = Bicycle(wheelbase=2.99, largest_angle=0.5)
"""Jaguar I-Pace; the dataset does not specify the vehicle."""

FORWARD_RIGHT_DOWN = np.array([1.0, -1.0, -1.0])

BATCH_ROWS = 8
"""Images in memory at once if the rows of a file are sorted by time."""
UNSORTED_BATCH_ROWS = 32
"""Images read in one pass over a file whose rows are not sorted by time."""
VALUES = {**derived.VALUES, "timestamp": "µs, of the frame", "x": "m in the world", "y": "m in the world"}

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Segment:
    """One camera of a segment. folder: that of its part of the dataset, which contains the components."""

    root: Path
    folder: Path
    name: str
    camera: int

    @property
    def image_file(self) -> Path:
        return self.folder / IMAGES / f"{self.name}.parquet"

    @property
    def pose_file(self) -> Path:
        return self.folder / POSES / f"{self.name}.parquet"

    def frames(self) -> tuple[Indices, Indices]:
        """Times (N,) µs, increasing, of the camera's images, and their rows (N,) in `image_file`."""
        table = _read_columns(self.image_file, self.root, [SEGMENT, TIME, CAMERA], [IMAGE])
        self._check_segment(self.image_file, table)
        rows = np.flatnonzero(_integers(table, CAMERA, self.image_file) == self.camera)
        if len(rows) < 2:
            raise UserError(f"{self.image_file} has {len(rows)} images of {CAMERAS[self.camera - 1]}")
        micros = _integers(table, TIME, self.image_file)[rows]
        order = np.argsort(micros, kind="stable")
        _check_unique(micros[order], rows[order], self.image_file)
        return micros[order], rows[order]

    def motion(self, micros: Indices) -> tuple[Array, Array]:
        """Positions (N, 3) m and rotations (N, 3, 3) of (forward, right, down) in world axes, at `micros` (N,) µs."""
        table = _read_columns(self.pose_file, self.root, [SEGMENT, TIME, POSE])
        self._check_segment(self.pose_file, table)
        matrices = _matrices(table.column(POSE), self.pose_file)
        times = _integers(table, TIME, self.pose_file)
        order = np.argsort(times, kind="stable")
        _check_unique(times[order], order, self.pose_file)
        indices = np.searchsorted(times[order], micros)
        exists = np.append(times[order], -1)[indices] == micros
        if not exists.all():
            raise UserError(f"{self.pose_file} has no pose of the frame {micros[~exists][0]} in {self.image_file}")
        poses = matrices[order[indices]]
        return poses[:, :3, 3], poses[:, :3, :3] * FORWARD_RIGHT_DOWN

    def read_images(self, rows: Indices) -> Iterator[bytes]:
        """The JPEGs of these rows, with only a few in memory at once, in any row order."""
        size = UNSORTED_BATCH_ROWS
        passes = [rows] if (np.diff(rows) >= 0).all() else [rows[k : k + size] for k in range(0, len(rows), size)]
        for batch in passes:
            ascending = np.unique(batch)
            read = _read_rows(inside(self.image_file, self.root), ascending)
            if len(passes) == 1:
                yield from (jpeg for row, jpeg in read for _ in range(int((batch == row).sum())))
            else:
                jpegs = dict(read)
                yield from (jpegs[row] for row in batch.tolist())

    def _check_segment(self, file: Path, table: pa.Table) -> None:
        names = set(table.column(SEGMENT).unique().to_pylist())
        if names != {self.name}:
            other = next((str(name) for name in names if name != self.name), "no segment")
            raise UserError(f"{file} has rows of {other[:80]}, but its name is that of {self.name}")


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a segment, resampled to `hz`."""

    segment: _Segment
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        segment = self.segment
        micros, rows = segment.frames()
        times = _seconds(micros)
        chosen = clock.resample(times, self.hz)[self.run]
        positions, rotations = segment.motion(micros)
        derived_actions = derive_actions(rates_from_poses(times, positions, rotations), times, chosen, BICYCLE)
        columns = np.column_stack([derived_actions.values, micros[chosen], positions[chosen, :2]])
        for k, jpeg in enumerate(segment.read_images(rows[chosen])):
            where = f"{segment.image_file}, row {rows[chosen[k]]}"
            image = image_in(jpeg, f"of the frame {micros[chosen[k]]}", where, self.image_size, shrink=True)
            values = dict(zip(VALUES, columns[k].tolist(), strict=True))
            yield Frame(image, derived_actions.actions[k].astype(np.float32), k / self.hz, values)


class WaymoSource:
    name = "waymo"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, "FRONT", f"{', '.join(CAMERAS)}, or its number from 1"),
        Option("hz", float, None, "frames per second; default: the camera's rate, 10", 0.1),
        Option("split", str, None, "official or by-drive; default: official if training and another part exist"),
        Option("seed", int, 0, "seed of the segments drawn for val, and of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        return {**derived.describe(BICYCLE, "poses"), "values": VALUES, "camera": CAMERAS[_camera(options) - 1]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        camera = _camera(options)
        found = _segments(root, camera)
        parts = [OFFICIAL[part] if part else None for part, _ in found]
        splits = official_splits(parts, options, f"training/ and validation/ or testing/ in {root}")
        segments = [segment for _, segment in found]
        times = [_seconds(segment.frames()[0]) for segment in segments]
        for segment in segments:
            _read_columns(segment.pose_file, root, [], [SEGMENT, TIME, POSE])
        hz = _rate(segments, times, options["hz"])
        drives, counts = [], FrameCounts()
        for segment, moments, split in zip(segments, times, splits, strict=True):
            runs = clock.resample(moments, hz)
            counts.recorded += len(moments)
            for run, chosen in counts.usable(runs, len(moments), hz):
                label = segment.name if len(runs) == 1 else f"{segment.name}.{run}"
                drives.append(Drive(label, hz, _Frames(segment, hz, run, image_size), split, len(chosen), segment.name))
        if not drives:
            raise UserError(
                f"{root} has no segment with {clock.MIN_RUN_SECONDS:g} s of images without a gap{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def _camera(options: Options) -> int:
    given = str(options["camera"]).upper()
    if given.isdecimal() and 1 <= int(given) <= len(CAMERAS):
        return int(given)
    if given not in CAMERAS:
        raise UserError(f"--camera {options['camera']}: there is no such camera{did_you_mean(given, CAMERAS)}")
    return CAMERAS.index(given) + 1


def _segments(root: Path, camera: int) -> list[tuple[str | None, _Segment]]:
    """Part of the dataset (None if it cannot be determined from the root) and segment, in a fixed order."""
    parts: list[tuple[str | None, Path]] = [(name, root / name) for name in OFFICIAL if (root / name).is_dir()]
    if (root / IMAGES).is_dir():
        if parts:
            raise UserError(f"{root} has both {IMAGES}/ and {parts[0][0]}/; use only one of them")
        parts = [(root.resolve().name if root.resolve().name in OFFICIAL else None, root)]
    found: list[tuple[str | None, _Segment]] = []
    seen: dict[str, Path] = {}
    for part, folder in parts:
        images = inside(folder / IMAGES, root)
        if not images.is_dir():
            raise UserError(f"{folder} has no {IMAGES}/, the component with the images")
        for file in entries(images, "*.parquet"):
            segment = _Segment(root, folder, file.stem, camera)
            if not segment.pose_file.exists():
                raise UserError(f"{segment.pose_file} does not exist; the actions of {file} are derived from it")
            if segment.name in seen:
                raise UserError(f"{file} and {seen[segment.name]} are the same segment; remove one of them")
            seen[segment.name] = file
            found.append((part, segment))
    if not found:
        if any(root.rglob("*.tfrecord")):
            raise UserError(f"{root} has .tfrecord files (v1); download the Parquet files of v2 (Perception)")
        raise UserError(f"{root} has no Waymo v2 segments (training/{IMAGES}/*.parquet and training/{POSES}/)")
    return found


def _rate(segments: Sequence[_Segment], times: Sequence[Array], given: float | None) -> float:
    """`given` if set, otherwise the median of the segments' native rates."""
    rates = [clock.native_hz(moments) for moments in times]
    for segment, rate in zip(segments, rates, strict=True):
        clock.check_rate(segment.image_file, rate)
        if given and given > rate * clock.SAME_RATE:
            raise UserError(f"{segment.image_file} has {rate:g} frames per second, too few for --hz {given:g}")
    return given or round(float(np.median(rates)), 1)


def _read_columns(file: Path, root: Path, names: Sequence[str], others: Sequence[str] = ()) -> pa.Table:
    """The columns `names` of a Parquet file; raises UserError if one of them or of the columns `others` is missing."""
    path = inside(file, root)
    try:
        with pq.ParquetFile(path) as parquet:
            missing = [name for name in (*names, *others) if name not in parquet.schema_arrow.names]
            if missing:
                hint = did_you_mean(missing[0], parquet.schema_arrow.names)
                raise UserError(f"{file} has no column '{missing[0]}'{hint}")
            return parquet.read(list(names))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read ({_reason(error)})") from error


def _read_rows(path: Path, rows: Indices) -> Iterator[tuple[int, bytes]]:
    """Row and JPEG of the given ascending `rows`, without loading whole row groups into memory."""
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as parquet:
            counts = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
            ends = np.cumsum(counts)
            groups = np.unique(np.searchsorted(ends, rows, side="right"))
            for group in groups.tolist():
                first = int(ends[group]) - counts[group]
                for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[IMAGE], use_threads=False):
                    end = first + batch.num_rows
                    for row in rows[(rows >= first) & (rows < end)].tolist():
                        jpeg = batch.column(0)[row - first].as_py()
                        yield row, jpeg if isinstance(jpeg, bytes) else b""
                    first = end
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({_reason(error)})") from error


def _integers(table: pa.Table, name: str, file: Path) -> Indices:
    """A column of integers, (N,); raises UserError for another type or a missing value."""
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: the column '{name}' is {column.type}, expected integers")
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise UserError(f"{file}, row {row}: {name} is missing")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _matrices(column: pa.ChunkedArray, file: Path) -> Array:
    """Pose matrices (N, 4, 4); a UserError for an invalid pose names its row (from 0)."""
    found = np.empty((len(column), 4, 4))
    for row, cell in enumerate(column.to_pylist()):
        try:
            found[row] = np.array(cell, dtype=np.float64).reshape(4, 4)
        except (TypeError, ValueError) as error:
            size = len(cell) if isinstance(cell, list) else "no"
            raise UserError(f"{file}, row {row}: the pose has {size} numbers, expected 16") from error
    finite = np.asarray(np.isfinite(found.reshape(len(found), 16)).all(axis=1))
    rotations = np.where(finite[:, None, None], found[:, :3, :3], 0.0)
    off = np.abs(np.einsum("nij,nkj->nik", rotations, rotations) - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero(~finite | (off > 0.02) | (np.linalg.det(rotations) < 0.0))
    if len(bad):
        problem = "contains a number that is not finite" if not finite[bad[0]] else "is not a rotation and translation"
        raise UserError(f"{file}, row {bad[0]}: the pose {problem}")
    return found


def _check_unique(times: Indices, rows: Indices, file: Path) -> None:
    duplicates = np.flatnonzero(np.diff(times) == 0)
    if len(duplicates):
        k = int(duplicates[0])
        raise UserError(f"{file}, row {rows[k + 1]}: the frame {times[k]} is already in row {rows[k]}")


def _seconds(micros: Indices) -> Array:
    return np.asarray((micros - micros[0]) / 1e6)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().split("\n")[0].rstrip(".")[:160]
