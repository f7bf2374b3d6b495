"""Sources of other packages, by the entry points of the group `daydrive.sources`.

    [project.entry-points."daydrive.sources"]
    racer = "racer_drives:RacerSource"          the dataset's name = module:class

Nothing is imported before a dataset is asked for; what is wrong with it is said in a sentence that names its package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np

from daydrive.data.sources.base import Option, Options, Source
from daydrive.errors import UserError, blamed
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES, Drive, Frame

GROUP = "daydrive.sources"
NEEDED = ("name", "needs_root", "split", "options", "describe", "drives")
COLUMNS = ("image", "action", "time", "drive", "frame")
"""that every store has"""


class _BrokenError(Exception):
    """A source is not what `Source` promises."""


def registered() -> dict[str, list[EntryPoint]]:
    """The entry points by the name of their dataset, in order; looks through what is installed at each call."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry not in found.setdefault(entry.name, []):
            found[entry.name].append(entry)
    return found


def load(entries: list[EntryPoint], built_in: Collection[str]) -> Source:
    """The source behind the entry points of one name; UserError where it can't be had or isn't the only one."""
    entry, *others = entries
    if entry.name in built_in:
        raise UserError(
            f"the package '{_package(entry)}' registers a dataset '{entry.name}', and daydrive has one of that name; "
            "rename its entry point or uninstall it"
        )
    if others:
        raise UserError(
            f"the packages '{_package(entry)}' and '{_package(others[0])}' both register a dataset '{entry.name}'; "
            "uninstall one of them"
        )
    who = f"the dataset '{entry.name}' of the package '{_package(entry)}'"
    with _blamed(who):
        loaded = entry.load()
        source = loaded() if isinstance(loaded, type) else loaded
        missing = [name for name in NEEDED if not hasattr(source, name)]
        if missing:
            raise _BrokenError(f"{entry.value} is no source, it has no '{missing[0]}'")
        if source.name != entry.name:
            raise _BrokenError(f"{entry.value} calls itself '{source.name}'; entry point and name have to be the same")
        if source.split not in ("drive", "time"):
            raise _BrokenError(f"its split is {source.split!r}, not 'drive' or 'time'")
        if not all(isinstance(option, Option) for option in source.options):
            raise _BrokenError("its options have to be daydrive.data.sources.Option")
    return Plugin(who, source)


class Plugin:
    """A source whose faults are told as its package's. who: the dataset and its package, for the sentence."""

    def __init__(self, who: str, source: Source) -> None:
        self.who, self.source = who, source
        self.name, self.needs_root, self.options = source.name, bool(source.needs_root), tuple(source.options)
        self.split: Literal["drive", "time"] = source.split

    def describe(self, options: Options) -> dict[str, Any]:
        with _blamed(self.who):
            described = dict(self.source.describe(options))
            for name in ACTION_NAMES:
                if name not in described["actions"]:
                    raise _BrokenError(f"describe() does not say how '{name}' was recorded")
            for name in described["values"]:
                if name in COLUMNS:
                    raise _BrokenError(f"describe() has a value '{name}', a column that every store has")
        return described

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        with _blamed(self.who):
            drives = self.source.drives(root, options, image_size)
            if not drives:
                raise _BrokenError("drives() found none")
            seen: set[str] = set()
            for drive in drives:
                if drive.name in seen:
                    raise _BrokenError(f"drives() has two of the name '{drive.name}'")
                if drive.split not in (None, "train", "val", "test"):
                    raise _BrokenError(
                        f"the drive '{drive.name}' has the split {drive.split!r}, not train, val or test"
                    )
                seen.add(drive.name)
        return [replace(drive, frames=_Frames(self.who, drive)) for drive in drives]


@dataclass(frozen=True)
class _Frames:
    """The frames of a drive, each looked at."""

    who: str
    drive: Drive

    def __call__(self) -> Iterator[Frame]:
        with _blamed(self.who):
            for k, frame in enumerate(self.drive.frames()):
                where = f"frame {k} of the drive '{self.drive.name}'"
                action, image = np.asarray(frame.action), frame.image
                if action.shape != (4,) or not np.all((action >= ACTION_LOW - 1e-6) & (action <= ACTION_HIGH + 1e-6)):
                    raise _BrokenError(
                        f"{where} has the action {action.tolist()}; steering is in [-1, 1], throttle and brake in "
                        "[0, 1], gear -1, 0 or 1"
                    )
                if not isinstance(image, bytes) and (image.dtype != np.uint8 or image.shape[2:] != (3,)):
                    raise _BrokenError(f"{where} has a picture of {image.dtype} {image.shape}, not of uint8 (H, W, 3)")
                yield frame


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


@contextmanager
def _blamed(who: str) -> Iterator[None]:
    """What goes wrong becomes a sentence that begins with `who`; what a source itself says of its data stays."""
    with blamed(who):
        try:
            yield
        except _BrokenError as fault:
            raise UserError(f"{who} is broken: {fault}") from fault
