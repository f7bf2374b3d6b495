"""The source of openpilot's routes: a drive for each segment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import LARGEST_ACCELERATION, LARGEST_BRAKING, WINDOW, Array, pedals
from daydrive.data.kinematics.signals import covered, means_between, smooth
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.derived import describe_pedals
from daydrive.data.sources.files import entries, inside, subfolders
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.openpilot.logs import ENCODE_INDICES, LOGS, Log, read_log
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

LARGEST_ANGLE = 90.0
"""Degrees at the steering wheel at steering 1, as for comma2k19."""

MESSAGE_TOLERANCE = 0.15
"""Maximum distance of a frame to the nearest state of the car, s."""

DEPTH = 4
"""Levels of folders below the root that are searched."""

CAMERAS = {name.split(".")[0]: name for name in ENCODE_INDICES}
FORWARD = ("fcamera.hevc", "qcamera.ts")
"""Cameras that are used by default, in order of preference."""

VALUES = {
    "speed": "m/s, never negative, mean up to the next frame",
    "steering_angle": "degrees at the steering wheel, positive to the left, mean up to the next frame",
    "acceleration": "m/s², slope of the speed",
    "cruise": "1 where cruise control or openpilot drives, mean up to the next frame",
    "latitude": "degrees (WGS 84)",
    "longitude": "degrees (WGS 84)",
    "video_frame": "number of the frame in the camera's file, from 0",
}


@dataclass(frozen=True)
class _Segment:
    """A segment. log, camera: names of its files, after `prefix`, which is empty where it has a folder of its own."""

    root: Path
    folder: Path
    prefix: str
    log: str
    camera: str
    schema: str | None

    @property
    def name(self) -> str:
        folder = self.folder.resolve().relative_to(self.root.resolve()).as_posix()
        return (f"{folder}/" if folder != "." else "") + self.prefix.removesuffix("--") if self.prefix else folder

    @property
    def route(self) -> str:
        """The folder of the route, or the name of the segment without its number."""
        folder = self.folder.resolve()
        if not self.prefix and folder.name.isdecimal():
            return folder.parent.name
        return re.sub(r"--\d+$", "", self.prefix.removesuffix("--") or folder.name)

    def file(self, name: str) -> Path:
        return self.folder / f"{self.prefix}{name}"

    def read(self) -> tuple[Log, npt.NDArray[np.int64], Array]:
        """The log, and the numbers and times (N,) s of the frames of the log that the camera's file has."""
        log = read_log(self.file(self.log), self.root, self.camera, self.schema)
        numbers, times = log.frames
        there = numbers < len(video.frame_times(inside(self.file(self.camera), self.root)).seconds)
        return log, numbers[there], times[there]

    def known(self, log: Log, times: Array) -> npt.NDArray[np.int64]:
        """Indices of the frames with a state of the car."""
        return np.flatnonzero(covered(log.times, times, MESSAGE_TOLERANCE))

    def runs(self, log: Log, times: Array, hz: float) -> list[npt.NDArray[np.int64]]:
        """Indices of the frames of each run with a state of the car."""
        known = self.known(log, times)
        return [known[run] for run in clock.resample(times[known], hz)] if len(known) else []


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a segment, resampled to `hz`."""

    segment: _Segment
    hz: float
    run: int

    def __call__(self) -> Iterator[Frame]:
        log, numbers, times = self.segment.read()
        chosen = self.segment.runs(log, times, self.hz)[self.run]
        actions, values = _sample(log, times[chosen])
        file = inside(self.segment.file(self.segment.camera), self.segment.root)
        rows = len(video.frame_times(file).seconds)
        images = video.frames(file, numbers[chosen].tolist(), rows, self.segment.file(self.segment.log))
        for k, (number, image) in enumerate(images):
            more = dict(zip(VALUES, [*values[k].tolist(), float(number)], strict=True))
            yield Frame(image, actions[k].astype(np.float32), k / self.hz, more)


class OpenpilotSource:
    name = "openpilot"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the camera's rate, 20", 0.1),
        Option("camera", str, None, f"{', '.join(CAMERAS)}; default: fcamera, or qcamera where that is missing"),
        Option("seed", int, 0, "seed of the split by route", minimum=0),
        Option("schema", str, None, "cereal/log.capnp of openpilot; default: that of the package openpilot-logging"),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        made = f"slope of the car's speed, smoothed over {WINDOW:g} s"
        return {
            "actions": {
                "steering": action(
                    f"share of {LARGEST_ANGLE:g} degrees at the steering wheel",
                    "positive to the right; the recorded angle is positive to the left",
                    "[-1, 1]",
                    f"-angle / {LARGEST_ANGLE:g} degrees, clipped; mean up to the next frame",
                ),
                **describe_pedals(LARGEST_ACCELERATION, LARGEST_BRAKING, made),
                "gear": action("lever", "1 forwards, -1 backwards, 0 park or neutral", "{-1, 0, 1}", "the last one"),
            },
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        segments = find_segments(root, options["schema"])
        camera = _camera(segments, options["camera"])
        segments = [replace(segment, camera=camera) for segment in segments]
        read = [segment.read() for segment in segments]
        for segment, (_, _, times) in zip(segments, read, strict=True):
            if len(times) < 2:
                raise UserError(f"{segment.file(camera)} has {len(times)} frames that are in {segment.log}")
        rates = clock.shared_hz([(s.folder, t) for s, (_, _, t) in zip(segments, read, strict=True)], options["hz"])
        drives, counts = [], FrameCounts()
        for segment, (log, _, times), hz in zip(segments, read, rates, strict=True):
            if not log.complete:
                print(f"{segment.name}: {segment.log} is cut off; the drive ends there.")
            runs, known, logged = segment.runs(log, times, hz), len(segment.known(log, times)), len(log.frames[0])
            counts.recorded += logged
            counts.leave_out(logged - len(times), f"of the log that {camera} does not have")
            counts.leave_out(len(times) - known, "without a state of the car around them")
            for run, frames in counts.usable(runs, known, hz):
                label = segment.name if len(runs) == 1 else f"{segment.name}.{run}"
                made_from = {"images": camera, "steering": f"carState of {segment.log}"}
                drives.append(Drive(label, hz, _Frames(segment, hz, run), None, len(frames), segment.route, made_from))
        if not drives:
            raise UserError(
                f"{root} has no {clock.MIN_RUN_SECONDS:g} s of frames with the state of the car without a gap"
                f"{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def find_segments(root: Path, schema: str | None) -> list[_Segment]:
    """The segments below a folder, without a camera. Raises UserError if there are none."""
    found = list(_find(root, root, schema, DEPTH))
    if not found:
        raise UserError(f"{root} has no segments of openpilot; a segment is rlog or qlog with the file of a camera")
    return found


def _find(folder: Path, root: Path, schema: str | None, depth: int) -> Iterator[_Segment]:
    logs: dict[str, list[str]] = {}
    for file in entries(folder):
        prefix, name = re.sub(r"[^-]*$", "", file.name), re.sub(r"^.*-", "", file.name)
        if name in LOGS:
            logs.setdefault(prefix, []).append(name)
    for prefix, names in logs.items():
        yield _Segment(root, folder, prefix, min(names, key=LOGS.index), "", schema)
    for subfolder in subfolders(folder) if depth else ():
        yield from _find(inside(subfolder, root), root, schema, depth - 1)


def _camera(segments: Sequence[_Segment], given: str | None) -> str:
    """The file name of the camera, which all segments have."""
    if given is not None and given.split(".")[0] not in CAMERAS:
        raise UserError(f"--camera {given}: there is no such camera{did_you_mean(given, CAMERAS)}")
    candidates = FORWARD if given is None else (CAMERAS[given.split(".")[0]],)
    missing = [next((s for s in segments if not s.file(name).is_file()), None) for name in candidates]
    for name, segment in zip(candidates, missing, strict=True):
        if segment is None:
            return name
    first = next(segment for segment in missing if segment is not None)
    raise UserError(
        f"{first.folder} has no {' or '.join(candidates)} for {first.prefix}{first.log}; all segments need the "
        "video of one camera"
    )


def _sample(log: Log, moments: Array) -> tuple[Array, Array]:
    """Actions (K, 4) and the columns of `VALUES` but for the last (K, 6) from each of K frames to the next."""
    edges = np.append(moments, moments[-1] + (moments[-1] - moments[0]) / (len(moments) - 1))
    speed, angle, _, cruise = (means_between(log.times, column, edges) for column in log.states.T)
    acceleration = smooth(log.times, log.states[:, :1], (edges[:-1] + edges[1:]) / 2.0, WINDOW).slope[:, 0]
    last = np.clip(np.searchsorted(log.times, edges[1:], side="left") - 1, 0, len(log.times) - 1)
    actions = np.column_stack([np.clip(-angle / LARGEST_ANGLE, -1.0, 1.0), *pedals(acceleration), log.states[last, 2]])
    where = np.full((len(moments), 2), np.nan)
    if len(log.positions):
        where = np.column_stack([np.interp(moments, log.position_times, column) for column in log.positions.T])
    return actions, np.column_stack([speed, angle, acceleration, cruise, where])
