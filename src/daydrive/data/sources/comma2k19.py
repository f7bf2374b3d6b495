"""comma2k19: commutes on California's highway 280, with CAN and poses (Schafer et al. 2018, arXiv:1812.05752).

    <root>/Chunk_N/<dongle|time>/<segment>/     the data root may also be any folder down to a segment
        video.hevc                              1164x874, 20 Hz, one minute
        global_pose/frame_times                 (N,) s of each frame, on the same clock as all times below
        global_pose/frame_positions             (N, 3) m, ECEF
        global_pose/frame_orientations          (N, 4) Hamilton quaternions, real first: (forward, right, down) → ECEF
        processed_log/CAN/speed/{t,value}               s, m/s
        processed_log/CAN/steering_angle/{t,value}      s, degrees at the steering wheel, positive to the left

All files except the video are NumPy files without an extension. The processed log has no pedals; they are derived from
the speed. Each segment is a drive; the segments of a route stay in one split.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import (
    LARGEST_ACCELERATION,
    LARGEST_BRAKING,
    WINDOW,
    Array,
    motion,
    pedals,
    rates_from_poses,
    rotations_from_quaternions,
)
from daydrive.data.kinematics.signals import covered, means_between, smooth
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.derived import describe_pedals
from daydrive.data.sources.files import find_folders, inside
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

VIDEO, POSES, LOG = "video.hevc", "global_pose", "processed_log"
FRAME_TIMES = f"{POSES}/frame_times"
SPEED, STEERING = f"{LOG}/CAN/speed", f"{LOG}/CAN/steering_angle"

LARGEST_ANGLE = 90.0
"""Degrees at the steering wheel at steering 1; full lock is about 500, highway driving uses about 5."""

MESSAGE_TOLERANCE = 0.1
"""Maximum distance of a frame to the nearest CAN message, s."""

VALUES = {
    "speed": "m/s of the CAN, mean up to the next frame",
    "steering_angle": "degrees at the steering wheel, positive to the left, mean up to the next frame",
    "acceleration": "m/s², slope of the CAN's speed",
    "yaw_rate": "rad/s about the vertical, positive to the right, from the poses, mean up to the next frame",
    "latitude": "degrees (WGS 84)",
    "longitude": "degrees (WGS 84)",
    "video_frame": f"number of the frame in {VIDEO}, from 0",
}

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Readers of the NumPy file header, by version."""


@dataclass(frozen=True)
class _Segment:
    root: Path
    folder: Path

    def times(self) -> Array:
        """Times of the video's frames, (N,) s, strictly increasing."""
        file = self.folder / FRAME_TIMES
        times = read_times(file, self.root)
        same = np.flatnonzero(np.diff(times) == 0.0)
        if len(same):
            raise UserError(f"{file}, row {same[0] + 1}: two frames have the time {times[same[0]]:.6f}")
        if len(times) < 2:
            raise UserError(f"{file} has {len(times)} frames; a drive needs at least 2")
        return times

    def known(self, times: Array) -> npt.NDArray[np.int64]:
        """Indices of the frames for which both CAN signals are available."""
        return np.flatnonzero(
            covered(self._signal_times(SPEED), times, MESSAGE_TOLERANCE)
            & covered(self._signal_times(STEERING), times, MESSAGE_TOLERANCE)
        )

    def chosen(self, times: Array, hz: float) -> list[npt.NDArray[np.int64]]:
        """Indices of the known frames of each run at `hz`."""
        known = self.known(times)
        return [known[run] for run in clock.resample(times[known], hz)] if len(known) else []

    def read(self, times: Array, chosen: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Actions (K, 4) in the ranges of `Frame.action` and the columns of `VALUES` (K, 7) at the chosen frames."""
        moments = times[chosen]
        edges = np.append(moments, moments[-1] + (moments[-1] - moments[0]) / (len(moments) - 1))
        can_times, can_speed = self._signal(SPEED)
        angle, speed = means_between(*self._signal(STEERING), edges), means_between(can_times, can_speed, edges)
        midpoints = (edges[:-1] + edges[1:]) / 2.0
        acceleration = smooth(can_times, can_speed[:, None], midpoints, WINDOW).slope[:, 0]
        positions, rotations = self._poses(len(times))
        up = positions.mean(axis=0) / np.linalg.norm(positions.mean(axis=0))
        moved = motion(rates_from_poses(times, positions, rotations, up), times)
        yaw_rate, gear = clock.held_mean(np.column_stack([moved.yaw_rate, moved.gear]), times, chosen).T
        steering = np.clip(-angle / LARGEST_ANGLE, -1.0, 1.0)
        actions = np.column_stack([steering, *pedals(acceleration), np.where(gear < 0.0, -1.0, 1.0)])
        return actions, np.column_stack([speed, angle, acceleration, yaw_rate, _geodetic(positions[chosen]), chosen])

    def _signal_times(self, name: str) -> Array:
        times = read_times(self.folder / name / "t", self.root)
        if len(times) < 2:
            raise UserError(f"{self.folder / name / 't'} has {len(times)} messages; at least 2 are required")
        return times

    def _signal(self, name: str) -> tuple[Array, Array]:
        times, values = self._signal_times(name), read_npy(self.folder / name / "value", self.root)
        if len(times) != len(values):
            raise UserError(f"{self.folder / name} has {len(times)} times, but {len(values)} values")
        return times, values

    def _poses(self, count: int) -> tuple[Array, Array]:
        """positions (N, 3) m; rotations (N, 3, 3) from (forward, right, down) to ECEF."""
        read = []
        for name, columns in (("frame_positions", 3), ("frame_orientations", 4)):
            file = self.folder / POSES / name
            values = read_npy(file, self.root, columns)
            if len(values) != count:
                raise UserError(f"{file} has {len(values)} rows, but {FRAME_TIMES} has {count}")
            zero = np.flatnonzero(np.linalg.norm(values, axis=1) < 0.5)
            if len(zero):
                raise UserError(f"{file}, row {zero[0]}: {values[zero[0]]} is not a valid {name[6:-1]}")
            read.append(values)
        return read[0], rotations_from_quaternions(read[1])


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a segment, resampled to `hz`."""

    segment: _Segment
    hz: float
    run: int

    def __call__(self) -> Iterator[Frame]:
        segment = self.segment
        times = segment.times()
        chosen = segment.chosen(times, self.hz)[self.run]
        actions, values = segment.read(times, chosen)
        file, table = segment.folder / VIDEO, segment.folder / FRAME_TIMES
        for k, (_, image) in enumerate(video.frames(file, chosen.tolist(), len(times), table)):
            frame_values = dict(zip(VALUES, values[k].tolist(), strict=True))
            yield Frame(image, actions[k].astype(np.float32), k / self.hz, frame_values)


class Comma2k19Source:
    name = "comma2k19"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the video's rate, 20", 0.1),
        Option("seed", int, 0, "seed of the split by route", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        made = f"slope of the CAN's speed, smoothed over {WINDOW:g} s"
        return {
            "actions": {
                "steering": action(
                    f"share of {LARGEST_ANGLE:g} degrees at the steering wheel",
                    "positive to the right; the CAN's angle is positive to the left",
                    "[-1, 1]",
                    f"-angle / {LARGEST_ANGLE:g} degrees, clipped; mean up to the next frame",
                ),
                **describe_pedals(LARGEST_ACCELERATION, LARGEST_BRAKING, made),
                "gear": action("direction", "1 forwards, -1 backwards", "{-1, 1}", "sign of the poses' speed"),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        segments = [_Segment(root, folder) for folder in find_folders(root, _is_segment, 3)]
        if not segments:
            raise UserError(
                f"{root} has no comma2k19 segments; a segment is a folder with {VIDEO}, {POSES}/ and {LOG}/"
            )
        for segment in segments:
            for part in (VIDEO, POSES, LOG):
                if not inside(segment.folder / part, root).exists():
                    raise UserError(f"{segment.folder} is an incomplete segment: it has no {part}")
        times = [segment.times() for segment in segments]
        rates = clock.shared_hz([(s.folder, t) for s, t in zip(segments, times, strict=True)], options["hz"])
        drives, counts = [], FrameCounts()
        seen: dict[str, Path] = {}
        for segment, moments, hz in zip(segments, times, rates, strict=True):
            route = segment.folder.resolve().parent.name
            name = f"{route}/{segment.folder.resolve().name}"
            if name in seen:
                raise UserError(
                    f"{segment.folder} and {seen[name]} are the same segment of the same route; remove one of them"
                )
            seen[name] = segment.folder
            counts.recorded += len(moments)
            known = len(segment.known(moments))
            counts.leave_out(len(moments) - known, "without CAN messages around them")
            runs = counts.usable(segment.chosen(moments, hz), known, hz)
            for number, (run, frames) in enumerate(runs):
                label = name if len(runs) == 1 else f"{name}.{number}"
                drives.append(Drive(label, hz, _Frames(segment, hz, run), None, len(frames), route))
        if not drives:
            raise UserError(
                f"{root} has no {clock.MIN_RUN_SECONDS:g} s of frames, speed and steering without a gap"
                f"{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def _is_segment(folder: Path) -> bool:
    return any((folder / part).exists() for part in (VIDEO, POSES, LOG))


def _geodetic(ecef: Array) -> Array:
    """Latitude and longitude (N, 2), degrees, of ECEF positions (N, 3) m (WGS 84; Bowring 1976)."""
    a, f = 6378137.0, 1 / 298.257223563
    b, e2 = a * (1 - f), f * (2 - f)
    x, y, z = ecef.T
    p = np.hypot(x, y)
    parametric = np.arctan2(z * a, p * b)
    latitude = np.arctan2(z + e2 / (1 - e2) * b * np.sin(parametric) ** 3, p - e2 * a * np.cos(parametric) ** 3)
    return np.degrees(np.column_stack([latitude, np.arctan2(y, x)]))


def read_npy(file: Path, root: Path, columns: int | None = None) -> npt.NDArray[np.float64]:
    """The numbers in a .npy file below `root`, (N, columns); without `columns`, (N,) or (N, 1) flattened.

    Raises UserError for pickled objects, a truncated file, another shape, and non-finite values (with their row, from
    0).
    """
    values = _read_array(inside(file, root))
    if columns is None and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    expected = "(N,)" if columns is None else f"(N, {columns})"
    if values.ndim != (1 if columns is None else 2) or (columns is not None and values.shape[1] != columns):
        raise UserError(f"{file} has the shape {values.shape}, expected {expected}")
    numbers = np.array(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), columns or 1).all(axis=1))
    if len(bad):
        raise UserError(f"{file}, row {bad[0]}: {numbers[bad[0]]} is not finite")
    return numbers


def read_times(file: Path, root: Path) -> npt.NDArray[np.float64]:
    """Non-decreasing times (N,) s; a UserError for a decreasing time names its row."""
    times = read_npy(file, root)
    back = np.flatnonzero(np.diff(times) < 0.0)
    if len(back):
        row = int(back[0]) + 1
        raise UserError(f"{file}, row {row}: time {times[row]:.6f} is before {times[row - 1]:.6f}")
    return times


def _read_array(file: Path) -> npt.NDArray[Any]:
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"its version is {version}")
            shape, fortran, dtype = _HEADERS[version](stream)
            if dtype.hasobject:
                raise UserError(f"{file} contains pickled Python objects, which are not supported; save plain numbers")
            if dtype.kind not in "fiu":
                raise UserError(f"{file} contains {dtype}, expected numbers")
            expected, actual = math.prod(shape) * dtype.itemsize, os.fstat(stream.fileno()).st_size - stream.tell()
            if actual < expected:
                raise UserError(f"{file} is truncated: {actual} bytes of data, but its header specifies {expected}")
            values = np.frombuffer(stream.read(expected), dtype=dtype)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except ValueError as error:
        reason = str(error).split("\n")[0].split(";")[0].strip().rstrip(".")
        raise UserError(f"{file} is not a NumPy file ({reason})") from error
    return values.reshape(shape, order="F" if fortran else "C")
