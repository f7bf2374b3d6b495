"""The source: any camera and any mapping of a dataset's columns to the action."""

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
from daydrive.data.sources.lerobot.episodes import ROWS_WITH_PICTURES, Episode, numbers, read_episodes, rows_of
from daydrive.data.sources.lerobot.info import Component, Feature, Info
from daydrive.data.sources.mapping import (
    VALUES,
    ColumnMapping,
    describe_mapping,
    mapping_options,
    own_values,
    up_to_next,
)
from daydrive.errors import UserError
from daydrive.types import Drive, Frame, Image

TIME = "timestamp"
OFF_CLOCK = 0.1
"""periods that a row may be off the even clock; LeRobot itself takes 0.1 ms"""


@dataclass(frozen=True)
class _Frames:
    """Reads an episode on a clock of `hz`, `fps` being its own."""

    root: Path
    episode: Episode
    camera: Feature
    mapping: ColumnMapping
    parts: dict[str, tuple[Feature, Component]]
    fps: float
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times, recorded = self._table()
        where = f"{self.episode.data}, episode {self.episode.number}"
        made = self.mapping.actions(recorded, lambda row: f"{where}, frame {row}")
        (chosen,) = clock.resample(times, self.hz, 2.0 / min(self.hz, self.fps))
        actions, values = up_to_next(made, self.mapping.values(recorded), times, chosen)
        for k, image in enumerate(self._images(times, chosen)):
            own = {**own_values(values[k]), "episode": float(self.episode.number), "frame_index": float(chosen[k])}
            yield Frame(image, actions[k], k / self.hz, own)

    def _table(self) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]:
        """times (N,) s and the mapped columns, (N,) each."""
        where = f"{self.episode.data}, episode {self.episode.number}"
        stamp = Feature(TIME, "float32", (1,), (), False)
        columns = list(dict.fromkeys([TIME, *(feature.name for feature, _ in self.parts.values())]))
        read: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in ("", *self.parts)}
        for first, batch in rows_of(self.episode, columns, self.root):
            read[""].append(numbers(batch.column(TIME), stamp, 0, where, first))
            for name, (feature, part) in self.parts.items():
                column = batch.column(feature.name)
                read[name].append(numbers(column, feature, part.place, where, first, finite=name != "speed"))
        whole = {name: np.concatenate(parts) for name, parts in read.items()}
        stamps, times = whole.pop(""), np.arange(self.episode.length) / self.fps
        off = np.flatnonzero(np.abs(stamps - times) * self.fps > OFF_CLOCK)
        if len(off):
            row = int(off[0])
            raise UserError(
                f"{where}, frame {row}: its {TIME} is {stamps[row]:.4f} s where {self.fps:g} frames a second make it "
                f"{times[row]:.4f}"
            )
        return times, whole

    def _images(self, times: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64]) -> Iterator[Image | bytes]:
        if self.episode.video is not None:
            moments = self.episode.start + times[chosen]
            file = inside(self.episode.video, self.root)
            yield from video.frames_at(file, moments, 0.45 / self.fps, self.image_size)
            return
        wanted = chosen.tolist()
        for first, batch in rows_of(self.episode, [self.camera.name], self.root, ROWS_WITH_PICTURES):
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
        raise UserError(f"{where}: {self.camera.name} has no picture")


class LeRobotSource:
    name = "lerobot"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames a second; default: the dataset's fps", 0.1),
        Option("camera", str, None, "which feature of dtype video or image; default: the first"),
        Option("split", str, None, "official or by-drive; default: official where the dataset has several"),
        Option("seed", int, 0, "of the split by episode", minimum=0),
        *mapping_options("number of a column, such as action.0 or action.steering,"),
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
            raise UserError(f"--split {options['split']}: it is either official or by-drive")
        info = Info.read(root)
        hz = float(options["hz"] or info.fps)
        if hz > info.fps * clock.SAME_RATE:
            raise UserError(f"{info.file} has {info.fps:g} frames a second, too few for --hz {hz:g}")
        camera = info.camera(options["camera"])
        mapping = ColumnMapping.choose(options, list(info.components), info.guessed(), str(info.file))
        parts = {
            quantity: (info.features[info.components[name].feature], info.components[name])
            for quantity, name in mapping.columns.items()
        }
        episodes = read_episodes(info, camera)
        own: Sequence[str | None] | None = None
        if options["split"] != "by-drive":
            own = info.split_of([episode.number for episode in episodes])
        if own is None and options["split"] == "official":
            raise UserError(f"--split official: {info.file} has no train, val and test that hold all episodes")
        made_from = {**mapping.made_from(), "images": camera.name}
        drives = []
        for episode, split in zip(episodes, own or [None] * len(episodes), strict=True):
            length = int((episode.length - 1) / info.fps * hz + 1e-6) + 1
            if length < 2:
                continue
            frames = _Frames(root, episode, camera, mapping, parts, info.fps, hz, image_size)
            drives.append(Drive(f"episode_{episode.number:06d}", hz, frames, split, length, None, made_from))
        if not drives:
            raise UserError(f"{root} has no episode of two frames at {hz:g} Hz")
        if options["camera"] is None and len(info.cameras) > 1:
            print(f"The pictures are those of {camera.name}; the dataset has {', '.join(info.cameras)} for --camera.")
        return drives
