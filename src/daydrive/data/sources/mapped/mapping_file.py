"""`mapping.yaml`: which columns of a table are which quantity, and where its images are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daydrive.data.sources.files import read_text
from daydrive.errors import UserError

FILE = "mapping.yaml"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeColumn(_Strict):
    """The time in seconds is scale · column - offset; the first frame of a video is at 0."""

    column: str
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    offset: Finite = 0.0


class Quantity(_Strict):
    """The value is scale · (column - offset), clipped to its range; without a scale, values out of it are rejected."""

    column: str
    scale: Finite | None = None
    offset: Finite = 0.0


class Mapping(_Strict):
    """table: file name. images: a folder of images or a video, relative to the table. image_column: column with the
    names of the images. image_time_scale: s per unit of the numbers that are their names. Without these, an image per
    row."""

    table: str
    images: str
    image_column: str | None = None
    image_time_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    time: TimeColumn | None = None
    steering: Quantity | None = None
    throttle: Quantity | None = None
    brake: Quantity | None = None
    gear: Quantity | None = None
    speed: Quantity | None = None

    def quantities(self) -> dict[str, Quantity]:
        """The mapped quantities by name."""
        names = ("steering", "throttle", "brake", "gear", "speed")
        return {name: found for name in names if (found := getattr(self, name)) is not None}

    def to_yaml(self, comments: list[str]) -> str:
        """The text of the file, without empty keys, with comments on top."""
        values: dict[str, Any] = self.model_dump(exclude_none=True)
        for part in values.values():
            if isinstance(part, dict) and part.get("offset") == 0.0:
                del part["offset"]
        return "".join(f"# {line}\n" for line in comments) + yaml.safe_dump(values, sort_keys=False)


def read_mapping(file: Path, root: Path) -> Mapping:
    """The mapping in a file; raises UserError that names the key."""
    try:
        found = yaml.safe_load(read_text(file, root))
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML ({str(error).splitlines()[0]})") from error
    try:
        mapping = Mapping.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"].rstrip(".!")
        raise UserError(f"{file}: {key or 'the file'}: {reason}") from error
    for key in ("table", "images"):
        name = getattr(mapping, key)
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{file}: {key}: '{name}' is not a path below the folder")
    if not mapping.quantities().keys() - {"speed"}:
        raise UserError(f"{file}: there is no action; map steering, throttle or brake to a column")
    for name, quantity in mapping.quantities().items():
        if quantity.scale == 0.0:
            raise UserError(f"{file}: {name}.scale: must not be 0")
    return mapping
