"""`meta/info.json` of a LeRobot dataset: its features, file paths and splits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.data.sources.files import inside, json_object, read_text
from daydrive.data.store.store import SPLITS
from daydrive.errors import UserError, did_you_mean

INFO = "meta/info.json"

_SPLIT_NAMES = {"validation": "val", "valid": "val"}
_FIELD = re.compile(r"\{(\w+)(?::0(\d)d)?\}")
_NUMBERS = ("float", "int", "uint", "bool")

POSITION = {"heading": ("heading",), "latitude": ("latitude", "hp_loc_latitude"),
            "longitude": ("longitude", "hp_loc_longitude")}  # fmt: skip
"""Names of the elements with the car's position, by value."""

ELEMENTS = {
    "steering": ("steering", "steering_angle_normalized"),
    "throttle": ("throttle", "gas_pedal_normalized"),
    "brake": ("brake", "brake_pedal_normalized"),
    "gear": ("gear",),
    "speed": ("speed",),
    **POSITION,
}
"""Names of the elements that are mapped without an option, by quantity; those of L2D are the second ones."""


class Component(NamedTuple):
    """Element `element` of the vector in the column `feature`."""

    feature: str
    element: int


@dataclass(frozen=True)
class Feature:
    """A column of a dataset. dtype: 'video', 'image' or that of its numbers. names: of its elements, may be empty."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    depth: bool


@dataclass(frozen=True)
class Info:
    """version: 2 or 3. fps: frames per second. splits: range of episodes, such as '0:50', by name."""

    root: Path
    version: int
    fps: float
    features: Mapping[str, Feature]
    data_path: str
    video_path: str
    chunks_size: int
    splits: Mapping[str, str]

    @classmethod
    def read(cls, root: Path) -> Info:
        file = root / INFO
        if not file.is_file():
            raise UserError(f"{root} is not a LeRobot dataset: it has no {INFO}")
        found = json_object(read_text(file, root), str(file))
        version = re.match(r"v?([23])\.\d", str(found.get("codebase_version")))
        if version is None:
            raise UserError(
                f"{file}: codebase_version is {found.get('codebase_version')!r}; supported versions: 2 and 3"
            )
        features = found.get("features")
        if not isinstance(features, dict):
            raise UserError(f"{file}: it has no features, which describe the columns")
        splits = found.get("splits") or {}
        if not isinstance(splits, dict):
            raise UserError(f"{file}: splits is {splits!r:.40}, expected an object of episode ranges by name")
        return cls(
            root,
            int(version[1]),
            _positive(found, "fps", file),
            {str(name): _feature(str(name), feature, file) for name, feature in features.items()},
            _text(found, "data_path", file),
            str(found.get("video_path") or ""),
            int(_positive(found, "chunks_size", file)) if version[1] == "2" else 1,
            {str(name): str(text) for name, text in splits.items()},
        )

    @property
    def file(self) -> Path:
        return self.root / INFO

    @property
    def cameras(self) -> list[str]:
        return [f.name for f in self.features.values() if f.dtype in ("video", "image") and not f.depth]

    def camera(self, given: str | None) -> Feature:
        """The camera with this name, or whose last name component it is. The default is the first one that looks ahead
        by its name, such as `front_left`, otherwise the first one."""
        if not self.cameras:
            raise UserError(f"{self.file}: it has no camera (a feature of dtype video or image)")
        if given is None:
            ahead = [name for name in self.cameras if name.rsplit(".", 1)[-1].startswith("front")]
            return self.features[(ahead or self.cameras)[0]]
        same = [name for name in self.cameras if given in (name, name.rsplit(".", 1)[-1])]
        if not same:
            raise UserError(
                f"--camera {given}: there is no such camera in {self.file}{did_you_mean(given, self.cameras)}"
            )
        return self.features[given if given in same else same[0]]

    @cached_property
    def components(self) -> dict[str, Component]:
        """All numeric elements by name: `action.0`, `action.steering`, or `speed` for a column with one element."""
        found: dict[str, Component] = {}
        for feature in self.features.values():
            if not feature.dtype.startswith(_NUMBERS) or len(feature.shape) != 1:
                continue
            if feature.shape == (1,):
                found[feature.name] = Component(feature.name, 0)
            for element, name in enumerate(feature.names):
                found[f"{feature.name}.{name}"] = Component(feature.name, element)
            for element in range(feature.shape[0] if feature.shape[0] > 1 else 0):
                found.setdefault(f"{feature.name}.{element}", Component(feature.name, element))
        return found

    def guessed(self) -> dict[str, str]:
        """The component of each quantity in `ELEMENTS`, by the last part of its name; `action` is preferred."""
        found: dict[str, str] = {}
        for quantity, names in ELEMENTS.items():
            same = [name for name in self.components if name.rsplit(".", 1)[-1].lower() in names]
            if same:
                found[quantity] = min(same, key=lambda name: (not name.startswith("action"), same.index(name)))
        return found

    def split_of(self, episodes: list[int]) -> list[str] | None:
        """The split of each episode; None unless the dataset has several known splits that cover all episodes."""
        ranges: dict[str, range] = {}
        for name, text in self.splits.items():
            match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
            known = _SPLIT_NAMES.get(name, name)
            if match is None or known not in SPLITS:
                return None
            ranges[known] = range(int(match[1]), int(match[2]))
        splits = [next((name for name, part in ranges.items() if episode in part), None) for episode in episodes]
        return [name for name in splits if name is not None] if len(ranges) > 1 and None not in splits else None

    def path(self, template: str, **fields: int | str) -> Path:
        """The file of a path template; raises UserError for an invalid template or a path outside the root."""

        def fill(match: re.Match[str]) -> str:
            if match[1] not in fields:
                raise UserError(f"{self.file}: the path '{template}' has the unknown field {{{match[1]}}}; "
                                f"known: {', '.join(fields)}")  # fmt: skip
            return f"{fields[match[1]]:0{match[2]}d}" if match[2] else str(fields[match[1]])

        name = _FIELD.sub(fill, template)
        if "{" in name or "}" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{self.file}: '{template}' is not a path below the dataset")
        return inside(self.root / name, self.root)


def _feature(name: str, found: Any, file: Path) -> Feature:
    shape = found.get("shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise UserError(f"{file}: the feature '{name}' has no shape")
    names = tuple(_element_names(found.get("names")))
    details = {**(found.get("video_info") or {}), **(found.get("info") or {})}
    depth = bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
    complete = len(shape) == 1 and len(names) == shape[0] and len(set(names)) == len(names)
    return Feature(name, str(found.get("dtype")), tuple(shape), names if complete else (), depth)


def _element_names(names: Any) -> list[str]:
    """Names of a vector's elements, given as a list, lists by heading, or indices by name."""
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, dict) and all(isinstance(index, int) for index in names.values()):
        return [str(name) for name in sorted(names, key=lambda name: names[name])]
    if isinstance(names, dict):
        return [str(name) for part in names.values() if isinstance(part, list) for name in part]
    return []


def _positive(found: dict[str, Any], name: str, file: Path) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{file}: {name} is {value!r:.40}, expected a positive number")
    return float(value)


def _text(found: dict[str, Any], name: str, file: Path) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise UserError(f"{file}: {name} is {value!r:.40}, expected a path template")
    return value
