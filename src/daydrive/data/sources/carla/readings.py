"""The interface of a CARLA recording layout, and validated reading of JSON measurements."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.files import inside, json_object
from daydrive.errors import UserError
from daydrive.types import Image

Array = npt.NDArray[np.float64]

VALUES = {
    "speed": "m/s",
    "x": "m on the map, as recorded",
    "y": "m on the map, as recorded",
    "heading": "rad on the map, positive to the right; 0 along CARLA's x axis",
    "picture": "number of the image in its folder",
}

LARGEST_JSON = 64 << 20
"""Maximum size of a decompressed measurement, bytes; those of Bench2Drive have up to a few million."""

MAX_COMMAND = 1.5
"""Commands of up to this magnitude are clipped to 1, as CARLA does; larger ones are rejected."""


class Readings(NamedTuple):
    """actions (N, 4) in the ranges of `Frame.action`, up to the next frame; values (N, 5), columns of `VALUES`."""

    actions: Array
    values: Array


class Recording(Protocol):
    """A recorded route; picklable.

    layout: name of the dataset layout, for messages. group: recordings of one group show the same road. town: the map,
    if known.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def layout(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def town(self) -> str | None: ...

    def times(self) -> Array:
        """Times of the images, (N,) s, increasing. Raises UserError if images and measurements do not match."""
        ...

    def read(self) -> Readings:
        """Actions and values of all N images; a UserError for a missing or invalid number names the file."""
        ...

    def image_reader(self, size: tuple[int, int]) -> Callable[[int], Image | bytes]:
        """A function that reads the image of an index (from 0); `size` (H, W) as in `images.read_image`."""
        ...


def read_json_object(file: Path, root: Path) -> dict[str, Any]:
    """The object in a .json or .json.gz file below `root`.

    Raises UserError for anything else, and for more than `LARGEST_JSON` bytes.
    """
    path = inside(file, root)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_JSON + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the measurement {file} cannot be read ({reason})") from error
    if len(data) > LARGEST_JSON:
        raise UserError(f"the measurement {file} exceeds the limit of {LARGEST_JSON >> 20} MiB")
    return json_object(data, f"the measurement {file}")


def command(measurement: Mapping[str, Any], name: str, file: Path, low: float) -> float:
    """A command clipped to [low, 1]; raises UserError if it is missing or invalid. Booleans count as 0 and 1."""
    if name not in measurement:
        raise UserError(f"the measurement {file} has no '{name}'")
    value = measurement[name]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the measurement {file}: {name} is {str(value)[:40]!r}, expected a finite number")
    if not low * MAX_COMMAND <= value <= MAX_COMMAND:
        raise UserError(f"the measurement {file}: {name} is {value:g}, outside [{low:g}, 1]")
    return min(max(float(value), low), 1.0)


def reading(value: Any) -> float:
    """`value` as a float; NaN if it is missing or not a number."""
    return float(value) if isinstance(value, int | float) else math.nan


def heading_of_compass(radians: float) -> float:
    """Heading from CARLA's x axis within [-pi, pi], of its compass angle (rad, 0 at north along -y, clockwise)."""
    return math.remainder(radians - math.pi / 2.0, math.tau) if math.isfinite(radians) else math.nan


def by_number(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of a folder whose names are numbers, sorted; raises UserError if two have the same number."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        stem, _, suffix = file.name.partition(".")
        if not stem.isdecimal() or f".{suffix.lower()}" not in suffixes:
            continue
        if int(stem) in found:
            raise UserError(f"{file} and {found[int(stem)].name} both have number {int(stem)}; remove one of them")
        found[int(stem)] = file
    return dict(sorted(found.items()))
