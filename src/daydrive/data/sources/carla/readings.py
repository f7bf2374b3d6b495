"""What a layout of CARLA recordings reads, and measurements in JSON files, checked and bounded."""

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
    "picture": "number of the picture in its folder",
}

LARGEST_JSON = 64 << 20
"""bytes of a measurement after unpacking; Bench2Drive's have up to a few million"""

SLACK = 1.5
"""commands up to this size are clipped to 1, as CARLA does; beyond it they are something else"""


class Readings(NamedTuple):
    """actions (N, 4) in the range of `Frame.action`, each up to the next frame; values (N, 5), columns of `VALUES`."""

    actions: Array
    values: Array


class Recording(Protocol):
    """One uninterrupted route; picklable.

    folder: where it lies. layout: its name, for the user. group: recordings of one group show the same road. town: of
    the map, where it is known.
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
        """(N,) s of the pictures, increasing. UserError where pictures and measurements don't belong together."""
        ...

    def read(self) -> Readings:
        """Of all N pictures; UserError naming the file for what is missing, no number or out of range."""
        ...

    def image_reader(self, size: tuple[int, int]) -> Callable[[int], Image | bytes]:
        """What reads the picture of this place, from 0; `size` (H, W) as in `images.read_image`."""
        ...


def read_json_object(file: Path, root: Path) -> dict[str, Any]:
    """The object in a .json or .json.gz file below `root`; UserError for anything else, and for more than
    `LARGEST_JSON` bytes of it."""
    path = inside(file, root)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_JSON + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the measurement {file} cannot be read ({reason})") from error
    if len(data) > LARGEST_JSON:
        raise UserError(f"the measurement {file} holds more than {LARGEST_JSON >> 20} MiB, which is no measurement")
    return json_object(data, f"the measurement {file}")


def command(measured: Mapping[str, Any], name: str, file: Path, low: float) -> float:
    """A command within [low, 1]; UserError where it is absent or something else. Booleans count as 0 and 1."""
    if name not in measured:
        raise UserError(f"the measurement {file} has no '{name}'")
    value = measured[name]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the measurement {file}: {name} is {str(value)[:40]!r} where a finite number belongs")
    if not low * SLACK <= value <= SLACK:
        raise UserError(f"the measurement {file}: {name} is {value:g}, outside [{low:g}, 1]")
    return min(max(float(value), low), 1.0)


def reading(value: Any) -> float:
    """A number that may be missing: NaN for None and for what is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def heading_of_compass(radians: float) -> float:
    """CARLA's compass, 0 to the north (along -y) and clockwise, as a heading from its x axis within [-pi, pi]."""
    return math.remainder(radians - math.pi / 2.0, math.tau) if math.isfinite(radians) else math.nan


def by_number(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of a folder whose names are numbers, in the order of these; UserError where two have the same."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        stem, _, suffix = file.name.partition(".")
        if not stem.isdecimal() or f".{suffix.lower()}" not in suffixes:
            continue
        if int(stem) in found:
            raise UserError(f"{file} and {found[int(stem)].name} are both number {int(stem)}; remove one of them")
        found[int(stem)] = file
    return dict(sorted(found.items()))
