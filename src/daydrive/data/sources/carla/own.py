"""Recordings of `daydrive record`: the layout of the source `folder` with additional columns and metadata.

<root>/<drive>/images/*.jpg
               actions.csv     steering,throttle,brake,gear,time,speed,x,y,yaw (degrees), …
               drive.json      town, weather, seed, …
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daydrive.data.images import read_image
from daydrive.data.sources import files
from daydrive.data.sources.carla.readings import Array, Readings, read_json_object
from daydrive.data.sources.files import inside
from daydrive.data.sources.table import read_actions, read_columns, read_header
from daydrive.errors import UserError
from daydrive.types import Image

TABLE, METADATA, IMAGES = "actions.csv", "drive.json", "images"
POSE_COLUMNS = ("x", "y", "yaw")


@dataclass(frozen=True)
class OwnRecording:
    root: Path
    folder: Path
    layout: str = "daydrive record"

    @staticmethod
    def matches(folder: Path) -> bool:
        return (folder / TABLE).exists() and (folder / METADATA).exists()

    @property
    def group(self) -> str:
        return self.folder.relative_to(self.root).as_posix()

    @property
    def town(self) -> str | None:
        town = self._metadata().get("town")
        return town if isinstance(town, str) else None

    def times(self) -> Array:
        file = inside(self.folder / TABLE, self.root)
        times = read_actions(file, time_scale=1.0).times
        if times is None:
            raise UserError(f"{file}, row 1: there is no column 'time'")
        images = self._images()
        if len(images) != len(times.seconds):
            raise UserError(f"{file} has {len(times.seconds)} rows for the {len(images)} images in {images[0].parent}")
        return times.seconds

    def read(self) -> Readings:
        file = inside(self.folder / TABLE, self.root)
        table = read_actions(file, time_scale=1.0)
        count = len(table.actions)
        unknown = np.full(count, np.nan)
        speed = unknown if table.speed is None else table.speed
        columns = read_columns(file, [name for name in POSE_COLUMNS if name in read_header(file)])
        x, y, yaw = (columns.get(name, unknown) for name in POSE_COLUMNS)
        return Readings(table.actions, np.column_stack([speed, x, y, np.radians(yaw), np.arange(count)]))

    def image_reader(self, size: tuple[int, int]) -> Callable[[int], Image | bytes]:
        images, file = self._images(), self.folder / TABLE
        return lambda index: read_image(inside(images[index], self.root), f"{file}, row {index + 2}", size, shrink=True)

    def _images(self) -> list[Path]:
        folder = inside(self.folder / IMAGES, self.root)
        if not folder.is_dir():
            raise UserError(f"{self.folder} is not a recording: it has no {IMAGES}/ beside {TABLE}")
        return files.image_files(folder)

    def _metadata(self) -> dict[str, Any]:
        return read_json_object(self.folder / METADATA, self.root)
