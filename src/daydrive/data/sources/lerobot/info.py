"""`meta/info.json`: what a dataset holds, and where."""

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
from daydrive.types import ACTION_NAMES

INFO = "meta/info.json"

_SPLIT_NAMES = {"validation": "val", "valid": "val"}
_FIELD = re.compile(r"\{(\w+)(?::0(\d)d)?\}")
_NUMBERS = ("float", "int", "uint", "bool")


class Component(NamedTuple):
    """Number `place` of the vector in the column `feature`."""

    feature: str
    place: int


@dataclass(frozen=True)
class Feature:
    """A column of a dataset: `dtype` 'video', 'image' or that of its numbers; names of its numbers where it has any."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    depth: bool


@dataclass(frozen=True)
class Info:
    """version: 2 or 3. fps: frames a second. splits: name → text of a range of episodes."""

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
            raise UserError(f"{root} is not a dataset of LeRobot: it has no {INFO}")
        found = json_object(read_text(file, root), str(file))
        version = re.match(r"v?([23])\.\d", str(found.get("codebase_version")))
        if version is None:
            raise UserError(f"{file}: codebase_version is {found.get('codebase_version')!r}; versions 2 and 3 are read")
        features = found.get("features")
        if not isinstance(features, dict):
            raise UserError(f"{file}: it has no features, which name the columns")
        splits = found.get("splits") or {}
        if not isinstance(splits, dict):
            raise UserError(f"{file}: splits is {splits!r:.40}, not names with ranges of episodes")
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
        """The camera of this name, of which its last part is enough; the first one by default."""
        if not self.cameras:
            raise UserError(f"{self.file}: no feature of it is a camera (dtype video or image)")
        same = [name for name in self.cameras if given is None or name == given or name.rsplit(".", 1)[-1] == given]
        if not same:
            raise UserError(
                f"--camera {given}: there is no such camera in {self.file}{did_you_mean(str(given), self.cameras)}"
            )
        return self.features[given if given in same else same[0]]

    @cached_property
    def components(self) -> dict[str, Component]:
        """All numbers by name: `action.0`, `action.steering`, and `speed` for a column of one."""
        found: dict[str, Component] = {}
        for feature in self.features.values():
            if not feature.dtype.startswith(_NUMBERS) or len(feature.shape) != 1:
                continue
            if feature.shape == (1,):
                found[feature.name] = Component(feature.name, 0)
            for place, name in enumerate(feature.names):
                found[f"{feature.name}.{name}"] = Component(feature.name, place)
            for place in range(feature.shape[0] if feature.shape[0] > 1 else 0):
                found.setdefault(f"{feature.name}.{place}", Component(feature.name, place))
        return found

    def guessed(self) -> dict[str, str]:
        """Which component holds an action or the speed, told from the last part of its name; `action` comes first."""
        found: dict[str, str] = {}
        for quantity in (*ACTION_NAMES, "speed"):
            same = [name for name in self.components if name.rsplit(".", 1)[-1].lower() == quantity]
            if same:
                found[quantity] = min(same, key=lambda name: (not name.startswith("action"), same.index(name)))
        return found

    def split_of(self, episodes: list[int]) -> list[str] | None:
        """The split of each episode where the dataset has several that are known and leave none out."""
        ranges: dict[str, range] = {}
        for name, text in self.splits.items():
            match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
            known = _SPLIT_NAMES.get(name, name)
            if match is None or known not in SPLITS:
                return None
            ranges[known] = range(int(match[1]), int(match[2]))
        drawn = [next((name for name, part in ranges.items() if episode in part), None) for episode in episodes]
        return [name for name in drawn if name is not None] if len(ranges) > 1 and None not in drawn else None

    def path(self, template: str, **fields: int | str) -> Path:
        """A file of the dataset by its template, never outside the root."""

        def fill(match: re.Match[str]) -> str:
            if match[1] not in fields:
                raise UserError(f"{self.file}: the path '{template}' has a field {{{match[1]}}}, which is not known; "
                                f"known: {', '.join(fields)}")  # fmt: skip
            return f"{fields[match[1]]:0{match[2]}d}" if match[2] else str(fields[match[1]])

        name = _FIELD.sub(fill, template)
        if "{" in name or "}" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{self.file}: '{template}' is no path of a file below the dataset")
        return inside(self.root / name, self.root)


def _feature(name: str, found: Any, file: Path) -> Feature:
    shape = found.get("shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise UserError(f"{file}: the feature '{name}' has no shape")
    names = tuple(_flat(found.get("names")))
    more = {**(found.get("video_info") or {}), **(found.get("info") or {})}
    depth = bool(more.get("is_depth_map") or more.get("video.is_depth_map"))
    whole = len(shape) == 1 and len(names) == shape[0] and len(set(names)) == len(names)
    return Feature(name, str(found.get("dtype")), tuple(shape), names if whole else (), depth)


def _flat(names: Any) -> list[str]:
    """Names of a vector's numbers: a list, lists below a heading, or names with places."""
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, dict) and all(isinstance(place, int) for place in names.values()):
        return [str(name) for name in sorted(names, key=lambda name: names[name])]
    if isinstance(names, dict):
        return [str(name) for part in names.values() if isinstance(part, list) for name in part]
    return []


def _positive(found: dict[str, Any], name: str, file: Path) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{file}: {name} is {value!r:.40} where a positive number belongs")
    return float(value)


def _text(found: dict[str, Any], name: str, file: Path) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise UserError(f"{file}: {name} is {value!r:.40} where the template of a path belongs")
    return value
