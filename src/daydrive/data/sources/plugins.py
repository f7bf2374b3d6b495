"""Sources of other packages, registered as entry points of the group `daydrive.sources`.

    [project.entry-points."daydrive.sources"]
    racer = "racer_drives:RacerSource"          dataset name = module:class

A package is imported only when its dataset is requested. Errors in its code are reported with the package's name.
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
from daydrive.errors import UserError, errors_attributed_to
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES, Drive, Frame

GROUP = "daydrive.sources"
REQUIRED = ("name", "needs_root", "split", "options", "describe", "drives")
COLUMNS = ("image", "action", "time", "drive", "frame")
"""Columns that every store has."""


class _InvalidSourceError(Exception):
    """A source violates the `Source` interface."""


def registered() -> dict[str, list[EntryPoint]]:
    """The entry points by dataset name, in alphabetical order, of the packages installed at the time of the call."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry not in found.setdefault(entry.name, []):
            found[entry.name].append(entry)
    return found


def load(entries: list[EntryPoint], built_in: Collection[str]) -> Source:
    """The source of the entry points of one name.

    built_in: names that are taken. Raises UserError if it is not the only source of its name, cannot be imported, or
    violates the `Source` interface.
    """
    entry, *others = entries
    if entry.name in built_in:
        raise UserError(
            f"the package '{_package(entry)}' registers a dataset '{entry.name}', which is a built-in dataset of "
            "daydrive; rename its entry point or uninstall it"
        )
    if others:
        raise UserError(
            f"the packages '{_package(entry)}' and '{_package(others[0])}' both register a dataset '{entry.name}'; "
            "uninstall one of them"
        )
    label = f"the dataset '{entry.name}' of the package '{_package(entry)}'"
    with _attributed(label):
        loaded = entry.load()
        source = loaded() if isinstance(loaded, type) else loaded
        missing = [name for name in REQUIRED if not hasattr(source, name)]
        if missing:
            raise _InvalidSourceError(f"{entry.value} is not a source, it has no '{missing[0]}'")
        if source.name != entry.name:
            raise _InvalidSourceError(f"{entry.value} has the name '{source.name}', which differs from its entry point")
        if source.split not in ("drive", "time"):
            raise _InvalidSourceError(f"its split is {source.split!r}, not 'drive' or 'time'")
        if not all(isinstance(option, Option) for option in source.options):
            raise _InvalidSourceError("its options have to be instances of daydrive.data.sources.Option")
    return Plugin(label, source)


class Plugin:
    """Wraps a source of another package and validates what it returns. label: dataset and package, for messages."""

    def __init__(self, label: str, source: Source) -> None:
        self.label, self.source = label, source
        self.name, self.needs_root, self.options = source.name, bool(source.needs_root), tuple(source.options)
        self.split: Literal["drive", "time"] = source.split

    def describe(self, options: Options) -> dict[str, Any]:
        with _attributed(self.label):
            described = dict(self.source.describe(options))
            for name in ACTION_NAMES:
                if name not in described["actions"]:
                    raise _InvalidSourceError(f"describe() has no entry for the action '{name}'")
            for name in described["values"]:
                if name in COLUMNS:
                    raise _InvalidSourceError(f"describe() has a value '{name}', which is a column of every store")
        return described

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        with _attributed(self.label):
            drives = self.source.drives(root, options, image_size)
            if not drives:
                raise _InvalidSourceError("drives() returned no drives")
            seen: set[str] = set()
            for drive in drives:
                if drive.name in seen:
                    raise _InvalidSourceError(f"drives() returned two drives with the name '{drive.name}'")
                if drive.split not in (None, "train", "val", "test"):
                    raise _InvalidSourceError(
                        f"the drive '{drive.name}' has the split {drive.split!r}, not train, val or test"
                    )
                seen.add(drive.name)
        return [replace(drive, frames=_Frames(self.label, drive)) for drive in drives]


@dataclass(frozen=True)
class _Frames:
    """The frames of a drive, each validated."""

    label: str
    drive: Drive

    def __call__(self) -> Iterator[Frame]:
        with _attributed(self.label):
            for k, frame in enumerate(self.drive.frames()):
                where = f"frame {k} of the drive '{self.drive.name}'"
                action, image = np.asarray(frame.action), frame.image
                if action.shape != (4,) or not np.all((action >= ACTION_LOW - 1e-6) & (action <= ACTION_HIGH + 1e-6)):
                    raise _InvalidSourceError(
                        f"{where} has the action {action.tolist()}; steering is in [-1, 1], throttle and brake in "
                        "[0, 1], gear -1, 0 or 1"
                    )
                if not isinstance(image, bytes) and (image.dtype != np.uint8 or image.shape[2:] != (3,)):
                    raise _InvalidSourceError(
                        f"{where} has an image of {image.dtype} {image.shape}, not uint8 (H, W, 3)"
                    )
                yield frame


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


@contextmanager
def _attributed(label: str) -> Iterator[None]:
    """Converts errors to UserErrors that start with `label`; UserErrors of the source itself pass unchanged."""
    with errors_attributed_to(label):
        try:
            yield
        except _InvalidSourceError as error:
            raise UserError(f"{label} is broken: {error}") from error
