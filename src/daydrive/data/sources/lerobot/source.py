"""The LeRobot source: one camera of a dataset, and a mapping of its columns to actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.images import image_in, read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.files import inside
from daydrive.data.sources.lerobot.episodes import BATCH_ROWS_WITH_IMAGES, Episode, numbers, read_episodes, read_rows
from daydrive.data.sources.lerobot.info import Component, Feature, Info
from daydrive.data.sources.mapping import (
    VALUES,
    ColumnMapping,
    describe_mapping,
    interval_means,
    mapping_options,
    named_values,
)
from daydrive.errors import UserError
from daydrive.types import Drive, Frame, Image

TIME = "timestamp"
TIME_TOLERANCE = 0.1
"""Maximum deviation of a timestamp from the fixed rate, periods; LeRobot itself allows 0.1 ms."""


@dataclass(frozen=True)
class _Frames:
    """The frames of an episode with native rate `fps`, resampled to `hz`."""

    root: Path
    episode: Episode
    camera: Feature
    mapping: ColumnMapping
    components: dict[str, tuple[Feature, Component]]
    fps: float
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times, recorded = self._read_columns()
        where = f"{self.episode.data}, episode {self.episode.number}"
        all_actions = self.mapping.actions(recorded, lambda row: f"{where}, frame {row}")
        (chosen,) = clock.resample(times, self.hz, 2.0 / min(self.hz, self.fps))
        actions, values = interval_means(all_actions, self.mapping.values(recorded), times, chosen)
        for k, image in enumerate(self._images(times, chosen)):
            indices = {"episode": float(self.episode.number), "frame_index": float(chosen[k])}
            yield Frame(image, actions[k], k / self.hz, {**named_values(values[k]), **indices})

    def _read_columns(self) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]:
        """Times (N,) s and the mapped columns, (N,) each."""
        where = f"{self.episode.data}, episode {self.episode.number}"
        timestamp = Feature(TIME, "float32", (1,), (), False)
        columns = list(dict.fromkeys([TIME, *(feature.name for feature, _ in self.components.values())]))
        batches: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in ("", *self.components)}
        for first, batch in read_rows(self.episode, columns, self.root):
            batches[""].append(numbers(batch.column(TIME), timestamp, 0, where, first))
            for name, (feature, component) in self.components.items():
                column = batch.column(feature.name)
                values = numbers(column, feature, component.element, where, first, finite=name != "speed")
                batches[name].append(values)
        recorded = {name: np.concatenate(arrays) for name, arrays in batches.items()}
        timestamps, times = recorded.pop(""), np.arange(self.episode.length) / self.fps
        off = np.flatnonzero(np.abs(timestamps - times) * self.fps > TIME_TOLERANCE)
        if len(off):
            row = int(off[0])
            raise UserError(
                f"{where}, frame {row}: its {TIME} is {timestamps[row]:.4f} s, expected {times[row]:.4f} at "
                f"{self.fps:g} frames per second"
            )
        return times, recorded

    def _images(self, times: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64]) -> Iterator[Image | bytes]:
        if self.episode.video is not None:
            moments = self.episode.start + times[chosen]
            file = inside(self.episode.video, self.root)
            yield from video.frames_at(file, moments, 0.45 / self.fps, self.image_size)
            return
        wanted = chosen.tolist()
        for first, batch in read_rows(self.episode, [self.camera.name], self.root, BATCH_ROWS_WITH_IMAGES):
            column = batch.column(self.camera.name)
            while wanted and wanted[0] < first + batch.num_rows:
                row = wanted.pop(0)
                yield self._image(column[row - first].as_py(), row)

    def _image(self, cell: Any, row: int) -> Image | bytes:
        where = f"{self.episode.data}, episode {self.episode.number}, frame {row}"
        data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if isinstance(data, bytes):
            return image_in(data, self.camera.name, where, self.image_size, shrink=True)
        if isinstance(name, str) and name:
            return read_image(inside(self.root / name, self.root), where, self.image_size, shrink=True)
        raise UserError(f"{where}: {self.camera.name} has no image")


class LeRobotSource:
    name = "lerobot"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the dataset's fps", 0.1),
        Option("camera", str, None, "feature of dtype video or image; default: the first"),
        Option("split", str, None, "official or by-drive; default: official if the dataset has several splits"),
        Option("seed", int, 0, "seed of the split by episode", minimum=0),
        *mapping_options("element of a column, such as action.0 or action.steering,"),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        averaged = "mean up to the next frame, the last gear; a row's reading holds until the next one"
        return {
            "actions": describe_mapping(options, averaged),
            "values": {
                **VALUES,
                "episode": "episode_index of the dataset",
                "frame_index": "number of the row in its episode, from 0",
            },
            "decoder": video.hardware() or "software",
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        if options["split"] not in (None, "official", "by-drive"):
            raise UserError(f"--split {options['split']}: must be official or by-drive")
        info = Info.read(root)
        hz = float(options["hz"] or info.fps)
        if hz > info.fps * clock.SAME_RATE:
            raise UserError(f"{info.file} has {info.fps:g} frames per second, too few for --hz {hz:g}")
        camera = info.camera(options["camera"])
        mapping = ColumnMapping.from_options(options, list(info.components), info.guessed(), str(info.file))
        components = {
            quantity: (info.features[info.components[name].feature], info.components[name])
            for quantity, name in mapping.columns.items()
        }
        episodes = read_episodes(info, camera)
        splits: Sequence[str | None] | None = None
        if options["split"] != "by-drive":
            splits = info.split_of([episode.number for episode in episodes])
        if splits is None and options["split"] == "official":
            raise UserError(f"--split official: {info.file} has no train, val and test splits that cover all episodes")
        made_from = {**mapping.made_from(), "images": camera.name}
        drives = []
        for episode, split in zip(episodes, splits or [None] * len(episodes), strict=True):
            length = int((episode.length - 1) / info.fps * hz + 1e-6) + 1
            if length < 2:
                continue
            frames = _Frames(root, episode, camera, mapping, components, info.fps, hz, image_size)
            drives.append(Drive(f"episode_{episode.number:06d}", hz, frames, split, length, None, made_from))
        if not drives:
            raise UserError(f"{root} has no episode with two frames at {hz:g} Hz")
        if options["camera"] is None and len(info.cameras) > 1:
            print(f"Using the camera {camera.name}; available for --camera: {', '.join(info.cameras)}.")
        return drives
