"""The ROS source: one camera of each bag, with the commands of one topic or of named fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import Bicycle
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.mapping import VALUES, describe_mapping, mapping_options
from daydrive.data.sources.rosbag.bags import find_bags, opened
from daydrive.data.sources.rosbag.cameras import Camera, FrameTimes, cameras, choose_camera, frame_times, read_images
from daydrive.data.sources.rosbag.commands import COLUMNS, Commands, read_commands
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES, Drive, Frame

SAME_CLOCK = 1.0
"""Seconds between the stamps of images and the clock of the bag up to which messages without a stamp are taken to be on
the clock of the stamps."""


@dataclass(frozen=True)
class _Recording:
    """A bag with its camera's frames and its commands. known: (K,), the indices of the frames that have a command."""

    path: Path
    camera: Camera
    frames: FrameTimes
    commands: Commands
    known: npt.NDArray[np.int64]

    def runs(self, hz: float) -> list[npt.NDArray[np.int64]]:
        """Indices of the frames of each run without a gap."""
        runs = clock.resample(self.frames.times[self.known], hz) if len(self.known) else []
        return [self.known[run] for run in runs]


@dataclass(frozen=True)
class _Frames:
    """A run of a recording. numbers: (K,) of the messages with its images. first: of the message at which decoding
    begins. times: (K,) s. actions: (K, 4). values: (K, 6), the columns of `COLUMNS`."""

    path: Path
    root: Path
    definitions: str | None
    camera: Camera
    numbers: tuple[int, ...]
    first: int
    times: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    values: npt.NDArray[np.float64]
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        with opened(self.path, self.root, self.definitions) as bag:
            images = read_images(bag, self.camera, self.numbers, self.first, self.image_size)
            for k, image in enumerate(images):
                values = {**dict(zip(COLUMNS, self.values[k].tolist(), strict=True)), "stamp": float(self.times[k])}
                yield Frame(image, self.actions[k], k / self.hz, values)


class RosbagSource:
    name = "rosbag"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the camera's rate", 0.1),
        Option("camera", str, None, "topic with images; default: the first one called front, or the first"),
        Option("seed", int, 0, "seed of the split by folder", minimum=0),
        Option("commands", str, None, "topic with commands; default: the only one of a known type"),
        Option("wheelbase", float, 2.7, "of the car, m, for steering from yaw rates", minimum=0.01),
        Option("largest_angle", float, 0.5, "of the front wheels at steering 1, rad", minimum=0.01),
        Option("definitions", str, None, "folder of .msg files for types that the bags do not define"),
        *mapping_options("topic and field, such as /joy.axes.0,"),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        bicycle = _bicycle(options)
        described = derived.describe(
            bicycle, "speed and yaw rate, or the angle of the front wheels where it is commanded"
        )
        values = {
            **VALUES,
            "speed": "m/s, negative backwards, mean up to the next frame",
            "yaw_rate": "rad/s, positive to the right, mean up to the next frame",
        }
        if _named(options):
            described = {"actions": describe_mapping(options, "mean up to the next frame, the last gear")}
            values["speed"] = VALUES["speed"]
        return {**described, "values": {**values, "stamp": "s, time of the image"}}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        paths = find_bags(root)
        if not paths:
            raise UserError(f"{root} has no bags (.bag, .mcap, .db3, or a folder with metadata.yaml)")
        recordings = [_read(path, root, options) for path in paths]
        rates = clock.shared_hz([(recording.path, recording.frames.times) for recording in recordings], options["hz"])
        drives, counts = [], FrameCounts()
        for recording, hz, name in zip(recordings, rates, _names(paths, root), strict=True):
            runs = recording.runs(hz)
            images, known, skipped = len(recording.frames.times), len(recording.known), recording.frames.skipped
            counts.recorded += images + skipped
            counts.leave_out(skipped, "not later than the one before, or video before its first key frame")
            counts.leave_out(images - known, f"without a command in the {recording.commands.hold:g} s before")
            folder = recording.path.parent
            group = folder.relative_to(root).as_posix() if folder not in (root, root.parent) else None
            made_from = {**recording.commands.made_from, "images": recording.camera.topic}
            for run, chosen in counts.usable(runs, known, hz):
                label = name if len(runs) == 1 else f"{name}.{run}"
                frames = _frames(recording, root, options, chosen, hz, image_size)
                drives.append(Drive(label, hz, frames, None, len(chosen), group or name, made_from))
        if not drives:
            raise UserError(
                f"{root} has no {clock.MIN_RUN_SECONDS:g} s of images with commands and without a gap"
                f"{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def _read(path: Path, root: Path, options: Options) -> _Recording:
    with opened(path, root, options["definitions"]) as bag:
        camera = choose_camera(bag, options["camera"])
        if options["camera"] is None and len(cameras(bag)) > 1:
            topics = ", ".join(found.topic for found in cameras(bag))
            print(f"{path.name}: using the camera {camera.topic}; available for --camera: {topics}.")
        frames = frame_times(bag, camera)
        if len(frames.times) < 2:
            raise UserError(f"{path} has {len(frames.times)} images on {camera.topic}; a drive needs at least 2")
        delay = frames.delay if abs(frames.delay) > SAME_CLOCK else 0.0
        commands = read_commands(bag, options, _bicycle(options), delay)
    known = commands.known(frames.times)
    if not len(known):
        raise UserError(
            f"{path}: the commands are from {commands.times[0]:.3f} to {commands.times[-1]:.3f} s, the images on "
            f"{camera.topic} from {frames.times[0]:.3f} to {frames.times[-1]:.3f} s; no image has a command"
        )
    return _Recording(path, camera, frames, commands, known)


def _frames(
    recording: _Recording, root: Path, options: Options, chosen: npt.NDArray[np.int64], hz: float,
    image_size: tuple[int, int],
) -> _Frames:  # fmt: skip
    frames = recording.frames
    actions, values = recording.commands.sample(frames.times[chosen])
    key = int(np.flatnonzero(frames.keys[: chosen[0] + 1])[-1])
    return _Frames(
        recording.path, root, options["definitions"], recording.camera, tuple(frames.numbers[chosen].tolist()),
        int(frames.numbers[key]), frames.times[chosen], actions, values, hz, image_size,
    )  # fmt: skip


def _bicycle(options: Options) -> Bicycle:
    return Bicycle(float(options["wheelbase"]), float(options["largest_angle"]))


def _named(options: Options) -> bool:
    return any(options[name] is not None for name in ACTION_NAMES)


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    """Paths relative to the root, without the suffix if they are unique without it."""
    short = [
        path.relative_to(root).with_suffix("").as_posix() if path != root else root.resolve().name for path in paths
    ]
    return [name if short.count(name) == 1 else path.relative_to(root).as_posix()
            for name, path in zip(short, paths, strict=True)]  # fmt: skip
