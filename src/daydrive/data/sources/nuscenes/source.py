"""nuScenes v1.0: 20 s scenes in Boston and Singapore, six cameras at 12 Hz, with poses and, as an expansion, CAN.

    <root>/v1.0-{mini,trainval,test}/*.json     the tables
    <root>/samples/CAM_FRONT/*.jpg              key frames, 2 a second
    <root>/sweeps/CAM_FRONT/*.jpg               the pictures between; without this folder key frames alone are read
    <root>/can_bus/scene-NNNN_*.json            optional

The exposures are spread over the turns of a lidar at 20 Hz, so that they are 50 or 100 ms apart. A scene whose pictures
are not there at all is left out: the data set comes in parts.
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
from daydrive.data.sources.nuscenes import actions, splits
from daydrive.data.sources.nuscenes.can import read_can_bus
from daydrive.data.sources.nuscenes.scenes import READINGS, Scene, read_scenes
from daydrive.errors import UserError, did_you_mean
from daydrive.types import Drive, Frame

VERSIONS = tuple(splits.OFFICIAL)

GAP = 0.25
"""seconds without a picture that end a drive, where two periods are not longer: two lost pictures"""

Usable = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Frames:
    """Reads the chosen pictures of a scene, which have these tokens in `table`."""

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
            own = dict(zip(actions.VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, own)


class NuScenesSource:
    name = "nuscenes"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("version", str, None, f"{', '.join(VERSIONS)}; default: the one that is there"),
        Option("camera", str, "CAM_FRONT", "channel of the camera"),
        Option("hz", float, None, "frames a second; default: the camera's own, 12, or 2 without sweeps", 0.1),
        Option("split", str, None, "official or by-drive; default: official where the lists have all scenes"),
        Option("seed", int, 0, "of what is drawn for val, and of the split by drive", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        return {**actions.describe(), "camera": options["camera"]}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        if options["split"] not in (None, "official", "by-drive"):
            raise UserError(f"--split {options['split']}: it is either official or by-drive")
        version = _version(root, options["version"])
        table = root / version / READINGS
        scenes = read_scenes(root, version, options["camera"])
        usable = _usable(scenes, root, table)
        here = [(scene, pixels) for scene, pixels in zip(scenes, usable, strict=True) if len(pixels)]
        if not here:
            raise UserError(f"{root} has no pictures of {options['camera']}; unpack samples/ and sweeps/ into it")
        if len(here) < len(scenes):
            print(f"{len(scenes) - len(here)} of {len(scenes)} scenes are left out: their pictures are not in {root}.")
        hz = _rate(here, options["hz"], root / version)
        chosen = _splits(version, [scene for scene, _ in here], options)
        drives = []
        for (scene, pixels), split in zip(here, chosen, strict=True):
            can = read_can_bus(root, scene.name, int(scene.micros[0]))
            runs = clock.resample(scene.seconds[pixels], hz, max(GAP, 2.0 / hz))
            for number, run in enumerate(runs):
                if not clock.long_enough(run, hz):
                    continue
                name = scene.name if len(runs) == 1 else f"{scene.name}.{number}"
                frames = pixels[run]
                done = actions.driven(scene, can, frames)
                tokens, files = ([names[k] for k in frames.tolist()] for names in (scene.tokens, scene.files))
                taken = done.actions.astype(np.float32)
                read = _Frames(root, table, tokens, files, taken, done.values, hz, image_size)
                drives.append(Drive(name, hz, read, split, len(frames), scene.log, done.made_from))
        if not drives:
            raise UserError(f"{root} has no scene with {clock.SHORTEST_RUN:g} s of pictures without a gap")
        return drives


def _version(root: Path, given: str | None) -> str:
    """The folder of the tables."""
    there = [version for version in VERSIONS if (root / version).is_dir()]
    if given is not None and given not in VERSIONS:
        raise UserError(f"--version {given}: there is no such version of nuScenes{did_you_mean(given, VERSIONS)}")
    if given is not None and given not in there:
        raise UserError(f"--version {given}: {root} has no such folder; it has {' and '.join(there) or 'none of them'}")
    if not there:
        above = "; give the folder above it" if (root / READINGS).exists() else ""
        raise UserError(f"{root} has no tables of nuScenes, a folder {' or '.join(VERSIONS)}{above}")
    if given is None and len(there) > 1:
        raise UserError(f"{root} has {' and '.join(there)}; say which with --version")
    return given or there[0]


def _usable(scenes: Sequence[Scene], root: Path, table: Path) -> list[Usable]:
    """Which pictures of each scene are there: all, the key frames where there are no sweeps of any scene, or none."""

    @cache
    def names(folder: Path) -> frozenset[str]:
        return frozenset(os.listdir(inside(folder, root))) if folder.is_dir() else frozenset()

    def there(file: str) -> bool:
        path = root / file
        return path.name in names(path.parent)

    folders = {(root / f).parent for s in scenes for f, key in zip(s.files, s.key_frames, strict=True) if not key}
    sweeps = any(folder.is_dir() for folder in folders)
    found = []
    for scene in scenes:
        pixels = np.arange(len(scene.files)) if sweeps else np.flatnonzero(scene.key_frames)
        missing = [k for k in pixels.tolist() if not there(scene.files[k])]
        if missing and len(missing) < len(pixels):
            k = missing[0]
            raise UserError(
                f"{table}, token {scene.tokens[k]}: the picture {root / scene.files[k]} is not there; {scene.name} has "
                f"{len(pixels) - len(missing)} of its {len(pixels)} pictures"
            )
        found.append(pixels[:0] if missing else pixels)
    return found


def _rate(here: Sequence[tuple[Scene, Usable]], given: float | None, folder: Path) -> float:
    """`given`, else the rate of the middle scene, 1 / mean interval, without the gaps."""
    rates = []
    for scene, pixels in here:
        intervals = np.diff(scene.seconds[pixels])
        if len(intervals):
            rates.append(1.0 / float(intervals[intervals <= 2.0 * np.median(intervals)].mean()))
    native = max(round(float(np.median(rates)), 1), 0.1) if rates else 1.0
    if given and given > native * clock.SAME_RATE:
        raise UserError(f"{folder} has {native:g} pictures a second, too few for --hz {given:g}; give at most that")
    return given or native


def _splits(version: str, scenes: Sequence[Scene], options: Options) -> list[str] | list[None]:
    """The official split of each scene, or None where preparation decides."""
    names = [scene.name for scene in scenes]
    if options["split"] == "by-drive" or (options["split"] is None and not splits.is_official(version, names)):
        return [None] * len(names)
    return splits.official(version, names, [scene.log for scene in scenes], options["seed"])
