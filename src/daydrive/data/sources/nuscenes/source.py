"""nuScenes v1.0: 20 s scenes in Boston and Singapore, six cameras at 12 Hz, with poses and optional CAN bus data.

    <root>/v1.0-{mini,trainval,test}/*.json     the tables
    <root>/samples/CAM_FRONT/*.jpg              key frames, 2 Hz
    <root>/sweeps/CAM_FRONT/*.jpg               the images in between; without this folder only key frames are read
    <root>/can_bus/scene-NNNN_*.json            optional

The cameras are triggered by a lidar at 20 Hz, so the images are 50 or 100 ms apart. Scenes without any images are
skipped, since the dataset can be downloaded in parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.files import inside
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.nuscenes import actions, splits
from daydrive.data.sources.nuscenes.can import read_can_bus
from daydrive.data.sources.nuscenes.scenes import READINGS, Scene, read_scenes
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

VERSIONS = tuple(splits.OFFICIAL)

GAP = 0.25
"""Seconds without an image that end a drive, unless two periods are longer; allows for one lost image."""

Usable = npt.NDArray[np.int64]
"""Indices of a scene's images that are read."""


@dataclass(frozen=True)
class _Frames:
    """The frames of the chosen images of a scene. tokens: those of the images in the file `table`."""

    root: Path
    table: Path
    tokens: list[str]
    files: list[str]
    actions: npt.NDArray[np.float32]
    values: npt.NDArray[np.float64]
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, (token, file) in enumerate(zip(self.tokens, self.files, strict=True)):
            path = inside(self.root / file, self.root)
            image = read_image(path, f"{self.table}, token {token}", self.image_size, shrink=True)
            values = dict(zip(actions.VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, values)


class NuScenesSource:
    name = "nuscenes"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("version", str, None, f"{', '.join(VERSIONS)}; default: the one that exists"),
        Option("camera", str, "CAM_FRONT", "channel of the camera"),
        Option("hz", float, None, "frames per second; default: the camera's rate, 12, or 2 without sweeps", 0.1),
        Option("split", str, None, "official or by-drive; default: official if it contains all scenes"),
        Option("seed", int, 0, "seed of the logs drawn for val, and of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        return {**actions.describe(), "camera": options["camera"]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        if options["split"] not in (None, "official", "by-drive"):
            raise UserError(f"--split {options['split']}: must be official or by-drive")
        version = _version(root, options["version"])
        table = root / version / READINGS
        scenes = read_scenes(root, version, options["camera"])
        usable = _usable(scenes, root, table)
        available = [(scene, indices) for scene, indices in zip(scenes, usable, strict=True) if len(indices)]
        if not available:
            raise UserError(f"{root} has no images of {options['camera']}; unpack samples/ and sweeps/ into it")
        if len(available) < len(scenes):
            print(f"{len(scenes) - len(available)} of {len(scenes)} scenes are skipped: {root} has no images of them.")
        hz = _rate(available, options["hz"], root / version)
        scene_splits = _splits(version, [scene for scene, _ in available], options)
        drives, counts = [], FrameCounts()
        for (scene, indices), split in zip(available, scene_splits, strict=True):
            can = read_can_bus(root, scene.name, int(scene.micros[0]))
            gap = max(GAP, 2.0 / hz)
            runs = clock.resample(scene.seconds[indices], hz, gap)
            counts.recorded += len(indices)
            for number, run in counts.usable(runs, len(indices), hz, gap):
                name = scene.name if len(runs) == 1 else f"{scene.name}.{number}"
                chosen = indices[run]
                driven = actions.scene_actions(scene, can, chosen)
                tokens, files = ([column[k] for k in chosen.tolist()] for column in (scene.tokens, scene.files))
                action_rows = driven.actions.astype(np.float32)
                frames = _Frames(root, table, tokens, files, action_rows, driven.values, hz, image_size)
                drives.append(Drive(name, hz, frames, split, len(chosen), scene.log, driven.made_from))
        if not drives:
            raise UserError(
                f"{root} has no scene with {clock.MIN_RUN_SECONDS:g} s of images without a gap{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def _version(root: Path, given: str | None) -> str:
    """The version, whose name is also the folder of its tables; raises UserError if it is missing or ambiguous."""
    available = [version for version in VERSIONS if (root / version).is_dir()]
    if given is not None and given not in VERSIONS:
        raise UserError(f"--version {given}: there is no such version of nuScenes{did_you_mean(given, VERSIONS)}")
    if given is not None and given not in available:
        raise UserError(f"--version {given}: {root} has no such folder; available: {', '.join(available) or 'none'}")
    if not available:
        hint = "; use its parent folder" if (root / READINGS).exists() else ""
        raise UserError(f"{root} has no nuScenes tables, a folder {' or '.join(VERSIONS)}{hint}")
    if given is None and len(available) > 1:
        raise UserError(f"{root} has {' and '.join(available)}; choose one with --version")
    return given or available[0]


def _usable(scenes: Sequence[Scene], root: Path, table: Path) -> list[Usable]:
    """The images to read of each scene: all; only key frames if no scene has sweeps; none if the scene has no images.

    Raises UserError for a scene with only some of its images.
    """

    @cache
    def names(folder: Path) -> frozenset[str]:
        return frozenset(os.listdir(inside(folder, root))) if folder.is_dir() else frozenset()

    def exists(file: str) -> bool:
        path = root / file
        return path.name in names(path.parent)

    folders = {(root / f).parent for s in scenes for f, key in zip(s.files, s.key_frames, strict=True) if not key}
    sweeps = any(folder.is_dir() for folder in folders)
    found = []
    for scene in scenes:
        indices = np.arange(len(scene.files)) if sweeps else np.flatnonzero(scene.key_frames)
        missing = [k for k in indices.tolist() if not exists(scene.files[k])]
        if missing and len(missing) < len(indices):
            k = missing[0]
            raise UserError(
                f"{table}, token {scene.tokens[k]}: the image {root / scene.files[k]} does not exist; {scene.name} has "
                f"{len(indices) - len(missing)} of its {len(indices)} images"
            )
        found.append(indices[:0] if missing else indices)
    return found


def _rate(scenes: Sequence[tuple[Scene, Usable]], given: float | None, folder: Path) -> float:
    """`given` if set, otherwise the median of the scenes' rates (1 / mean interval without gaps)."""
    rates = []
    for scene, indices in scenes:
        intervals = np.diff(scene.seconds[indices])
        if len(intervals):
            rates.append(1.0 / float(intervals[intervals <= 2.0 * np.median(intervals)].mean()))
    native = max(round(float(np.median(rates)), 1), 0.1) if rates else 1.0
    if given and given > native * clock.SAME_RATE:
        raise UserError(f"{folder} has {native:g} frames per second, too few for --hz {given:g}")
    return given or native


def _splits(version: str, scenes: Sequence[Scene], options: Options) -> list[str] | list[None]:
    """The official split of each scene, or None for each if the preparation assigns the splits."""
    names = [scene.name for scene in scenes]
    if options["split"] == "by-drive" or (options["split"] is None and not splits.is_official(version, names)):
        return [None] * len(names)
    return splits.official(version, names, [scene.log for scene in scenes], options["seed"])
