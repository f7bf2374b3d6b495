"""Routes of TransFuser (and its derivatives) and Bench2Drive: numbered images, each with a measurement in JSON.

    TransFuser, LMDrive    <route>/rgb/ or rgb_front/ or rgb_full/*.jpg|png      rgb_full: front, left, right and rear
                                   measurements/ or measurements_full/*.json[.gz]      stacked vertically
    Bench2Drive            <route>/camera/rgb_front/*.jpg      anno/*.json.gz

A TransFuser measurement contains the expert's command at its image. A Bench2Drive measurement contains the command read
back from the vehicle, which led to its image; the command at an image is therefore that of the next measurement.
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
from daydrive.data.sources.files import IMAGE_SUFFIXES, inside, subfolders
from daydrive.errors import UserError
from daydrive.types import Image

JSON_SUFFIXES = (".json", ".json.gz")
STACKED = "rgb_full"
VIEWS = ("front", "left", "right", "rear")
"""Views in a stacked image, from the top."""

MAX_UNPAIRED = 2
"""Images or measurements at the end of a route that may lack their counterpart, since the recording was stopped."""

_TOWN = re.compile(r"town(\d+\w*?)(?![a-z\d])", re.IGNORECASE)
_WEATHER_AND_DATE = re.compile(r"_?weather_?\d+|_w\d+(?=_|$)|(?:_\d\d){4,6}$", re.IGNORECASE)


@dataclass(frozen=True)
class LeaderboardRoute:
    """A route of the CARLA Leaderboard. hz: its rate. camera: view or image folder, None for the front camera."""

    root: Path
    folder: Path
    hz: float
    camera: str | None = None

    @staticmethod
    def matches(folder: Path) -> bool:
        return any((folder / name).is_dir() for name in ("measurements", "measurements_full", "anno"))

    @property
    def layout(self) -> str:
        return "Bench2Drive" if (self.folder / "anno").is_dir() else "TransFuser"

    @property
    def group(self) -> str:
        """The route's name without weather and date; it identifies the road."""
        return _WEATHER_AND_DATE.sub("", _WEATHER_AND_DATE.sub("", self.folder.resolve().name))

    @property
    def town(self) -> str | None:
        found = _TOWN.findall(self.folder.resolve().relative_to(self.root.resolve().parent).as_posix())
        return f"Town{found[-1]}" if found else None

    def times(self) -> Array:
        return np.array(list(self._pairs()), dtype=np.float64) / self.hz

    def read(self) -> Readings:
        pairs = self._pairs()
        actions, values = np.empty((len(pairs), 4)), np.empty((len(pairs), 5))
        for k, (number, (_, file)) in enumerate(pairs.items()):
            measurement = read_json_object(file, self.root)
            throttle_brake = [command(measurement, name, file, 0.0) for name in ("throttle", "brake")]
            gear = -1.0 if measurement.get("reverse") else 1.0
            actions[k] = [command(measurement, "steer", file, -1.0), *throttle_brake, gear]
            heading = heading_of_compass(reading(measurement.get("theta")))
            values[k] = [reading(measurement.get("speed")), *_position(measurement), heading, number]
        if self.layout == "Bench2Drive":
            actions[:-1] = actions[1:].copy()
        return Readings(actions, values)

    def trajectory(self, limit: int) -> Array:
        """Speed, x and y, (K, 3), at the first `limit` images, to estimate the rate from."""
        files = [file for _, file in self._pairs().values()][:limit]
        rows = [read_json_object(file, self.root) for file in files]
        return np.array([[reading(row.get("speed")), *_position(row)] for row in rows]).reshape(-1, 3)

    def image_reader(self, size: tuple[int, int]) -> Callable[[int], Image | bytes]:
        pairs = list(self._pairs().values())
        stacked = pairs[0][0].parent.name == STACKED
        view = VIEWS.index((self.camera or "front").removeprefix("rgb_")) if stacked else 0

        def read(index: int) -> Image | bytes:
            image_file, measurement = pairs[index]
            path = inside(image_file, self.root)
            if not stacked:
                return read_image(path, str(measurement), size, shrink=True)
            image = read_image(path, str(measurement), (len(VIEWS) * size[0], size[1]))
            if isinstance(image, bytes):
                image = np.asarray(simplejpeg.decode_jpeg(image, "RGB"), dtype=np.uint8)
            height = image.shape[0] // len(VIEWS)
            if height == 0:
                raise UserError(f"{image_file} has {image.shape[0]} rows, too few for {len(VIEWS)} stacked views")
            return image[view * height : (view + 1) * height]

        return read

    def _pairs(self) -> dict[int, tuple[Path, Path]]:
        """Image and measurement by number, for the numbers that have both."""
        image_folder = self._image_folder()
        images = by_number(inside(image_folder, self.root), IMAGE_SUFFIXES)
        measurement_folder = inside(self._measurement_folder(), self.root)
        measurements = by_number(measurement_folder, JSON_SUFFIXES)
        both = images.keys() & measurements.keys()
        if len(both) < 2:
            raise UserError(
                f"{self.folder} has {len(both)} images in {image_folder.name}/ with a measurement in "
                f"{measurement_folder.name}/"
            )
        for folder, files, others in ((measurement_folder, images, measurements), (image_folder, measurements, images)):
            unpaired = [number for number in files if number not in others]
            if unpaired and (unpaired[0] < max(both) or len(unpaired) > MAX_UNPAIRED):
                raise UserError(
                    f"{files[unpaired[0]]} and {len(unpaired) - 1} other files have no counterpart in {folder}"
                )
        return {number: (images[number], measurements[number]) for number in images if number in both}

    def _measurement_folder(self) -> Path:
        names = ("anno", "measurements", "measurements_full")
        return next(self.folder / name for name in names if (self.folder / name).is_dir())

    def _image_folder(self) -> Path:
        parent = self.folder / "camera" if self.layout == "Bench2Drive" else self.folder
        if self.camera is None:
            names = ["rgb_front", "rgb", STACKED]
        else:
            short = self.camera.removeprefix("rgb_")
            names = [self.camera, f"rgb_{short}"] + ([STACKED] if short in VIEWS else [])
        for name in names:
            if "/" not in name and (parent / name).is_dir():
                return parent / name
        found = [f.name for f in subfolders(parent) if "rgb" in f.name] if parent.is_dir() else []
        problem = f"--camera {self.camera}: {parent} has no such images" if self.camera else f"{parent} has no images"
        raise UserError(f"{problem} ({names[0]}/); its image folders: {', '.join(found) or 'none'}")


def _position(measurement: Mapping[str, Any]) -> tuple[float, float]:
    """x, y from the vehicle's matrix or position if available, otherwise from its GPS."""
    matrix, position = measurement.get("ego_matrix"), measurement.get("pos_global")
    try:
        if matrix is not None:
            return reading(matrix[0][3]), reading(matrix[1][3])
        if position is not None:
            return reading(position[0]), reading(position[1])
    except (TypeError, LookupError):
        return reading(None), reading(None)
    return reading(measurement.get("x", measurement.get("gps_x"))), reading(
        measurement.get("y", measurement.get("gps_y"))
    )
