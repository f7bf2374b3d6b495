"""Other splits for a store whose pictures stay where they are: only `store.json` is written."""

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

WAYS = ("drive", "time")


class _Drive(NamedTuple):
    """Rows [start, start + frames); group: those of one show the same places. entry: what `store.json` says of it."""

    entry: dict[str, Any]
    group: str

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def frames(self) -> int:
        return int(self.entry["frames"])

    def piece(self, split: str, start: int, stop: int, name: str) -> dict[str, Any]:
        """The entry of a part of it, which remembers what it is a part of."""
        origin = {"part_of": self.name, "group": self.group} if stop - start < self.frames else {}
        place = {"name": name, "split": split, "start": int(self.entry["start"]) + start, "frames": stop - start}
        return {**self.entry, **place, **origin}


def resplit(
    place: str | Path, by: str, *, seed: int = 0, val: float = 0.1, test: float = 0.1, output: Path | None = None
) -> Store:
    """The store with new splits, at its place or, with `output`, as another one that shares the table's files.

    by: 'drive', whole groups of drives shuffled by `seed`; or 'time', every group cut into contiguous parts with a gap
    between them. val, test: their shares of the frames, the rest is for training. Parts that an earlier call made are
    joined first. Another process sees the old splits or the new ones. UserError where that can't be done.
    """
    if by not in WAYS:
        raise UserError(f"--by {by}: drives are split by 'drive' or by 'time'{did_you_mean(by, WAYS)}")
    for name, share in (("val", val), ("test", test)):
        if not 0.0 <= share < 1.0:
            raise UserError(f"--{name} {share:g}: the share of a split is at least 0 and below 1")
    if val + test >= 1.0:
        raise UserError(f"--val {val:g} and --test {test:g} leave nothing for training")
    if seed < 0:
        raise UserError(f"--seed has to be at least 0, not {seed}")
    store = Store.open(place)
    path = store.path
    store.refuse_mix("has no splits of its own; split each of them and merge them again")
    if output is not None and is_remote(path):
        raise UserError(f"{path}: a store on an object store is split in place, without --output")
    drives = _whole(store.metadata["drives"])
    entries = _by_drive(path, drives, seed, val, test) if by == "drive" else _by_time(drives, store.hz, val, test)
    for name, share in (("train", 1.0), ("val", val), ("test", test)):
        if share and not any(entry["split"] == name for entry in entries):
            raise UserError(f"{path}: the drives are too short to be cut, nothing is left for {name}; split --by drive")
    content = store.metadata.get("content_fingerprint", store.fingerprint)
    told = json.dumps([content, [[e["name"], e["split"], e["start"], e["frames"]] for e in entries]])
    metadata = {
        **store.metadata,
        "split": {"by": by, "val": val, "test": test, **({"seed": seed} if by == "drive" else {})},
        "content_fingerprint": content,
        "fingerprint": hashlib.sha256(told.encode()).hexdigest()[:32],
        "drives": entries,
    }
    if output is None:
        with exclusive_lock(path, lambda holder: f"{holder} is splitting {path} at this moment"):
            write_metadata(path, metadata)
        return Store.open(path)
    _copy(path, Path(output), metadata)
    return Store.open(output)


def _whole(entries: list[dict[str, Any]]) -> list[_Drive]:
    """The drives as they were prepared, in the order of their rows."""
    found = []
    ordered = sorted(entries, key=lambda entry: int(entry["start"]))
    for _, group in groupby(enumerate(ordered), key=lambda item: item[1].get("part_of", item[0])):
        parts = [entry for _, entry in group]
        first = {key: value for key, value in parts[0].items() if key not in ("split", "part_of")}
        name = parts[0].get("part_of", parts[0]["name"])
        whole = {**first, "name": name, "frames": sum(int(part["frames"]) for part in parts)}
        found.append(_Drive(whole, str(parts[0].get("group") or _recording(whole["name"]))))
    return found


def _recording(name: str) -> str:
    """What a drive is a part of in a store that doesn't say: one that was cut in time has its split in its name."""
    recording, _, last = name.rpartition(".")
    return recording if last in SPLITS and recording else name


def _by_drive(path: Path, drives: list[_Drive], seed: int, val: float, test: float) -> list[dict[str, Any]]:
    sizes: dict[str, int] = defaultdict(int)
    for drive in drives:
        sizes[drive.group] += drive.frames
    try:
        splits = dict(zip(sizes, by_share(list(sizes.values()), seed, val, test), strict=True))
    except ValueError:
        wanted = 1 + (val > 0) + (test > 0)
        raise UserError(
            f"{path} has {len(sizes)} drives that don't belong together, too few for {wanted} splits; "
            "--by time cuts them"
        ) from None
    return [drive.piece(splits[drive.group], 0, drive.frames, drive.name) for drive in drives]


def _by_time(drives: list[_Drive], hz: float, val: float, test: float) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for k, drive in enumerate(drives):
        groups[drive.group].append(k)
    cuts: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for members in groups.values():
        for part in by_time([drives[k].frames for k in members], hz, 1.0 - val - test, val):
            cuts[members[part.drive]].append((part.start, part.stop, part.split))
    entries = []
    for k, drive in enumerate(drives):
        at, holes = 0, 0
        for start, stop, split in [*cuts[k], (drive.frames, drive.frames, "")]:
            if start > at:
                entries.append(drive.piece(UNUSED, at, start, f"{drive.name}.{UNUSED}{holes or ''}"))
                holes += 1
            if stop > start:
                whole = stop - start == drive.frames
                entries.append(drive.piece(split, start, stop, drive.name if whole else f"{drive.name}.{split}"))
            at = stop
    return entries


def _copy(path: Path, target: Path, metadata: dict[str, Any]) -> None:
    """A store at `target` with the files of the one at `path`, linked where the file system can."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UserError(f"the output {target} is there already; give one that is not, or none to split in place")
    check_folder(target.parent, "folder of --output")
    with created_parents(target), atomic_replace(target) as temporary:
        shutil.copytree(path, temporary, copy_function=_link, ignore=shutil.ignore_patterns(METADATA_FILE))
        write_metadata(temporary, metadata)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def table_of_splits(store: Store) -> list[tuple[str, int, int]]:
    """Each split that the store has with its drives and frames."""
    places = {name: store.drives.of_split(name) for name in (*SPLITS, UNUSED)}
    return [
        (name, len(drives), int(store.drives.frames[drives].sum()))
        for name, drives in places.items()
        if len(drives) or name != UNUSED
    ]
