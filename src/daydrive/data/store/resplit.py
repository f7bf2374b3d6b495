"""Changing the splits of a store: only `store.json` is rewritten."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.data.prepare.split import by_share, by_time
from daydrive.data.store.store import METADATA_FILE, SPLITS, UNUSED, Store, write_metadata
from daydrive.errors import UserError, did_you_mean
from daydrive.files import atomic_replace, check_folder, created_parents
from daydrive.locations import is_remote
from daydrive.workspace import exclusive_lock

METHODS = ("drive", "time")


class _Drive(NamedTuple):
    """A drive of the original preparation. entry: of `store.json`. group: drives of the same group stay together."""

    entry: dict[str, Any]
    group: str

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def frames(self) -> int:
        return int(self.entry["frames"])

    def segment(self, split: str, start: int, stop: int, name: str) -> dict[str, Any]:
        """The entry of frames [start, stop), with a reference to the whole drive."""
        origin = {"part_of": self.name, "group": self.group} if stop - start < self.frames else {}
        rows = {"name": name, "split": split, "start": int(self.entry["start"]) + start, "frames": stop - start}
        return {**self.entry, **rows, **origin}


def resplit(
    source: str | Path, by: str, *, seed: int = 0, val: float = 0.1, test: float = 0.1, output: Path | None = None
) -> Store:
    """Assign new splits, in place or, with `output`, in a new store that shares the files of the table.

    source: path of the store. by: 'drive' assigns whole groups of drives, shuffled by `seed`; 'time' cuts every group
    into contiguous segments with a gap between them. val, test: their shares of the frames; the rest is for training.
    Segments of an earlier call are joined first. The change is atomic. Raises UserError if it is not possible.
    """
    if by not in METHODS:
        raise UserError(f"--by {by}: drives are split by 'drive' or by 'time'{did_you_mean(by, METHODS)}")
    for name, share in (("val", val), ("test", test)):
        if not 0.0 <= share < 1.0:
            raise UserError(f"--{name} {share:g}: the share of a split must be at least 0 and below 1")
    if val + test >= 1.0:
        raise UserError(f"--val {val:g} and --test {test:g} leave nothing for training")
    if seed < 0:
        raise UserError(f"--seed must be at least 0, not {seed}")
    store = Store.open(source)
    path = store.path
    store.require_single_store("has no splits of its own; split each member and merge them again")
    if output is not None and is_remote(path):
        raise UserError(f"{path}: a store on an object store can only be split in place, without --output")
    drives = _original_drives(store.metadata["drives"])
    entries = _by_drive(path, drives, seed, val, test) if by == "drive" else _by_time(drives, store.hz, val, test)
    for name, share in (("train", 1.0), ("val", val), ("test", test)):
        if share and not any(entry["split"] == name for entry in entries):
            raise UserError(
                f"{path}: the drives are too short to be cut, no frames are left for {name}; use --by drive"
            )
    content = store.metadata.get("content_fingerprint", store.fingerprint)
    identity = json.dumps([content, [[e["name"], e["split"], e["start"], e["frames"]] for e in entries]])
    metadata = {
        **store.metadata,
        "split": {"by": by, "val": val, "test": test, **({"seed": seed} if by == "drive" else {})},
        "content_fingerprint": content,
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "drives": entries,
    }
    if output is None:
        with exclusive_lock(path, lambda holder: f"{holder} is splitting {path} at this moment"):
            write_metadata(path, metadata)
        return Store.open(path)
    _copy(path, Path(output), metadata)
    return Store.open(output)


def _original_drives(entries: list[dict[str, Any]]) -> list[_Drive]:
    """Join segments to the drives as they were prepared, in the order of their rows."""
    found = []
    ordered = sorted(entries, key=lambda entry: int(entry["start"]))
    for _, group in groupby(enumerate(ordered), key=lambda item: item[1].get("part_of", item[0])):
        segments = [entry for _, entry in group]
        first = {key: value for key, value in segments[0].items() if key not in ("split", "part_of")}
        name = segments[0].get("part_of", segments[0]["name"])
        whole = {**first, "name": name, "frames": sum(int(segment["frames"]) for segment in segments)}
        found.append(_Drive(whole, str(segments[0].get("group") or _recording(whole["name"]))))
    return found


def _recording(name: str) -> str:
    """The recording of a drive without a group: segments cut by time have their split as a suffix of the name."""
    recording, _, last = name.rpartition(".")
    return recording if last in SPLITS and recording else name


def _by_drive(path: Path, drives: list[_Drive], seed: int, val: float, test: float) -> list[dict[str, Any]]:
    sizes: dict[str, int] = defaultdict(int)
    for drive in drives:
        sizes[drive.group] += drive.frames
    try:
        splits = dict(zip(sizes, by_share(list(sizes.values()), seed, val, test), strict=True))
    except ValueError:
        needed = 1 + (val > 0) + (test > 0)
        raise UserError(
            f"{path} has {len(sizes)} independent drives, too few for {needed} splits; use --by time to cut them"
        ) from None
    return [drive.segment(splits[drive.group], 0, drive.frames, drive.name) for drive in drives]


def _by_time(drives: list[_Drive], hz: float, val: float, test: float) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for k, drive in enumerate(drives):
        groups[drive.group].append(k)
    cuts: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for members in groups.values():
        for segment in by_time([drives[k].frames for k in members], hz, 1.0 - val - test, val):
            cuts[members[segment.drive]].append((segment.start, segment.stop, segment.split))
    entries = []
    for k, drive in enumerate(drives):
        position, gaps = 0, 0
        for start, stop, split in [*cuts[k], (drive.frames, drive.frames, "")]:
            if start > position:
                entries.append(drive.segment(UNUSED, position, start, f"{drive.name}.{UNUSED}{gaps or ''}"))
                gaps += 1
            if stop > start:
                whole = stop - start == drive.frames
                entries.append(drive.segment(split, start, stop, drive.name if whole else f"{drive.name}.{split}"))
            position = stop
    return entries


def _copy(path: Path, target: Path, metadata: dict[str, Any]) -> None:
    """Create a store at `target` with the files of the one at `path`, hard-linked if the file system supports it."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UserError(f"the output {target} already exists; choose another, or none to split in place")
    check_folder(target.parent, "folder of --output")
    with created_parents(target), atomic_replace(target) as temporary:
        shutil.copytree(path, temporary, copy_function=_link, ignore=shutil.ignore_patterns(METADATA_FILE))
        write_metadata(temporary, metadata)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or no support for links
        shutil.copy2(source, target)


def split_counts(store: Store) -> list[tuple[str, int, int]]:
    """The number of drives and frames of each split: (name, drives, frames)."""
    by_split = {name: store.drives.of_split(name) for name in (*SPLITS, UNUSED)}
    return [
        (name, len(drives), int(store.drives.frames[drives].sum()))
        for name, drives in by_split.items()
        if len(drives) or name != UNUSED
    ]
