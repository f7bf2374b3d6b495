"""Recordings of Udacity's self-driving-car simulator.

    <root>/driving_log.csv   center, left, right image, steering, throttle, brake, speed; with or without a header
    <root>/IMG/center_YYYY_MM_DD_HH_MM_SS_mmm.jpg

The log may also be in IMG/ or in a folder beside it, and the root may contain several recordings. The log contains
image paths of the recording machine, of which only the file name is used; it contains the time of the row. The
simulator reverses while the brake is held at a standstill, and does not log the gear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import GAP, Option, Options, action
from daydrive.data.sources.files import entries, find_folders, subfolders
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.image_folder import ImageFolder
from daydrive.data.sources.timestamps import RECORDED_HZ
from daydrive.data.sources.udacity.log import CAMERAS, Log, first_images, read_log
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

LOG, IMAGES = "driving_log.csv", "IMG"
DEPTH = 3
"""Levels of folders below the root that are searched."""

ALL_CAMERAS = "all"
CORRECTION_SIGN = {"center": 0.0, "left": 1.0, "right": -1.0}
"""A car at the position of the left camera would have to steer to the right to come back to the center."""

ROWS_TO_PLACE = 50
"""Number of rows whose images decide which folder belongs to a log."""


@dataclass(frozen=True)
class _Recording:
    log: Path
    images: ImageFolder


@dataclass(frozen=True)
class _Frames:
    """The frames of the chosen rows of a recording."""

    folder: Path
    log: Path
    names: list[str]
    rows: list[int]
    actions: npt.NDArray[np.float32]
    speed: npt.NDArray[np.float64]
    period: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.names):
            row = self.rows[k]
            image = read_image(self.folder / name, f"{self.log}, row {row}", self.image_size, shrink=True)
            yield Frame(image, self.actions[k], k * self.period, {"speed": float(self.speed[k]), "row": float(row)})


class UdacitySource:
    name = "udacity"
    needs_root = True
    split: Literal["drive", "time"] = "time"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the recording's native rate", minimum=0.1),
        Option("camera", str, None, "center, left, right, or all: each camera as drives of its own; default: center"),
        Option(
            "steering_correction",
            float,
            None,
            "added to the steering of left, subtracted from that of right; default: 0",
        ),
        GAP,
        RECORDED_HZ,
    )

    def describe(self, options: Options) -> dict[str, Any]:
        held = "mean over the interval between two frames; a row's reading holds until the next row"
        pedal = f"{held}; backwards (gear -1) throttle and brake are exchanged"
        correction = float(options["steering_correction"] or 0.0)
        corrected = f"{held}; left + {correction:g}, right - {correction:g}, clipped" if correction else held
        share = "share of the largest angle (25 degrees)"
        gear = "-1 where speed grows from a standstill under the brake alone, until the car stands again; else 1"
        return {
            "actions": {
                "steering": action(share, "positive to the right", "[-1, 1]", corrected),
                "throttle": action("share of full throttle", "positive speeds up", "[0, 1]", pedal),
                "brake": action("share of full brake", "positive slows down", "[0, 1]", pedal),
                "gear": action("not recorded", "1 forwards, -1 backwards", "{-1, 1}", gear),
            },
            "values": {"speed": "mph", "row": "line of driving_log.csv with the image, from 1"},
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        cameras, gap = _cameras(options["camera"]), options["gap"]
        stated = options["recorded_hz"]
        counts, taken = FrameCounts(), set[str]()
        read = []
        for recording in _recordings(root):
            log = read_log(recording.log, recording.images, cameras, taken, counts, stated)
            if log is not None:
                read.append((recording, log))
        rates = clock.shared_hz([(recording.log, log.times) for recording, log in read], options["hz"], stated)
        drives: dict[str, Drive] = {}
        for (recording, log), hz in zip(read, rates, strict=True):
            runs = clock.resample(log.times, hz, gap)
            for _, chosen in counts.usable(runs, len(log.times), hz, gap, "a larger --set gap=SECONDS keeps more"):
                start = log.start + timedelta(seconds=float(log.times[chosen[0]]))
                name = start.strftime("%Y-%m-%d_%H-%M-%S")
                name = name if not {name, f"{name}/{cameras[0]}"} & drives.keys() else f"{name}.{len(drives)}"
                labels = [name] if len(cameras) == 1 else [f"{name}/{camera}" for camera in cameras]
                for camera, label in zip(cameras, labels, strict=True):
                    correction = CORRECTION_SIGN[camera] * float(options["steering_correction"] or 0.0)
                    frames = _frames(recording, log, camera, correction, chosen, hz, image_size)
                    beside = None if label == labels[0] else labels[0]
                    group = None if len(cameras) == 1 else name
                    made_from = {"images": camera} if options["camera"] else {}
                    drives[label] = Drive(label, hz, frames, None, len(chosen), group, made_from, beside)
        counts.multiply(len(cameras))
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of rows without a gap{counts.why_none()}")
        return CountedDrives(drives.values(), counts)


def _frames(
    recording: _Recording,
    log: Log,
    camera: str,
    correction: float,
    chosen: npt.NDArray[np.int64],
    hz: float,
    image_size: tuple[int, int],
) -> _Frames:
    held = clock.held_mean(log.readings[:, :3], log.times, chosen)
    held[:, 0] = np.clip(held[:, 0] + correction, -1.0, 1.0)
    return _Frames(
        recording.images.folder,
        recording.log,
        [log.images[camera][k] for k in chosen.tolist()],
        [log.rows[k] for k in chosen.tolist()],
        np.column_stack([held, log.gear[chosen]]).astype(np.float32),
        log.readings[chosen, 3],
        1.0 / hz,
        image_size,
    )


def _cameras(given: str | None) -> tuple[str, ...]:
    if given == ALL_CAMERAS:
        return CAMERAS
    if given is not None and given not in CAMERAS:
        raise UserError(f"--camera {given}: there is no such camera{did_you_mean(given, (*CAMERAS, ALL_CAMERAS))}")
    return (given or CAMERAS[0],)


def _recordings(root: Path) -> list[_Recording]:
    """The logs below `root`, each with the folder that contains most of its first images."""
    found = []
    for log in (log for folder in find_folders(root, _has_log, DEPTH, nested=True) for log in _logs(folder)):
        beside = [log.parent] if log.parent == root else [log.parent, log.parent.parent]
        folders = [ImageFolder(path, root) for folder in beside for path in (*_image_folders(folder), folder)]
        present = [sum(name in folder for name in first_images(log, ROWS_TO_PLACE)) for folder in folders]
        if any(present) or any(_image_folders(folder) for folder in beside):
            found.append(_Recording(log, folders[present.index(max(present))]))
    if not found:
        hint = f"; {IMAGES} is in its parent folder, use that as --data-root" if _image_folders(root.parent) else ""
        raise UserError(
            f"{root} is not a recording of the Udacity simulator: it needs {LOG} and a folder {IMAGES}{hint}"
        )
    return found


def _has_log(folder: Path) -> bool:
    return bool(_logs(folder))


def _logs(folder: Path) -> list[Path]:
    return [path for path in entries(folder, "[dD]*.[cC][sS][vV]") if path.name.lower() == LOG]


def _image_folders(folder: Path) -> list[Path]:
    return [path for path in subfolders(folder) if path.name.upper() == IMAGES]
