"""Waymo Open Dataset, perception, v2 (Sun et al. 2020, arXiv:1912.04838): segments of 20 s, five cameras at 10 Hz.

    <root>/{training,validation,testing,testing_location}/camera_image/<segment>.parquet
                                                          vehicle_pose/<segment>.parquet
    or <root>/camera_image/ and vehicle_pose/ alone

A row of camera_image is a JPEG of one camera at one frame, a row of vehicle_pose the 4x4 matrix from the car's axes
(forward, left, up; from the middle of the rear axle) to the world's. Other components are not read. The commands of
the driver are not published: actions are made from the poses.
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
from daydrive.data.sources.files import inside
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

IMAGES, POSES = "camera_image", "vehicle_pose"
SEGMENT, TIME, CAMERA = "key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name"
IMAGE, POSE = "[CameraImageComponent].image", "[VehiclePoseComponent].world_from_vehicle.transform"

CAMERAS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")
"""their numbers are 1 to 5"""

OFFICIAL = {"training": "train", "validation": "val", "testing": "test", "testing_location": "test"}
VAL_SHARE = 0.1
"""of the training segments, where validation has to be the test"""

BICYCLE = Bicycle(wheelbase=2.99, largest_angle=0.5)
"""a Jaguar I-Pace; the data set doesn't say which car drove"""

FORWARD_RIGHT_DOWN = np.array([1.0, -1.0, -1.0])

BATCH = 8
"""pictures that are in memory at a time"""
HELD = 32
"""pictures of one pass over a file whose rows are in another order than time"""
VALUES = {**derived.VALUES, "timestamp": "µs, of the frame", "x": "m in the world", "y": "m in the world"}

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Segment:
    """One camera of a segment below the folder of its split."""

    root: Path
    folder: Path
    name: str
    camera: int

    @property
    def images(self) -> Path:
        return self.folder / IMAGES / f"{self.name}.parquet"

    @property
    def poses(self) -> Path:
        return self.folder / POSES / f"{self.name}.parquet"

    def frames(self) -> tuple[Indices, Indices]:
        """Time in µs (N,), increasing, and row in `images` (N,) of the camera's pictures."""
        table = _columns(self.images, self.root, [SEGMENT, TIME, CAMERA], [IMAGE])
        self._check_segment(self.images, table)
        rows = np.flatnonzero(_whole(table, CAMERA, self.images) == self.camera)
        if len(rows) < 2:
            raise UserError(f"{self.images} has {len(rows)} pictures of {CAMERAS[self.camera - 1]}")
        micros = _whole(table, TIME, self.images)[rows]
        order = np.argsort(micros, kind="stable")
        _refuse_repeated(micros[order], rows[order], self.images)
        return micros[order], rows[order]

    def motion(self, micros: Indices) -> tuple[Array, Array]:
        """positions (N, 3) m and rotations (N, 3, 3) from (forward, right, down) at these times."""
        table = _columns(self.poses, self.root, [SEGMENT, TIME, POSE])
        self._check_segment(self.poses, table)
        matrices = _matrices(table.column(POSE), self.poses)
        times = _whole(table, TIME, self.poses)
        order = np.argsort(times, kind="stable")
        _refuse_repeated(times[order], order, self.poses)
        found = np.searchsorted(times[order], micros)
        there = np.append(times[order], -1)[found] == micros
        if not there.all():
            raise UserError(f"{self.poses} has no pose of the frame {micros[~there][0]} that {self.images} has")
        chosen = matrices[order[found]]
        return chosen[:, :3, 3], chosen[:, :3, :3] * FORWARD_RIGHT_DOWN

    def pixels(self, rows: Indices) -> Iterator[bytes]:
        """The JPEGs of these rows, a few in memory at a time, whatever order the file has."""
        passes = [rows] if (np.diff(rows) >= 0).all() else [rows[k : k + HELD] for k in range(0, len(rows), HELD)]
        for wanted in passes:
            ascending = np.unique(wanted)
            read = _rows(inside(self.images, self.root), ascending)
            if len(passes) == 1:
                yield from (jpeg for row, jpeg in read for _ in range(int((wanted == row).sum())))
            else:
                held = dict(read)
                yield from (held[row] for row in wanted.tolist())

    def _check_segment(self, file: Path, table: pa.Table) -> None:
        names = set(table.column(SEGMENT).unique().to_pylist())
        if names != {self.name}:
            other = next((str(name) for name in names if name != self.name), "no segment")
            raise UserError(f"{file} has rows of {other[:80]} where its name says {self.name}")


@dataclass(frozen=True)
class _Frames:
    """Run number `run` of a segment on a clock of `hz`."""

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
        done = derived.driven(rates_from_poses(times, positions, rotations), times, chosen, BICYCLE)
        own = np.column_stack([done.values, micros[chosen], positions[chosen, :2]])
        for k, jpeg in enumerate(segment.pixels(rows[chosen])):
            where = f"{segment.images}, row {rows[chosen[k]]}"
            image = image_in(jpeg, f"of the frame {micros[chosen[k]]}", where, self.image_size, shrink=True)
            values = dict(zip(VALUES, own[k].tolist(), strict=True))
            yield Frame(image, done.actions[k].astype(np.float32), k / self.hz, values)


class WaymoSource:
    name = "waymo"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, "FRONT", f"{', '.join(CAMERAS)}, or its number from 1"),
        Option("hz", float, None, "frames a second; default: the camera's own, 10", 0.1),
        Option("split", str, None, "official or by-drive; default: official where training and another one are there"),
        Option("seed", int, 0, "of what is drawn for val, and of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        return {**derived.describe(BICYCLE, "poses"), "values": VALUES, "camera": CAMERAS[_camera(options) - 1]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        camera = _camera(options)
        found = _segments(root, camera)
        splits = _splits(root, [part for part, _ in found], options)
        segments = [segment for _, segment in found]
        times = [_seconds(segment.frames()[0]) for segment in segments]
        for segment in segments:
            _columns(segment.poses, root, [], [SEGMENT, TIME, POSE])
        hz = _rate(segments, times, options["hz"])
        drives = []
        for segment, moments, split in zip(segments, times, splits, strict=True):
            runs = clock.resample(moments, hz)
            kept = [(run, len(frames)) for run, frames in enumerate(runs) if clock.long_enough(frames, hz)]
            for run, length in kept:
                label = segment.name if len(runs) == 1 else f"{segment.name}.{run}"
                drives.append(Drive(label, hz, _Frames(segment, hz, run, image_size), split, length, segment.name))
        if not drives:
            raise UserError(f"{root} has no segment with {clock.SHORTEST_RUN:g} s of pictures without a gap")
        return drives


def _camera(options: Options) -> int:
    given = str(options["camera"]).upper()
    if given.isdecimal() and 1 <= int(given) <= len(CAMERAS):
        return int(given)
    if given not in CAMERAS:
        raise UserError(f"--camera {options['camera']}: there is no such camera{did_you_mean(given, CAMERAS)}")
    return CAMERAS.index(given) + 1


def _segments(root: Path, camera: int) -> list[tuple[str | None, _Segment]]:
    """Part of the data set, None where the root doesn't say, and segment, in a fixed order."""
    parts: list[tuple[str | None, Path]] = [(name, root / name) for name in OFFICIAL if (root / name).is_dir()]
    if (root / IMAGES).is_dir():
        if parts:
            raise UserError(f"{root} has both {IMAGES}/ and {parts[0][0]}/; give one of them")
        parts = [(root.resolve().name if root.resolve().name in OFFICIAL else None, root)]
    found: list[tuple[str | None, _Segment]] = []
    at: dict[str, Path] = {}
    for part, folder in parts:
        images = inside(folder / IMAGES, root)
        if not images.is_dir():
            raise UserError(f"{folder} has no {IMAGES}/, the component with the pictures")
        for file in sorted(images.glob("*.parquet")):
            segment = _Segment(root, folder, file.stem, camera)
            if not segment.poses.exists():
                raise UserError(f"{segment.poses} is not there; {file} needs it: actions are made from poses")
            if segment.name in at:
                raise UserError(f"{file} and {at[segment.name]} are the same segment; remove one of them")
            at[segment.name] = file
            found.append((part, segment))
    if not found:
        if any(root.rglob("*.tfrecord")):
            raise UserError(f"{root} has .tfrecord files, which are v1; get the parquet files of v2 (Perception)")
        raise UserError(f"{root} has no segments of Waymo's v2, training/{IMAGES}/*.parquet and {POSES}/ beside it")
    return found


def _splits(root: Path, parts: Sequence[str | None], options: Options) -> list[str] | list[None]:
    """The official split of each segment, or None where preparation decides.

    Where the testing parts are not there the official validation is for test, and at least `VAL_SHARE` of training,
    drawn by the seed, for val.
    """
    if options["split"] not in (None, "official", "by-drive"):
        raise UserError(f"--split {options['split']}: it is either official or by-drive")
    there = {OFFICIAL[part] for part in parts if part is not None}
    whole = None not in parts and "train" in there and len(there) > 1
    if options["split"] == "official" and not whole:
        said = ", ".join(sorted({part for part in parts if part})) or "none of them"
        raise UserError(f"--split official: {root} needs training/ and validation/ or testing/, and has {said}")
    if options["split"] == "by-drive" or not whole:
        return [None] * len(parts)
    splits = [OFFICIAL[part or ""] for part in parts]
    if len(there) == 3:
        return splits
    splits = ["test" if split == "val" else split for split in splits]
    training = np.flatnonzero([split == "train" for split in splits])
    count = min(max(1, round(VAL_SHARE * len(training))), len(training) - 1)
    for k in np.random.default_rng([options["seed"], len(training)]).permutation(training)[:count].tolist():
        splits[k] = "val"
    return splits


def _rate(segments: Sequence[_Segment], times: Sequence[Array], given: float | None) -> float:
    """`given`, else the rate of the middle segment."""
    rates = [clock.native_hz(moments) for moments in times]
    for segment, rate in zip(segments, rates, strict=True):
        if given and given > rate * clock.SAME_RATE:
            raise UserError(f"{segment.images} has {rate:g} frames a second, too few for --hz {given:g}")
    return given or round(float(np.median(rates)), 1)


def _columns(file: Path, root: Path, names: Sequence[str], others: Sequence[str] = ()) -> pa.Table:
    """Columns of a parquet file; UserError where it has not these, or not the `others`."""
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


def _rows(path: Path, wanted: Indices) -> Iterator[tuple[int, bytes]]:
    """Row and JPEG of the `wanted` rows, ascending, without a row group in memory as a whole."""
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as parquet:
            counts = [parquet.metadata.row_group(k).num_rows for k in range(parquet.num_row_groups)]
            ends = np.cumsum(counts)
            groups = np.unique(np.searchsorted(ends, wanted, side="right"))
            for group in groups.tolist():
                first = int(ends[group]) - counts[group]
                for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=[IMAGE], use_threads=False):
                    last = first + batch.num_rows
                    for row in wanted[(wanted >= first) & (wanted < last)].tolist():
                        jpeg = batch.column(0)[row - first].as_py()
                        yield row, jpeg if isinstance(jpeg, bytes) else b""
                    first = last
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({_reason(error)})") from error


def _whole(table: pa.Table, name: str, file: Path) -> Indices:
    """A column of whole numbers without holes."""
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: the column '{name}' is {column.type} where whole numbers belong")
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise UserError(f"{file}, row {row}: {name} is missing")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _matrices(column: pa.ChunkedArray, file: Path) -> Array:
    """(N, 4, 4); UserError with the row (from 0) for what is no pose."""
    found = np.empty((len(column), 4, 4))
    for row, cell in enumerate(column.to_pylist()):
        try:
            found[row] = np.array(cell, dtype=np.float64).reshape(4, 4)
        except (TypeError, ValueError) as error:
            size = len(cell) if isinstance(cell, list) else "no"
            raise UserError(f"{file}, row {row}: the pose has {size} numbers where 16 belong") from error
    finite = np.asarray(np.isfinite(found.reshape(len(found), 16)).all(axis=1))
    rotations = np.where(finite[:, None, None], found[:, :3, :3], 0.0)
    off = np.abs(np.einsum("nij,nkj->nik", rotations, rotations) - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero(~finite | (off > 0.02) | (np.linalg.det(rotations) < 0.0))
    if len(bad):
        said = "holds a number that is not finite" if not finite[bad[0]] else "is no rotation and translation"
        raise UserError(f"{file}, row {bad[0]}: the pose {said}")
    return found


def _refuse_repeated(times: Indices, rows: Indices, file: Path) -> None:
    same = np.flatnonzero(np.diff(times) == 0)
    if len(same):
        k = int(same[0])
        raise UserError(f"{file}, row {rows[k + 1]}: the frame {times[k]} is in row {rows[k]} already")


def _seconds(micros: Indices) -> Array:
    return np.asarray((micros - micros[0]) / 1e6)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().split("\n")[0].rstrip(".")[:160]
