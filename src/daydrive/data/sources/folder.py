"""Recordings in daydrive's own folder layout.

    <root>/<split>/<drive>/   or   <root>/<drive>/ (split by drive)
        actions.csv           header steering,throttle,brake,gear and optionally time, speed; one row per frame
        images/*.jpg|png      in natural order of their names; or one video (mp4, mkv, avi, mov) instead of images/

The rate comes from the time column, from the video, or from `--hz`. Recordings with times are resampled to a fixed
rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.files import image_files, subfolders
from daydrive.data.sources.table import ActionTable, read_actions
from daydrive.data.sources.timestamps import RECORDED_HZ, SECONDS, TIME_SCALE, unit_notes
from daydrive.data.store.store import SPLITS
from daydrive.errors import UserError
from daydrive.types import Drive, Frame, Image

ACTIONS = "actions.csv"
IMAGES = "images"
DEFAULT_HZ = 10.0


@dataclass(frozen=True)
class _Recording:
    """A validated drive folder. times: (N,) s, as they were written in `unit`."""

    folder: Path
    video: Path | None
    images: list[Path]
    table: ActionTable
    times: npt.NDArray[np.float64]
    unit: str

    @classmethod
    def read(cls, folder: Path, options: Options) -> _Recording:
        stated = options["recorded_hz"]
        table = read_actions(folder / ACTIONS, 1.0 if stated else options["time_scale"])
        video_file = _video(folder)
        images = [] if video_file else _images(folder)
        rows = len(table.actions)
        if video_file is None and len(images) != rows:
            raise UserError(f"{folder / ACTIONS} has {rows} rows for the {len(images)} images in {folder / IMAGES}")
        if table.times is not None and not stated:
            return cls(folder, video_file, images, table, *table.times)
        rate = stated or (video.frame_rate(video_file) if video_file else options["hz"] or DEFAULT_HZ)
        return cls(folder, video_file, images, table, np.arange(rows) / rate, SECONDS)


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`."""

    folder: Path
    options: Options
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        recording = _Recording.read(self.folder, self.options)
        table = recording.table
        chosen = clock.resample(recording.times, self.hz)[self.run]
        actions = clock.held_mean(table.actions, recording.times, chosen)
        actions[:-1, 3] = table.actions[np.maximum(chosen[1:] - 1, chosen[:-1]), 3]
        for k, (index, image) in enumerate(_read_images(recording, chosen, self.image_size)):
            speed = float("nan") if table.speed is None else float(table.speed[index])
            yield Frame(image, actions[k].astype(np.float32), k / self.hz, {"speed": speed})


class FolderSource:
    name = "folder"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the recordings' native rate, or 10 if unknown", 0.1),
        Option("seed", int, 0, "seed of the split by drive", minimum=0),
        TIME_SCALE,
        RECORDED_HZ,
    )

    def describe(self, options: Options) -> dict[str, Any]:
        mean = "as it is; the mean where the clock is slower than the recording"
        return {
            "actions": {
                "steering": action("as given", "positive to the right", "[-1, 1]", mean),
                "throttle": action("as given", "positive forwards", "[0, 1]", mean),
                "brake": action("as given", "positive slows down", "[0, 1]", mean),
                "gear": action("direction", "1 forwards, -1 backwards", "{-1, 0, 1}", "as it is; the last one"),
            },
            "values": {"speed": "as given"},
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        folders = _drive_folders(root)
        recordings = [_Recording.read(folder, options) for _, folder in folders]
        clocks = [(recording.folder, recording.times) for recording in recordings]
        rates = clock.shared_hz(clocks, options["hz"], options["recorded_hz"])
        for note in unit_notes(
            (folder / ACTIONS, recording.unit) for (_, folder), recording in zip(folders, recordings, strict=True)
        ):
            print(note)
        drives = []
        for (split, _), (folder, times), hz in zip(folders, clocks, rates, strict=True):
            name = folder.relative_to(root).as_posix()
            runs = clock.resample(times, hz)
            usable = [(run, len(chosen)) for run, chosen in enumerate(runs) if len(chosen) >= 2]
            for run, length in usable:
                label = name if len(runs) == 1 else f"{name}.{run}"
                group = None if len(runs) == 1 else name
                drives.append(Drive(label, hz, _Frames(folder, options, hz, run, image_size), split, length, group))
        if not drives:
            raise UserError(f"{root} has no two consecutive frames without a gap in time")
        return drives


def _drive_folders(root: Path) -> list[tuple[str | None, Path]]:
    folders = subfolders(root)
    splits = [folder for folder in folders if folder.name in SPLITS]
    if splits and len(splits) < len(folders):
        other = next(folder.name for folder in folders if folder.name not in SPLITS)
        raise UserError(f"{root} mixes split folders ({splits[0].name}) and other folders ({other}); use one kind only")
    found: list[tuple[str | None, Path]] = [(None, folder) for folder in folders]
    if splits:
        found = []
        for split in sorted(splits, key=lambda folder: SPLITS.index(folder.name)):
            drives = subfolders(split)
            if not drives:
                raise UserError(f"the split {split} has no drives; a drive is a folder with {ACTIONS} and {IMAGES}/")
            found += [(split.name, folder) for folder in drives]
    if not found:
        raise UserError(f"{root} has no drives; a drive is a folder with {ACTIONS} and {IMAGES}/ or a video")
    for _, folder in found:
        if not (folder / ACTIONS).is_file():
            raise UserError(f"{folder} is not a drive: it has no {ACTIONS} (steering,throttle,brake,gear)")
    return found


def _images(folder: Path) -> list[Path]:
    images = folder / IMAGES
    if not images.is_dir():
        raise UserError(f"{folder} is not a drive: it has neither {IMAGES}/ nor a video beside {ACTIONS}")
    return image_files(images)


def _video(folder: Path) -> Path | None:
    videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in video.SUFFIXES)
    if len(videos) > 1:
        raise UserError(f"{folder} has {len(videos)} videos ({videos[0].name}, {videos[1].name}); keep one of them")
    if videos and (folder / IMAGES).is_dir():
        raise UserError(f"{folder} has both {IMAGES}/ and the video {videos[0].name}; keep one of them")
    return videos[0] if videos else None


def _read_images(
    recording: _Recording, chosen: npt.NDArray[np.int64], size: tuple[int, int]
) -> Iterator[tuple[int, Image | bytes]]:
    file = recording.folder / ACTIONS
    if recording.video is not None:
        yield from video.frames(recording.video, chosen.tolist(), len(recording.times), file)
        return
    for index in chosen.tolist():
        yield index, read_image(recording.images[index], f"{file}, row {index + 2}", size, shrink=True)
