"""Routes of TransFuser's family and of Bench2Drive: numbered pictures and a measurement in JSON for each.

    TransFuser, LMDrive    <route>/rgb/ or rgb_front/ or rgb_full/*.jpg|png      rgb_full: front, left, right, rear
                                   measurements/ or measurements_full/*.json[.gz]      below each other
    Bench2Drive            <route>/camera/rgb_front/*.jpg      anno/*.json.gz

TransFuser's measurement has the command that its expert gave at the picture. Bench2Drive's was read back from the
vehicle and is the one that led to the picture, so that the next measurement's belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from daydrive.data.images import read_image
from daydrive.data.sources.carla.readings import (
    Array,
    Readings,
    by_number,
    command,
    heading_of_compass,
    read_json_object,
    reading,
)
from daydrive.data.sources.files import IMAGE_SUFFIXES, inside
from daydrive.errors import UserError
from daydrive.types import Image

JSON_SUFFIXES = (".json", ".json.gz")
STACKED = "rgb_full"
VIEWS = ("front", "left", "right", "rear")
"""of a stacked picture, from its top"""

SURPLUS = 2
"""pictures or measurements at the end of a route that may lack the other, since its recording was ended"""

_TOWN = re.compile(r"town(\d+\w*?)(?![a-z\d])", re.IGNORECASE)
_WEATHER_AND_DATE = re.compile(r"_?weather_?\d+|_w\d+(?=_|$)|(?:_\d\d){4,6}$", re.IGNORECASE)


@dataclass(frozen=True)
class MeasuredRoute:
    """hz: frames a second. camera: a view or folder of pictures, None for the one to the front."""

    root: Path
    folder: Path
    hz: float
    camera: str | None = None

    @staticmethod
    def recognises(folder: Path) -> bool:
        return any((folder / name).is_dir() for name in ("measurements", "measurements_full", "anno"))

    @property
    def layout(self) -> str:
        return "Bench2Drive" if (self.folder / "anno").is_dir() else "TransFuser"

    @property
    def group(self) -> str:
        """The route's name without its weather and the date: the same road."""
        return _WEATHER_AND_DATE.sub("", _WEATHER_AND_DATE.sub("", self.folder.resolve().name))

    @property
    def town(self) -> str | None:
        found = _TOWN.findall(self.folder.resolve().relative_to(self.root.resolve().parent).as_posix())
        return f"Town{found[-1]}" if found else None

    def times(self) -> Array:
        return np.array(list(self._numbered()), dtype=np.float64) / self.hz

    def read(self) -> Readings:
        pairs = self._numbered()
        actions, values = np.empty((len(pairs), 4)), np.empty((len(pairs), 5))
        for k, (image_of, (_, file)) in enumerate(pairs.items()):
            measured = read_json_object(file, self.root)
            pressed = [command(measured, name, file, 0.0) for name in ("throttle", "brake")]
            actions[k] = [command(measured, "steer", file, -1.0), *pressed, -1.0 if measured.get("reverse") else 1.0]
            heading = heading_of_compass(reading(measured.get("theta")))
            values[k] = [reading(measured.get("speed")), *_place(measured), heading, image_of]
        if self.layout == "Bench2Drive":
            actions[:-1] = actions[1:].copy()
        return Readings(actions, values)

    def places(self, most: int) -> Array:
        """speed, x, y (K, 3) of the first `most` pictures, for telling the rate."""
        files = [file for _, file in self._numbered().values()][:most]
        rows = [read_json_object(file, self.root) for file in files]
        return np.array([[reading(row.get("speed")), *_place(row)] for row in rows]).reshape(-1, 3)

    def image_reader(self, size: tuple[int, int]) -> Callable[[int], Image | bytes]:
        pairs = list(self._numbered().values())
        stacked = pairs[0][0].parent.name == STACKED
        view = VIEWS.index((self.camera or "front").removeprefix("rgb_")) if stacked else 0

        def read(place: int) -> Image | bytes:
            image_of, measurement = pairs[place]
            path = inside(image_of, self.root)
            if not stacked:
                return read_image(path, str(measurement), size, shrink=True)
            image = read_image(path, str(measurement), (len(VIEWS) * size[0], size[1]))
            if isinstance(image, bytes):
                image = np.asarray(simplejpeg.decode_jpeg(image, "RGB"), dtype=np.uint8)
            height = image.shape[0] // len(VIEWS)
            if height == 0:
                raise UserError(f"{image_of} has {image.shape[0]} rows; {len(VIEWS)} views below each other have more")
            return image[view * height : (view + 1) * height]

        return read

    def _numbered(self) -> dict[int, tuple[Path, Path]]:
        """Picture and measurement by number, from the first to the last that has both."""
        where = self._image_folder()
        image_reader = by_number(inside(where, self.root), IMAGE_SUFFIXES)
        kept = inside(self._measurement_folder(), self.root)
        measurements = by_number(kept, JSON_SUFFIXES)
        both = image_reader.keys() & measurements.keys()
        if len(both) < 2:
            raise UserError(f"{self.folder} has {len(both)} pictures in {where.name}/ with a file in {kept.name}/")
        for name, there, other in ((kept, image_reader, measurements), (where, measurements, image_reader)):
            lacking = [number for number in there if number not in other]
            if lacking and (lacking[0] < max(both) or len(lacking) > SURPLUS):
                raise UserError(f"{there[lacking[0]]} has no counterpart in {name}, as do {len(lacking) - 1} others")
        return {number: (image_reader[number], measurements[number]) for number in image_reader if number in both}

    def _measurement_folder(self) -> Path:
        names = ("anno", "measurements", "measurements_full")
        return next(self.folder / name for name in names if (self.folder / name).is_dir())

    def _image_folder(self) -> Path:
        above = self.folder / "camera" if self.layout == "Bench2Drive" else self.folder
        if self.camera is None:
            names = ["rgb_front", "rgb", STACKED]
        else:
            short = self.camera.removeprefix("rgb_")
            names = [self.camera, f"rgb_{short}"] + ([STACKED] if short in VIEWS else [])
        for name in names:
            if "/" not in name and (above / name).is_dir():
                return above / name
        there = sorted(f.name for f in above.iterdir() if f.is_dir() and "rgb" in f.name) if above.is_dir() else []
        wanted = f"--camera {self.camera}: {above} has no such pictures" if self.camera else f"{above} has no pictures"
        raise UserError(f"{wanted} ({names[0]}/); it has {', '.join(there) or 'none'}")


def _place(measured: Mapping[str, Any]) -> tuple[float, float]:
    """x, y: of the vehicle's matrix or position where it is there, else of its GPS."""
    matrix, position = measured.get("ego_matrix"), measured.get("pos_global")
    try:
        if matrix is not None:
            return reading(matrix[0][3]), reading(matrix[1][3])
        if position is not None:
            return reading(position[0]), reading(position[1])
    except (TypeError, LookupError):
        return reading(None), reading(None)
    return reading(measured.get("x", measured.get("gps_x"))), reading(measured.get("y", measured.get("gps_y")))
